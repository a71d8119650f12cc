"""Cloud Hypervisor's rule by hand, and on hot guests."""

import pytest
from migrations import LIMIT_PAGES, PAGE_S, PAGES, migrate
from recordings import hot
from standings import a_pass, a_task, limits

from mempattern import errors
from mempattern.migration.policies import NOTHING, Action, CloudHypervisor

N_HOT = int(2 * LIMIT_PAGES)


def test_the_rule_by_hand():
    """40.96 MB/s in half a second are 5000 pages."""
    policy = CloudHypervisor(timeout_s=100)
    assert limits([policy.begin(a_task(ceiling_s=0.5))]) == [0]
    told = [(99.9, 5001), (100.0, 5001), (100.0, 5000), (1.0, 0)]
    actions = [policy.after(a_pass(2, *one, bandwidth_Bps=40.96e6)) for one in told]
    assert actions == [NOTHING, Action(give_up=True), Action(stop=True), Action(stop=True)]
    unmeasured = [policy.after(a_pass(2, 0.05, pages, bandwidth_Bps=0.0)) for pages in (1, 0)]
    assert unmeasured == [NOTHING, Action(stop=True)]


def test_a_guest_that_the_ceiling_allows_is_stopped_after_the_bulk():
    course = migrate(hot(PAGES, 40, N_HOT), policy=CloudHypervisor(), ceiling_s=0.61)
    assert len(course.passes) == 3
    assert course.downtime_s == pytest.approx(N_HOT * PAGE_S + 0.004)
    assert course.total_s == pytest.approx((PAGES + N_HOT) * PAGE_S + 0.004)


def test_one_that_it_does_not_is_cancelled():
    """Each pass sends all of the hot pages; the first one that ends after 10 s is the last."""
    policy = CloudHypervisor(timeout_s=10)
    course = migrate(hot(PAGES, 40, N_HOT), policy=policy, ceiling_s=0.5)
    assert course.cancelled
    assert 10 <= course.total_s < 10 + N_HOT * PAGE_S


@pytest.mark.parametrize("timeout_s", [0, -1.0, float("inf")])
def test_a_timeout_that_makes_no_sense(timeout_s):
    with pytest.raises(errors.UsageError, match=r"^timeout_s must be a positive"):
        CloudHypervisor(timeout_s=timeout_s)
