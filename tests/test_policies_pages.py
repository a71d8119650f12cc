"""Policies that look at pages, hot-page deferral and MP, by hand and on guests of known pages."""

import numpy as np
import pytest
from migrations import BANDWIDTH, BARE, LIMIT_PAGES, LIMIT_S, PAGE_S, PAGES
from model import to_words
from paged_memory import PagedMemory
from recordings import PROVENANCE
from standings import a_pass, a_task, limits

from mempattern import Interval, Region, errors
from mempattern.migration.policies import NOTHING, Action, HotPages, MemoryPattern, Stock
from mempattern.migration.precopy import precopy

RAM = Region("ram", 1 << 15)


def finding(*ranges, end_s=10.0, duration_s=1.0):
    """What `found` returns for a sync that found these pages written."""
    pages = np.zeros(RAM.n_pages, bool)
    for first, end in ranges:
        pages[first:end] = True
    end_ns = round(end_s * 1e9)
    start_ns = end_ns - round(duration_s * 1e9)
    return lambda: Interval(0, start_ns, end_ns, (RAM,), {"ram": to_words(pages)}, PROVENANCE)


def always(n_hot, first=0):
    """A guest that writes the same pages all the time."""
    pages = np.zeros(PAGES, bool)
    pages[first : first + n_hot] = True
    return lambda start_s, end_s: pages


def migrated(memory, policy, ceiling_s, patience_s=60):
    return precopy(
        memory, BANDWIDTH, LIMIT_S, policy=policy, ceiling_s=ceiling_s, host=BARE,
        patience_s=patience_s,
    )  # fmt: skip


def without_pages(policy):
    policy.begin(a_task())
    with pytest.raises(errors.UsageError, match="must know which pages are written: replay a"):
        policy.after(a_pass(2, 1.0, 5000))


# ---- deferral ------------------------------------------------------------------------------------


def test_what_is_deferred_by_hand():
    """Dirty in two of the last three passes: pages 20-29; 20-29 and 40; then 40-49, as 20-29 were
    dirty in one of the last three only."""
    policy = HotPages()
    assert policy.begin(a_task(ceiling_s=0.1)) == NOTHING
    found = [
        finding((0, 30)),
        finding((20, 41)),
        finding((40, 50)),
        finding((40, 50), (100, 110)),
    ]
    deferred = []
    for number, one in enumerate(found, 2):
        action = policy.after(a_pass(number, 1.0 * number, 9000, found=one))
        assert action == Action(defer=action.defer)
        deferred.append(action.defer.pages("ram").tolist())
    assert deferred == [[], [*range(20, 30)], [*range(20, 30), 40], [*range(40, 50)]]


def test_the_last_round_is_as_long_as_the_ceiling():
    """40.96 MB/s for 0.9 s are 9000 pages, whether deferred or not."""
    for pages, stops in [(9000, True), (9001, False)]:
        policy = HotPages()
        policy.begin(a_task(ceiling_s=0.9))
        done = a_pass(2, 2.0, pages, bandwidth_Bps=40.96e6, found=finding((0, 10)))
        assert policy.after(done).stop == stops


def test_deferral_spares_sending_the_hot_pages_again():
    """12,000 pages are hot, 1.23 s to send, and 4000 more until 8 s have passed. With a ceiling of
    1.3 s the hot ones are sent once before they are known to be hot, and in the pause."""

    def written(start_s, end_s):
        pages = np.zeros(PAGES, bool)
        pages[: 16_000 if start_s < 8 else 12_000] = True
        return pages

    courses = {}
    for policy in (HotPages(), Stock()):
        memory = PagedMemory(PAGES, written)
        courses[type(policy)] = migrated(memory, policy, ceiling_s=1.3, patience_s=30)
    course = courses[HotPages]
    assert not courses[Stock].converged
    assert course.converged
    assert 8 < course.total_s < 11.5
    assert course.downtime_s <= 1.3 + 0.004
    # All of RAM, the 16,000 once more before they come twice, and what is sent in the pause.
    assert course.sent_bytes < (PAGES + 16_000 + 4000 + 13_000) * 4104
    assert course.sent_bytes < courses[Stock].sent_bytes * course.total_s / 30


def test_a_hot_set_above_the_ceiling_does_not_end():
    memory = PagedMemory(PAGES, always(12_000))
    course = migrated(memory, HotPages(), ceiling_s=1.0, patience_s=20)
    assert not course.converged
    assert memory.deferrals[-1] == 12_000
    # Once they are deferred nothing is sent any more.
    assert course.sent_bytes <= (PAGES + 2 * 12_000) * 4104


def test_deferral_needs_pages():
    without_pages(HotPages())


@pytest.mark.parametrize(("at_least", "of_last"), [(0, 3), (4, 3), (1, 256), (1.5, 3), (1, None)])
def test_a_deferral_that_makes_no_sense(at_least, of_last):
    with pytest.raises(errors.UsageError, match=r"^at_least must be from 1 to of_last"):
        HotPages(at_least=at_least, of_last=of_last)


# ---- MP ------------------------------------------------------------------------------------------


def test_mp_by_hand():
    """8192 pages are written again in each pass, and 0.3 s at 4.104 MB/s carry 300: intensive by
    the second iteration, and whatever comes then. They take 8 s to send, but 1.6 s at the bandwidth
    measured last."""
    policy = MemoryPattern()
    assert policy.begin(a_task(RAM.n_pages * 4096, ceiling_s=1.7, bandwidth_Bps=4.104e6)) == NOTHING
    told = [
        (32.0, 12_288, 4e6), (8.0, 12_288, 4e6), (8.0, 12_288, 4e6), (8.0, 4100, 4e6),
        (8.0, 12_288, 20.48e6),
    ]  # fmt: skip
    now_s, actions = 0.0, []
    for number, (pass_s, end, bandwidth_Bps) in enumerate(told, 2):
        now_s += pass_s
        found = finding((4096, end), end_s=now_s, duration_s=pass_s)
        done = a_pass(number, now_s, 8192, bandwidth_Bps=bandwidth_Bps, found=found)
        actions.append(policy.after(done))
    assert limits(actions) == [None, 1700, 1700, 1700, None]
    assert [action.stop for action in actions] == [False, False, False, False, True]


def test_mp_leaves_a_guest_alone_that_is_not_intensive():
    """Half as many pages as may remain."""
    policy = MemoryPattern()
    policy.begin(a_task(RAM.n_pages * 4096, bandwidth_Bps=40e6))
    for number in range(2, 6):
        found = finding((0, 1400), end_s=number, duration_s=0.5)
        assert policy.after(a_pass(number, number, 2800, found=found)) == NOTHING


def test_mp_stops_a_hot_guest_that_stock_does_not():
    """0.6 s to send: two iterations tell, and the ceiling allows it."""
    stock = migrated(PagedMemory(PAGES, always(int(2 * LIMIT_PAGES))), Stock(), 1.0)
    course = migrated(PagedMemory(PAGES, always(int(2 * LIMIT_PAGES))), MemoryPattern(), 1.0)
    assert not stock.converged
    assert course.converged
    assert len(course.passes) <= 5
    assert course.downtime_s == pytest.approx(2 * LIMIT_PAGES * PAGE_S + 0.004, rel=0.01)
    assert course.total_s < 4


def test_mp_waits_where_the_ceiling_does_not_allow_it():
    """It goes on with the ceiling as the limit, until the guest writes less."""

    def written(start_s, end_s):
        return always(int(2 * LIMIT_PAGES) if start_s < 10 else int(1.5 * LIMIT_PAGES))(0, 0)

    course = migrated(PagedMemory(PAGES, written), MemoryPattern(), 0.5)
    assert course.converged
    assert 10 < course.total_s < 12
    assert course.passes[-1].limit_s == 0.5
    assert LIMIT_S < course.downtime_s < 0.51


def test_mp_and_stock_are_alike_on_a_guest_that_ends():
    courses = [
        migrated(PagedMemory(PAGES, always(int(0.5 * LIMIT_PAGES))), policy, 1.0)
        for policy in (Stock(), MemoryPattern())
    ]
    assert courses[0].converged
    assert courses[0] == courses[1]


def test_mp_needs_pages():
    without_pages(MemoryPattern())
