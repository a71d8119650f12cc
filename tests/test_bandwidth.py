"""A link that becomes slower or faster while a migration goes on, against sums by hand."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from migrations import BANDWIDTH, BARE, LIMIT_S, PAGE_S, PAGES
from model import to_words
from recordings import hot, idle, record, uniform

from mempattern import errors
from mempattern.migration.bandwidth import Bandwidth
from mempattern.migration.policies import Policy
from mempattern.migration.precopy import Host, precopy
from mempattern.migration.replayed import ReplayedMemory

STEP_PAGES = 530
CHANGES = st.dictionaries(st.floats(0.01, 3), st.floats(0.2, 4), max_size=4).map(
    lambda changes: sorted(changes.items())
)
"""Moments, and times of the usual bandwidth."""


def migrate(rows, *changes, zero=None, host=BARE, **options):
    memory = ReplayedMemory(record(rows), [0.0], None if zero is None else [to_words(zero)])
    return precopy(memory, Bandwidth(*changes), LIMIT_S, host=host, **options)


# ---- by hand -------------------------------------------------------------------------------------


def test_the_bandwidth_at_a_moment():
    link = Bandwidth((0, 100.0), (10, 50.0), (12.5, 200.0))
    assert [link.at(s) for s in (0, 9.99, 10, 12.4, 12.5, 1e9)] == [100, 100, 50, 50, 200, 200]
    assert [link.change_after(s) for s in (0, 9.99, 10, 12.4)] == [10, 10, 12.5, 12.5]
    assert link.change_after(12.5) == math.inf
    assert link.changes == [(0, 100), (10, 50), (12.5, 200)]


@pytest.mark.parametrize(
    ("n_bytes", "now_s", "time_s"),
    [(0, 3, 0), (100, 3, 1), (700, 3, 7), (701, 3, 7.02), (100, 9.5, 1.5), (175, 9.5, 3),
     (225, 9.5, 3.25), (50, 10, 1), (1000, 20, 5)],
)  # fmt: skip
def test_the_time_for_so_many_bytes(n_bytes, now_s, time_s):
    link = Bandwidth((0, 100.0), (10, 50.0), (12.5, 200.0))
    assert link.time_for(n_bytes, now_s) == pytest.approx(time_s)


@pytest.mark.parametrize("times", [0.25, 0.5, 2.0])
def test_it_changes_in_the_midst_of_a_pass(times):
    """From the first step on that begins after a second, the twentieth."""
    course = migrate(idle(PAGES, 100), (0, BANDWIDTH), (1.0, times * BANDWIDTH))
    before = 19 * STEP_PAGES
    pages_s = before * PAGE_S + (PAGES - before) * PAGE_S / times
    assert course.total_s == pytest.approx(pages_s + 0.004)
    assert course.sent_bytes == PAGES * 4104
    # QEMU measures it, and the limit holds at the new one.
    assert course.passes[-1].bandwidth_Bps == pytest.approx(times * BANDWIDTH)
    assert course.downtime_s < LIMIT_S * 1.01 + 0.004


def test_a_step_over_a_slow_link_does_not_outlast_it():
    """At ten pages a second it would take 3 s. The page that is begun is still sent."""
    course = migrate(idle(PAGES, 100), (0, 10 * 4104.0), (0.35, BANDWIDTH))
    assert course.total_s == pytest.approx(0.4 + (PAGES - 4) * PAGE_S + 0.004)


@pytest.mark.parametrize("times", [0.1, 0.5, 4.0])
@pytest.mark.parametrize("changes_s", [1.8, 1.9, 2.0])
def test_it_changes_in_the_midst_of_the_pause(times, changes_s):
    """2510 pages are left after 33 steps, at 1.794 s. The page that is begun is still sent."""
    course = migrate(idle(PAGES, 100), (0, BANDWIDTH), (changes_s, times * BANDWIDTH))
    before = math.ceil((changes_s - 33 * STEP_PAGES * PAGE_S) / PAGE_S)
    pause_s = before * PAGE_S + (2510 - before) * PAGE_S / times
    assert course.downtime_s == pytest.approx(pause_s + 0.004)
    assert course.total_s == pytest.approx(33 * STEP_PAGES * PAGE_S + pause_s + 0.004)


def test_it_changes_several_times_in_the_pause():
    """One, two, and four pages a PAGE_S, a hundred PAGE_S each."""
    at_s = 33 * STEP_PAGES * PAGE_S
    changes = [(at_s + (100 * n - 0.5) * PAGE_S, BANDWIDTH * 2**n) for n in (1, 2)]
    course = migrate(idle(PAGES, 100), (0, BANDWIDTH), *changes)
    pages_s = (100 + 200 / 2 + (2510 - 100 - 200) / 4) * PAGE_S
    assert course.downtime_s == pytest.approx(pages_s + 0.004, abs=PAGE_S)


def test_a_change_before_the_first_page_and_one_after_the_last():
    late = migrate(idle(PAGES, 100), (0, BANDWIDTH), (2.06, 1.0))
    assert late == migrate(idle(PAGES, 100), (0, BANDWIDTH))
    early = migrate(idle(PAGES, 100), (0, 1.0), (0.02, BANDWIDTH), host=Host(0.5e6, 0, 0.004, 0.03))
    assert early.total_s == pytest.approx(PAGES * PAGE_S + 0.034)


def test_a_slower_link_may_keep_a_migration_from_ending():
    rows = hot(PAGES, 100, 2000)
    assert migrate(rows, (0, BANDWIDTH), patience_s=20).converged
    assert not migrate(rows, (0, BANDWIDTH), (1.0, BANDWIDTH / 2), patience_s=20).converged


def test_policies_are_told_the_bandwidth_of_the_beginning():
    seen = []

    class Looks(Policy):
        def begin(self, task):
            seen.append(task.bandwidth_Bps)
            return super().begin(task)

    migrate(idle(PAGES, 10), (0, BANDWIDTH), (0.5, 1e6), policy=Looks())
    assert seen == [BANDWIDTH]


# ---- bad links -----------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [(), ((1.0, 1e6),), ((-1.0, 1e6), (0.0, 1e6))])
def test_it_must_be_known_from_the_start(changes):
    with pytest.raises(errors.UsageError, match="the first bandwidth must be that from 0 seconds"):
        Bandwidth(*changes)


@pytest.mark.parametrize("later", [(0.0,), (2.0, 2.0), (3.0, 1.0)])
def test_the_moments_must_rise(later):
    with pytest.raises(errors.UsageError, match="the moments at which the bandwidth changes must"):
        Bandwidth((0, 1e6), *((at_s, 1e6) for at_s in later))


@pytest.mark.parametrize("at_s", [math.nan, math.inf, -1.0, "1s", None])
def test_moments_that_make_no_sense(at_s):
    with pytest.raises(errors.UsageError, match=r"^a change's moment must be a number from 0"):
        Bandwidth((0, 1e6), (at_s, 1e6))


@pytest.mark.parametrize("Bps", [0, -1.0, math.nan, math.inf, "1Gbit", None, True])
def test_bandwidths_that_make_no_sense(Bps):
    for changes in [((0, Bps),), ((0, 1e6), (1.0, Bps))]:
        with pytest.raises(errors.UsageError, match=r"^bandwidth_Bps must be a positive, finite"):
            Bandwidth(*changes)


# ---- of any link ---------------------------------------------------------------------------------


@given(
    moments=st.lists(st.floats(1e-6, 5), max_size=6, unique=True).map(sorted),
    writes=st.floats(0, 1500),
    n_zero=st.integers(0, 2000),
    seed=st.integers(0, 2**20),
)
def test_one_that_does_not_change_is_a_constant_one(moments, writes, n_zero, seed):
    rows = uniform(3000, 20, writes, seed)
    rows[:, :n_zero] = False
    zero = np.arange(3000) < n_zero
    alike = [(s, BANDWIDTH / 6) for s in (0.0, *moments)]
    for options in ({"zero": zero}, {"host": Host()}):
        course = migrate(rows, *alike, patience_s=4, **options)
        constant = migrate(rows, alike[0], patience_s=4, **options)
        assert course.passes == constant.passes
        assert course.sent_bytes == pytest.approx(constant.sent_bytes)
        assert course.total_s == pytest.approx(constant.total_s)
        assert course.downtime_s == pytest.approx(constant.downtime_s, nan_ok=True)


@given(changes=CHANGES, writes=st.floats(0, 2000), seed=st.integers(0, 2**20))
def test_as_many_bytes_are_sent_as_the_link_carries(changes, writes, seed):
    """It is never idle. A change counts from the next step on, of at most 51 ms and 32 pages."""
    usual = BANDWIDTH / 6
    link = [(0.0, usual), *((at_s, times * usual) for at_s, times in changes)]
    course = migrate(uniform(3000, 20, writes, seed), *link, patience_s=4)
    busy_s = course.total_s - (0.004 if course.converged else 0.0)
    ends_s = [*(at_s for at_s, _ in link[1:]), math.inf]
    carried = sum(
        Bps * max(min(end_s, busy_s) - at_s, 0.0)
        for (at_s, Bps), end_s in zip(link, ends_s, strict=True)
    )
    most_off = sum(
        abs(after - before) * (0.051 + 33 * 4104 / min(after, before))
        for (_, before), (_, after) in itertools.pairwise(link)
    )
    assert course.sent_bytes == pytest.approx(carried, rel=1e-9, abs=most_off + 1e-3)


@given(
    changes=CHANGES, n_bytes=st.floats(0, 1e9), now_s=st.floats(0, 5), later=st.floats(0, 1)
)  # fmt: skip
def test_the_time_for_bytes_adds_up(changes, n_bytes, now_s, later):
    """Some of them, and then the others."""
    link = Bandwidth((0.0, 1e8), *((at_s, times * 1e8) for at_s, times in changes))
    all_s = link.time_for(n_bytes, now_s)
    first_s = link.time_for(n_bytes * later, now_s)
    then_s = link.time_for(n_bytes * (1 - later), now_s + first_s)
    assert first_s + then_s == pytest.approx(all_s)
    assert all_s <= n_bytes / min(Bps for _, Bps in link.changes) + 1e-9
