"""Proxmox's doubling by hand, over any polls, and on a hot guest."""

from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from migrations import LIMIT_PAGES, PAGES, migrate
from recordings import hot
from standings import a_poll, a_task, limits

from mempattern.migration.policies import Proxmox


def test_the_sixth_rise_doubles_the_limit():
    policy = Proxmox()
    assert limits([policy.begin(a_task())]) == [100]
    pages = [9000, 8000, 8001, 8002, 8002, 8003, 8004, 100, 0, 50, 51, 7000, 7001]
    #                    1     2           3     4          5       6     1     2
    polled = [
        policy.poll(a_poll(float(i), pending, sent_bytes=1e6 * i))
        for i, pending in enumerate(pages, 1)
    ]
    assert limits(polled) == [*[None] * 10, 200, None, None]
    # 50 does not rise, for nothing remained before, which counts as never having looked.


def test_it_polls_more_often_once_less_remains_than_is_sent_between_polls():
    policy = Proxmox()
    told = [(1e6, 5e6), (3e6, 2e6), (4e6, 1.1e6), (5e6, 0.9e6), (6e6, 9e6)]
    often = []
    for i, (sent_bytes, pending_bytes) in enumerate(told, 1):
        policy.poll(a_poll(float(i), pending_bytes / 4096, sent_bytes=sent_bytes))
        often.append(policy.poll_s)
    # The mean leaves out what was sent last: 0, 0.5, 1, 1 and 1 MB. And it stays so.
    assert often == [1.0, 1.0, 1.0, 0.1, 0.1]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=100))
def test_over_any_polls(polls):
    """From all of the polls so far: only those at which something was sent tell anything."""
    policy = Proxmox()
    limit_s, sent = policy.begin(a_task()).downtime_limit_s, list(accumulate(n for n, _ in polls))
    for i, (total, (_, pending)) in enumerate(zip(sent, polls, strict=True)):
        action = policy.poll(a_poll(0.0, pending, sent_bytes=total * 4096))
        limit_s = limit_s if action.downtime_limit_s is None else action.downtime_limit_s
        told = [j for j in range(i + 1) if polls[j][0]]
        seen = [polls[j][1] for j in told]
        rises = seen[:1].count(0) + sum(
            now == 0 or 0 < before < now for before, now in pairwise(seen)
        )
        assert limit_s == pytest.approx(0.1 * 2 ** (rises // 6))
        is_low = [polls[j][1] < (sent[j - 1] if j else 0) / (j + 1) for j in told]
        assert policy.poll_s == (0.1 if any(is_low) else 1.0)


def test_a_hot_guest_ends_with_the_limit_doubled_three_times():
    """It needs 0.6 s, and a pass brings one rise at most."""
    rows = hot(PAGES, 40, int(2 * LIMIT_PAGES))
    course = migrate(rows, policy=Proxmox(), patience_s=60)
    assert course.converged
    assert course.passes[-1].limit_s == 0.8
    assert 0.4 < course.downtime_s < 0.8
    assert len(course.passes) >= 3 * 6 + 2
