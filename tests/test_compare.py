"""Regret and Pareto domination, on outcomes worked out by hand, and as an order."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mempattern.migration.compare import (
    Regret,
    dominates,
    is_within,
    judge,
    regret,
)
from mempattern.migration.simulate import Outcome


def outcome(policy="p", total_s=10.0, sent_bytes=1e9, downtime_s=0.2, **others):
    return Outcome(**{
        "policy": policy, "end": "completed", "total_s": total_s, "sent_bytes": sent_bytes,
        "downtime_s": downtime_s, "passes": 3, "throttled_s": 0.0, "postcopy_pages": 0.0,
        "extrapolated_s": 0.0,
    } | others)  # fmt: skip


STUCK = outcome("stuck", end="not converged", downtime_s=math.nan)
ORACLE = outcome("oracle", 8.0, 8e8, 0.3)


def test_regret_by_hand():
    assert regret(outcome(), ORACLE) == Regret(0.25, 0.25)
    assert regret(outcome(total_s=6.0, sent_bytes=8e8), ORACLE) == Regret(-0.25, 0.0)
    assert regret(STUCK, ORACLE) is None
    assert regret(outcome(), STUCK) is None


@pytest.mark.parametrize(
    ("one", "within"),
    [
        (outcome(downtime_s=0.3), True),
        (outcome(downtime_s=0.306), True),  # 2 % more: what the devices' state takes
        (outcome(downtime_s=0.3061), False),
        (outcome(end="cancelled"), False),
        (STUCK, False),
    ],
)
def test_within_the_ceiling(one, within):
    assert is_within(one, 0.3) is within


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (outcome(), outcome(total_s=10.1)),
        (outcome(), outcome(sent_bytes=1.1e9)),
        (outcome(), outcome(downtime_s=0.21)),
        (outcome(), outcome(throttled_s=0.1)),
        (outcome(), outcome(postcopy_pages=1.0)),
        (outcome(passes=9, extrapolated_s=9.0), outcome(total_s=11.0, downtime_s=0.3)),
    ],
)
def test_domination_by_hand(better, worse):
    assert dominates(better, worse)
    assert not dominates(worse, better)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (outcome(), outcome("twin")),
        (outcome(total_s=9.0), outcome(downtime_s=0.1)),
        (outcome(total_s=9.0, throttled_s=2.0), outcome()),
        (outcome(total_s=5.0, downtime_s=0.002, postcopy_pages=9.0), outcome()),
        (outcome(), STUCK),
    ],
)
def test_neither_dominates(one, other):
    assert not dominates(one, other)
    assert not dominates(other, one)


OUTCOMES = st.builds(
    outcome,
    st.just("p"),
    *[st.sampled_from([1.0, 2.0, 3.0])] * 3,
    throttled_s=st.sampled_from([0.0, 1.0]),
    postcopy_pages=st.sampled_from([0.0, 1.0]),
    end=st.sampled_from(["completed", "completed", "cancelled"]),
)


@given(OUTCOMES, OUTCOMES, OUTCOMES)
def test_domination_is_a_strict_order(a, b, c):
    assert not dominates(a, a)
    assert not (dominates(a, b) and dominates(b, a))
    if dominates(a, b) and dominates(b, c):
        assert dominates(a, c)


@given(st.lists(OUTCOMES, min_size=1, max_size=6), st.sampled_from([0.5, 1.0, 2.0, 3.0]))
def test_somebody_is_not_dominated(outcomes, ceiling_s):
    outcomes = [outcome(f"p{i}", *_figures(one)) for i, one in enumerate(outcomes)]
    judged = judge(outcomes, ceiling_s)
    within = [one for one in judged if one.is_within]
    assert [one.outcome for one in judged] == outcomes
    assert all(not one.dominated_by for one in judged if not one.is_within)
    assert not within or any(not one.dominated_by for one in within)
    by_name = {one.outcome.policy: one.outcome for one in within}
    for one in within:
        expected = [name for name, other in by_name.items() if dominates(other, one.outcome)]
        assert list(one.dominated_by) == expected


def _figures(one):
    return one.total_s, one.sent_bytes, one.downtime_s


def test_judged_by_hand():
    """What is over the ceiling dominates nobody, and the oracle is no rival."""
    fast_but_over = outcome("over", 7.0, 7e8, 0.4)
    good, bad = outcome("good", 8.5, 9e8, 0.25), outcome("bad", 9.0, 9e8, 0.25)
    judged = judge([fast_but_over, good, bad, STUCK, ORACLE], 0.3)
    assert [one.is_within for one in judged] == [False, True, True, False, True]
    assert [one.dominated_by for one in judged] == [(), (), ("good",), (), ()]
    assert judged[0].regret.time == pytest.approx(-0.125)
    assert judged[1].regret == Regret(0.0625, pytest.approx(0.125))
    assert judged[3].regret is None
    assert judged[4].regret == Regret(0.0, 0.0)
    assert all(one.regret is None for one in judge([good, bad], 0.3))
