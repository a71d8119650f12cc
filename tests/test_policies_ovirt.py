"""oVirt's schedule by hand, over any polls, and on hot guests."""

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st
from migrations import LIMIT_PAGES, PAGES, migrate
from recordings import uniform
from standings import a_pass, a_poll, a_task, limits

from mempattern.migration.policies import OVirt


def test_the_schedule_by_hand():
    """A poll that finds more than the one before is a new iteration; the first to go beyond a
    step's count takes the step. Here the iterations 1 to 8 are marked."""
    policy = OVirt()
    assert limits([policy.begin(a_task())]) == [100]
    remaining = [
        9000, 5000,
        6000,  # 1
        6000, 4000,
        4001,  # 2
        4500,  # 3
        1000,
        1001,  # 4
        1002,  # 5
        900,
        901,  # 6
        902,  # 7
        800,
    ]  # fmt: skip
    polled = [policy.poll(a_poll(10.0 * i, pages)) for i, pages in enumerate(remaining, 1)]
    assert limits(polled) == [
        None, None, None, None, None, 150, 200, None, 300, 400, None, None, 500, None,
    ]  # fmt: skip
    assert policy.poll(a_poll(150.0, 801)).give_up  # 8


@given(st.lists(st.integers(0, 5), max_size=60))
def test_one_step_a_rise_and_none_too_early(polls):
    """The rises that take the steps: the second to fifth, the seventh; the eighth aborts."""
    policy, rises = OVirt(), 0
    steps_ms = {2: 150, 3: 200, 4: 300, 5: 400, 7: 500}
    for before, now in itertools.pairwise([math.inf, *polls]):
        rises += now > before
        action = policy.poll(a_poll(10.0, now))
        assert action.give_up == (rises == 8)
        if action.give_up:
            return
        assert limits([action]) == [steps_ms.get(rises) if now > before else None]


def test_auto_converge_is_on_unless_it_is_switched_off():
    """9000 pages found in each pass that sends 9000, and in the first one, which sends 18,000."""
    throttles = []
    for policy in (OVirt(), OVirt(auto_converge=False)):
        passes = [a_pass(n, 2.0 * n, 9000, sent_bytes=9000 * 4096 * n) for n in range(2, 6)]
        throttles.append([policy.after(done).throttle for done in passes])
    assert throttles == [[None, None, 0.2, None], [None] * 4]


def busy(share):
    """Writes again and again, at random, to that share of what the limit allows."""
    n_written = int(share * LIMIT_PAGES)
    return uniform(PAGES, 97, 3 * n_written, n_written=n_written)


def test_a_guest_that_400_ms_allow():
    """It needs 0.36 s, give or take: with the very same each time, polls may fall into step."""
    rows = busy(1.2)
    course = migrate(rows, policy=OVirt(auto_converge=False), patience_s=600)
    assert course.converged
    assert course.passes[-1].limit_s == 0.4
    assert course.total_s > 60  # five iterations, with a poll below each of them


def test_a_guest_that_500_ms_do_not_allow():
    """It needs 0.6 s; unless it is throttled, it is aborted."""
    rows = busy(2.0)
    course = migrate(rows, policy=OVirt(auto_converge=False), patience_s=1000)
    assert course.cancelled
    assert course.passes[-1].limit_s == 0.5
    assert course.throttled_s == 0
    throttled = migrate(rows, policy=OVirt(), patience_s=1000)
    assert throttled.converged
    assert throttled.throttled_s > 0
