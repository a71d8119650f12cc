"""Whole migrations of guests simple enough to compute by hand."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from migrations import (
    BANDWIDTH,
    LIMIT_PAGES,
    LIMIT_S,
    PAGE_S,
    PAGES,
    STEP_S,
    migrate,
)
from recordings import hot, idle, record, square_wave, sweep, uniform

from mempattern import errors
from mempattern.migration.precopy import Host, precopy
from mempattern.migration.replayed import ReplayedMemory


def test_an_idle_guest():
    course = migrate(idle(PAGES, 10))
    assert course.converged
    assert course.total_s == pytest.approx(PAGES * PAGE_S + 0.004)
    assert course.sent_bytes == PAGES * 4104
    assert course.throttled_s == 0
    # A sync at the start, one below the limit, one with the guest stopped: what QEMU reports, too.
    assert [p.number for p in course.passes] == [1, 2, 3]
    assert [p.fresh_pages for p in course.passes] == [0, 0, 0]
    first, second, third = course.passes
    assert (first.at_s, first.sent_bytes, first.pending_pages) == (0, 0, PAGES)
    assert LIMIT_PAGES - STEP_S / PAGE_S < second.pending_pages < LIMIT_PAGES
    assert third == dataclasses.replace(second, number=3)
    assert second.bandwidth_Bps == pytest.approx(BANDWIDTH)
    assert course.downtime_s == pytest.approx(third.pending_pages * PAGE_S + 0.004)


def test_what_the_link_holds_is_sent_at_once():
    course = migrate(idle(PAGES, 10), host=Host(buffer_s=0.02, switchover_s=0.004, setup_s=0.0))
    assert course.total_s == pytest.approx(PAGES * PAGE_S + 0.004 - 0.02)


@pytest.mark.parametrize("limit_s", [0.01, 0.1, 0.3, 1.0, 100.0])
def test_the_limit_is_kept(limit_s):
    """An idle guest is stopped with at most a step, or what the limit allows, to send."""
    course = migrate(idle(PAGES, 10), limit_s)
    assert course.downtime_s - 0.004 <= limit_s * 4104 / 4096
    assert course.downtime_s - 0.004 >= min(limit_s - 2 * STEP_S, PAGES * PAGE_S - 0.2)
    assert course.total_s == pytest.approx(PAGES * PAGE_S + 0.004)


def test_the_bandwidth_is_measured_first():
    """Whatever the limit, nothing is known of the bandwidth for a tenth of a second."""
    course = migrate(idle(PAGES, 10), limit_s=1e9)
    assert 0.1 <= course.passes[1].at_s < 0.1 + 2 * STEP_S
    assert len(course.passes) == 3


def test_a_step():
    """51 ms are 497.08 pages of 4104 bytes; half of the 64 pages between two looks at the clock
    makes it 529.08, and the page that is begun is sent: two steps until the bandwidth is known."""
    course = migrate(idle(PAGES, 10), limit_s=1e9)
    assert course.passes[1].sent_bytes == 2 * 530 * 4104
    assert course.passes[1].at_s == pytest.approx(2 * 530 * PAGE_S)


@pytest.mark.parametrize("order", ["first", "last", "middle"])
def test_zero_pages(order):
    """9 bytes each, and as long as it takes to find them."""
    zero = np.zeros(PAGES, bool)
    first = {"first": 0, "middle": PAGES // 4, "last": PAGES // 2}[order]
    zero[first : first + PAGES // 2] = True
    course = migrate(idle(PAGES, 10), zero=zero, host=Host(1e6, 0.0, 0.004, 0.0))
    assert course.sent_bytes == PAGES / 2 * (4104 + 9)
    assert course.total_s == pytest.approx(PAGES / 2 * (PAGE_S + 1e-6) + 0.004)


def test_zero_pages_of_a_slow_link():
    """Found sooner than 9 bytes are sent."""
    course = migrate(idle(PAGES, 10), zero=np.ones(PAGES, bool), host=Host(1e9, 0.0, 0.004, 0.0))
    assert course.total_s == pytest.approx(PAGES * 9 / BANDWIDTH + 0.004)


@pytest.mark.parametrize(("first", "saved_s"), [(PAGES // 4, 0.03), (PAGES // 2, 0.02)])
def test_the_link_drains_while_zero_pages_are_looked_for(first, saved_s):
    """10,000 zero pages of 1.225 us, of which 0.225 go into sending their 9 bytes."""
    zero = np.zeros(PAGES, bool)
    zero[first : first + PAGES // 2] = True
    host = Host(zero_pages_per_s=1 / 1.225e-6, buffer_s=0.02, switchover_s=0.004, setup_s=0.0)
    course = migrate(idle(PAGES, 10), zero=zero, host=host)
    all_s = PAGES / 2 * (PAGE_S + 1.225e-6) + 0.004
    assert course.total_s == pytest.approx(all_s - saved_s, abs=1e-9)


def test_a_zero_page_that_is_written_is_none():
    """It is written before it is its turn, and sent with what it holds by then."""
    rows = idle(PAGES, 40)
    rows[4, 15_000:18_000] = True
    zero = np.arange(PAGES) >= PAGES // 2
    course = migrate(rows, zero=zero, chunk_pages=1024)
    assert course.sent_bytes == (PAGES // 2 + 3000) * 4104 + (PAGES // 2 - 3000) * 9


@pytest.mark.parametrize("share", [0.5, 0.9, 0.95])
def test_a_hot_set_below_the_limit(share):
    """What is hot is sent once in the pause, and now and then before."""
    n_hot = int(share * LIMIT_PAGES)
    course = migrate(hot(PAGES, 40, n_hot), patience_s=30)
    assert course.converged
    last = course.passes[-1]
    assert n_hot * 0.97 <= last.pending_pages < LIMIT_PAGES
    assert course.downtime_s == pytest.approx(last.pending_pages * PAGE_S + 0.004)
    assert course.passes[1].pending_pages == course.passes[1].left_pages + n_hot


@pytest.mark.parametrize("share", [1.05, 1.5, 5.0])
@pytest.mark.parametrize("first", [0, 1000])
def test_a_hot_set_above_the_limit(share, first):
    """Each pass ends where it began: all of it is to be sent."""
    n_hot = int(share * LIMIT_PAGES)
    course = migrate(hot(PAGES, 40, n_hot, first), patience_s=20)
    assert not course.converged
    assert math.isnan(course.downtime_s)
    assert 20 <= course.total_s < 20 + STEP_S
    assert course.sent_bytes == pytest.approx(course.total_s * BANDWIDTH)
    for done in course.passes[4:]:
        assert done.pending_pages == pytest.approx(n_hot, rel=0.03)


@pytest.mark.parametrize("writes", [1.2, 1.5, 3.0])
@pytest.mark.parametrize("limit_s", [0.1, 0.3])
@pytest.mark.parametrize("chunk_pages", [0, 1 << 18])
def test_random_writes_end_in_their_fixed_point(writes, limit_s, chunk_pages):
    """`writes` times as many as pages can be sent, to any of W pages: what is pending after a pass
    is what it left, and of the others those that were written while it lasted.
    """
    per_s = writes / PAGE_S
    rows = uniform(PAGES, 100, per_s * 0.1)
    course = migrate(rows, limit_s, patience_s=60, chunk_pages=chunk_pages)
    left = BANDWIDTH * limit_s / 4096 - STEP_S / PAGE_S / 2
    pending = float(PAGES)
    for _ in range(1000):
        time_s = (pending - left) * PAGE_S
        pending = left + (PAGES - left) * -math.expm1(-per_s * time_s / PAGES)
    assert not course.converged
    settled = [done.pending_pages for done in course.passes[len(course.passes) // 2 :]]
    # A pass ends anywhere within the last step.
    most_off = 0.04 * pending + STEP_S / PAGE_S / 2
    assert np.mean(settled) == pytest.approx(pending, abs=most_off)


@pytest.mark.parametrize("speed", [0.3, 0.5, 0.8])
def test_a_sweep_slower_than_the_link(speed):
    """Each pass leaves `speed` times what it sent, down to what a step sends."""
    rows = sweep(PAGES, 100, round(speed / PAGE_S * 0.1))
    course = migrate(rows, start_s=0.0, patience_s=60)
    assert course.converged
    for before, after in zip(course.passes[1:-3], course.passes[2:-2], strict=True):
        time_s = after.at_s - before.at_s
        assert after.fresh_pages == pytest.approx(speed * time_s / PAGE_S, rel=0.02, abs=60)
        assert after.pending_pages < before.pending_pages
    # All but what the limit allows is sent in t, speed * t, speed**2 * t, ... seconds.
    series_s = (PAGES - LIMIT_PAGES) * PAGE_S / (1 - speed)
    assert course.total_s == pytest.approx(series_s + LIMIT_S, rel=0.06)


def test_a_sweep_faster_than_the_link():
    """It writes all of its pages again before they are sent."""
    course = migrate(sweep(PAGES, 100, round(1.5 / PAGE_S * 0.1), n_swept=5000), patience_s=20)
    assert not course.converged
    for done in course.passes[3:]:
        assert LIMIT_PAGES < done.pending_pages <= 5000


def test_a_guest_that_pauses_is_stopped_there():
    """Two seconds hot, two idle: it converges in the first idle time after the bulk."""
    rows = square_wave(PAGES, 160, half_period=20, n_hot=6000)
    course = migrate(rows, start_s=0.0, patience_s=30)
    assert course.converged
    assert 2.0 < course.total_s < 4.0


def test_nothing_of_a_chunk_is_sent_again_that_was_written_before_its_turn():
    """Half a second in, the second half of memory was not sent yet: writes there cost nothing,
    if the log is cleared by chunks; else they are found by the next sync.
    """
    rows = idle(PAGES, 40)
    rows[4, 15_000:18_000] = True
    by_chunks = migrate(rows, chunk_pages=1024)
    at_the_sync = migrate(rows, chunk_pages=0)
    assert by_chunks.sent_bytes == PAGES * 4104
    assert at_the_sync.sent_bytes > PAGES * 4104


@given(
    seed=st.integers(0, 2**20),
    writes=st.floats(0, 20_000),
    limit_s=st.floats(0.001, 2),
    n_zero=st.integers(0, 3000),
    chunk_pages=st.sampled_from([0, 512, 1 << 18]),
)
def test_any_course_adds_up(seed, writes, limit_s, n_zero, chunk_pages):
    rows = uniform(3000, 20, writes, seed)
    zero = np.random.default_rng(seed).permutation(3000) < n_zero
    course = migrate(
        rows, limit_s, zero=zero, chunk_pages=chunk_pages, host=Host(), patience_s=3, seed=seed
    )
    at = [p.at_s for p in course.passes] + [course.total_s]
    sent = [p.sent_bytes for p in course.passes] + [course.sent_bytes]
    assert at == sorted(at)
    assert sent == sorted(sent)
    for n_bytes, now in zip(sent, at, strict=True):
        assert n_bytes <= (now + 0.02) * BANDWIDTH + 1e-3
    for done in course.passes:
        assert 0 <= done.left_pages <= done.pending_pages <= 3000
    if course.converged:
        last = course.passes[-1]
        assert course.total_s == pytest.approx(last.at_s + course.downtime_s)
        most = last.pending_pages * max(PAGE_S, 1 / 2e6) + 0.004
        assert course.downtime_s <= most * 1.000001
    else:
        assert 3 <= course.total_s < 3 + 2 * STEP_S


@pytest.mark.parametrize("name", ["bandwidth", "patience_s"])
@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, 10**400, "1", True, None])
def test_a_migration_that_makes_no_sense(name, value):
    arguments = {"bandwidth": BANDWIDTH, name: value}
    memory = ReplayedMemory(record(idle(PAGES, 10)), [0.0])
    with pytest.raises(errors.UsageError, match=f"^{name} must be a positive, finite number of"):
        precopy(memory, downtime_limit_s=LIMIT_S, **arguments)


@pytest.mark.parametrize("name", ["buffer_s", "switchover_s", "setup_s", "zero_pages_per_s"])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, None])
def test_a_host_that_makes_no_sense(name, value):
    with pytest.raises(errors.UsageError, match=f"^{name} must be a"):
        Host(**{name: value})


def test_a_host_that_finds_no_zero_page():
    with pytest.raises(errors.UsageError, match=r"^zero_pages_per_s must be a positive"):
        Host(zero_pages_per_s=0)
