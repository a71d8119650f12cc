"""Xen's two stop rules by hand, and on a guest that never ends."""

import pytest
from migrations import LIMIT_PAGES, PAGE_S, PAGES, migrate
from recordings import hot, idle
from standings import a_pass, a_task, limits

from mempattern.migration.policies import XenClassic, XenToday

RAM = 100_000 * 4096
N_HOT = int(2 * LIMIT_PAGES)


def stops(policy, *passes):
    """Whether it stops after each (number, pages sent in all, pages pending)."""
    assert limits([policy.begin(a_task(RAM))]) == [0]
    return [
        policy.after(a_pass(number, float(number), pending, sent_bytes=sent * 4096)).stop
        for number, sent, pending in passes
    ]


def test_classic_by_hand():
    assert stops(XenClassic(), (2, 100_000, 50)) == [False]
    assert stops(XenClassic(), (2, 100_000, 49)) == [True]
    # Three times the RAM, and a page more.
    assert stops(XenClassic(), (5, 300_000, 900), (6, 300_001, 900)) == [False, True]
    # The 29th iteration ends with sync 30.
    assert stops(XenClassic(), (29, 290_000, 900), (30, 290_900, 900)) == [False, True]


def test_today_by_hand():
    assert stops(XenToday(), (2, 100_000, 50), (3, 100_050, 49)) == [False, True]
    assert stops(XenToday(), (5, 900_000, 900), (6, 901_000, 900)) == [False, True]


def test_they_end_however_long_the_pause():
    """20,000 pages, of which 5859 are hot and 7 passes of them make three times the RAM."""
    for policy, iterations in [(XenToday(), 5), (XenClassic(), 8)]:
        course = migrate(hot(PAGES, 40, N_HOT), policy=policy, ceiling_s=0.3)
        assert course.converged
        assert len(course.passes) == iterations + 2  # the first sync, and that of the pause
        assert course.downtime_s == pytest.approx(N_HOT * PAGE_S + 0.004)
        assert course.total_s == pytest.approx((PAGES + N_HOT * iterations) * PAGE_S, rel=0.01)


@pytest.mark.parametrize("policy", [XenClassic, XenToday])
def test_an_idle_guest_is_stopped_with_nothing_to_send(policy):
    course = migrate(idle(PAGES, 10), policy=policy())
    assert course.sent_bytes == PAGES * 4104
    assert course.downtime_s == pytest.approx(0.004)
