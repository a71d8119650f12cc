"""A curve D(t) as the memory of a VM, held to the pages that it is of, and forecasts by it."""

import numpy as np
import pytest
from forecasts import BANDWIDTH, LIMIT_S, PAGE_S, PAGES, WINDOWS_S, check_sense, curve_of, foresee
from hypothesis import given
from hypothesis import strategies as st
from recordings import record, uniform

from mempattern.curve import DirtyCurve
from mempattern.migration.expected import ExpectedMemory
from mempattern.migration.precopy import Host, precopy
from mempattern.migration.replayed import ReplayedMemory


@pytest.mark.parametrize("writes", [0.0, 0.3, 0.6, 0.9, 1.5, 3.0])
@pytest.mark.parametrize("chunk_pages", [0, 1 << 18])
def test_a_curve_is_as_good_as_its_pages(writes, chunk_pages):
    """`writes` times as many as pages can be sent."""
    per_s = writes / PAGE_S
    expected = precopy(
        ExpectedMemory(curve_of(per_s), PAGES, chunk_pages=chunk_pages),
        BANDWIDTH, LIMIT_S, patience_s=20,
    )  # fmt: skip
    courses = []
    for seed in range(4):
        recording = record(uniform(PAGES, 200, per_s * 0.1, seed))
        memory = ReplayedMemory(recording, recording.starts_s, chunk_pages=chunk_pages)
        courses.append(precopy(memory, BANDWIDTH, LIMIT_S, patience_s=20, seed=seed))
    assert [course.converged for course in courses] == [expected.converged] * 4
    for figure in ("total_s", "sent_bytes"):
        replayed = np.mean([getattr(course, figure) for course in courses])
        assert getattr(expected, figure) == pytest.approx(replayed, rel=0.1)
    after_the_bulk = np.mean([course.passes[1].pending_pages for course in courses])
    assert expected.passes[1].pending_pages == pytest.approx(after_the_bulk, rel=0.1)
    if not expected.converged:
        settled = [np.mean([p.pending_pages for p in c.passes[-4:-1]]) for c in courses]
        wanted = np.mean([p.pending_pages for p in expected.passes[-4:-1]])
        assert wanted == pytest.approx(np.mean(settled), rel=0.1)


def test_a_curve_of_an_idle_guest_by_hand():
    memory = ExpectedMemory(curve_of(0.0), PAGES, zero_pages=1000)
    course = precopy(memory, BANDWIDTH, LIMIT_S, host=Host(1e6, 0.0, 0.0, 0.0))
    assert course.converged
    assert course.sent_bytes == pytest.approx(3000 * 4104 + 1000 * 9)
    assert course.total_s == pytest.approx(3000 * PAGE_S + 1000 * 9 / BANDWIDTH)


@pytest.mark.parametrize(("zeros", "pages", "of_zeros"), [("evenly", 2000, 500), ("last", 1550, 0)])
def test_where_the_zero_pages_of_a_curve_lie(zeros, pages, of_zeros):
    """3000 pages of a second each, and 1000 of a tenth of one: half of all takes 1550 s."""
    memory = ExpectedMemory(curve_of(0.0), PAGES, zero_pages=1000, zeros=zeros)
    memory.start(0)
    sent = memory.send(1550.0, 1.0, 0.1)
    assert (sent.pages, sent.zero_pages) == (pytest.approx(pages), pytest.approx(of_zeros))
    assert memory.sync() == pytest.approx(PAGES - pages)
    assert memory.send(9999.0, 1.0, 0.1).duration_s == pytest.approx(1550)
    assert memory.pending_pages == 0


@pytest.mark.parametrize(("chunk_pages", "pages"), [(1024, 6.25), (1 << 18, 20.0), (0, 20.0)])
def test_a_chunk_of_a_curve_is_cleared_when_its_first_page_is_sent(chunk_pages, pages):
    """One page a second. Of four chunks the first one is begun after 10 s, the others after 15."""
    memory = ExpectedMemory(curve_of(1.0, 4096), 4096, chunk_pages=chunk_pages)
    memory.start(0)
    memory.run(10)
    assert memory.send(512, 1.0, 1.0).pages == pytest.approx(512)
    memory.run(5)
    assert memory.send(4096, 1.0, 1.0).pages == pytest.approx(4096 - 512)
    memory.run(5)
    assert memory.sync() == pytest.approx(pages, rel=0.02)


def test_the_spread_of_a_curve_is_the_forecasts():
    curve = curve_of(0.6 / PAGE_S)
    wide = DirtyCurve(WINDOWS_S, curve.pages, 0.1 * curve.pages, 100, PAGES)
    spread = []
    for of in (foresee(curve, n_pages=PAGES), foresee(wide, n_pages=PAGES)):
        check_sense(of)
        spread.append(of.stock.sent_bytes.high / of.stock.sent_bytes.low)
    assert spread[1] > 1.1 * spread[0]


@given(
    writes=st.floats(0, 5),
    steps=st.lists(st.floats(0, 2), max_size=12),
    n_zero=st.integers(0, PAGES),
    bound=st.sampled_from(["low", "pages", "high"]),
    zeros=st.sampled_from(["evenly", "last"]),
)
def test_expected_pages_are_between_none_and_all(writes, steps, n_zero, bound, zeros):
    memory = ExpectedMemory(curve_of(writes / PAGE_S), PAGES, n_zero, bound=bound, zeros=zeros)
    memory.start(0)
    for step in steps:
        before = memory.pending_pages
        sent = memory.send(step, PAGE_S, 1e-6)
        assert 0 <= sent.zero_pages <= sent.pages <= before + 1e-9
        assert sent.duration_s <= step + 1e-9
        memory.run(step)
        left = memory.pending_pages
        assert left - 1e-6 <= memory.sync() <= PAGES
    memory.start(1)
    assert memory.pending_pages == PAGES


def test_a_forecast_by_a_curve():
    of = foresee(curve_of(0.5 / PAGE_S), n_pages=PAGES, zero=500)
    check_sense(of)
    assert of.stock.converges is True
    assert of.phase is None
    never = foresee(curve_of(3 / PAGE_S), n_pages=PAGES)
    check_sense(never)
    assert never.stock.converges is False


def test_a_curve_observed_too_shortly():
    pages = -PAGES * np.expm1(-np.array([0.1, 0.2, 0.4, 0.8]))
    short = DirtyCurve([0.05, 0.1, 0.2, 0.4], pages, 1.0, 100, PAGES)
    (note,) = foresee(short, n_pages=PAGES).notes
    assert note.startswith("observed for 0.4 s, but a pass takes")
