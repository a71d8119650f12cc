"""Nova's ramp by hand, as a formula, and on a hot guest."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from migrations import LIMIT_PAGES, PAGES, migrate
from recordings import hot
from standings import a_poll, a_task, limits

from mempattern import errors
from mempattern.migration.policies import Nova

GIB = 1 << 30


def test_the_ramp_by_hand():
    """4 GiB and 500 ms: from 50 ms by 45 ms, once more than 300 s are over."""
    policy = Nova()
    at_s = [0.5, 300.0, 300.5, 301.0, 899.9, 901.0, 3000.0, 3000.5, 3100.0]
    begun = policy.begin(a_task(4 * GIB, ceiling_s=0.5))
    polled = [policy.poll(a_poll(now_s, 1000)) for now_s in at_s]
    assert limits([begun, *polled]) == [50, None, None, 95, None, 140, 185, 455, 500, None]


def test_it_gives_up():
    """800 s a GiB."""
    policy = Nova()
    policy.begin(a_task(4 * GIB))
    assert [policy.poll(a_poll(now_s, 1000)).give_up for now_s in (3200.0, 3200.5)] == [False, True]


def test_a_small_vm_counts_as_two_gib():
    policy = Nova()
    policy.begin(a_task(GIB // 16, ceiling_s=0.5))
    assert limits(policy.poll(a_poll(now_s, 1)) for now_s in (150.0, 150.5)) == [None, 95]


def ramp_ms(now_s, ceiling_ms, steps, delay_s):
    """The line from a `steps`-th of the ceiling to all of it, at the steps that are over."""
    over = sum(now_s > number * delay_s for number in range(1, steps + 1))
    return math.floor(ceiling_ms * (1 + over * (steps - 1) / steps) / steps + 1e-9)


@given(
    ceiling_ms=st.integers(100, 5000),
    steps=st.integers(3, 20),
    delay=st.integers(3, 100),
    gib=st.integers(2, 20),
    later=st.lists(st.sampled_from([0.5, 1.0, 7.5, 100.0, 999.5]), max_size=30),
)
def test_the_ramp_is_a_line(ceiling_ms, steps, delay, gib, later):
    policy = Nova(steps=steps, delay_s_per_gib=delay, timeout_s_per_gib=1e6)
    limit_s = policy.begin(a_task(gib * GIB, ceiling_s=ceiling_ms / 1000)).downtime_limit_s
    now_s = 0.0
    for more_s in later:
        now_s += more_s
        action = policy.poll(a_poll(now_s, 1000))
        limit_s = limit_s if action.downtime_limit_s is None else action.downtime_limit_s
        assert limit_s * 1000 == pytest.approx(
            ramp_ms(now_s, ceiling_ms, steps, delay * gib), abs=1.000001
        )


def test_a_hot_guest_ends_once_the_limit_is_high_enough():
    """It needs 0.6 s; 120 ms and 5 steps of 108 ms allow 0.66 s, after 5 steps of 10 s."""
    rows, n_hot = hot(PAGES, 40, int(2 * LIMIT_PAGES)), 2 * LIMIT_PAGES
    course = migrate(rows, policy=Nova(delay_s_per_gib=5), ceiling_s=1.2, patience_s=100)
    assert course.converged
    assert 50 < course.total_s < 52
    assert course.passes[-1].pending_pages == pytest.approx(n_hot, rel=0.03)
    assert course.passes[-1].limit_s == 0.66


def test_numbers_that_make_no_sense():
    for wrong, message in [
        ({"steps": 0}, "steps must be a whole number of at least 1, not 0"),
        ({"delay_s_per_gib": 0}, "delay_s_per_gib must be a positive"),
        ({"timeout_s_per_gib": float("nan")}, "timeout_s_per_gib must be a positive"),
    ]:
        with pytest.raises(errors.UsageError, match=message):
            Nova(**wrong)
