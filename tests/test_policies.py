"""What policies do to a migration, and QEMU's auto-converge held to its source."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from migrations import BANDWIDTH, BARE, LIMIT_PAGES, LIMIT_S, PAGE_S, PAGES, migrate
from recordings import hot, idle

from mempattern.migration.descend import Descend
from mempattern.migration.memory import Sent
from mempattern.migration.policies.base import NOTHING, Action, Pass, Policy
from mempattern.migration.policies.qemu import AutoConverge, Stock
from mempattern.migration.precopy import precopy


class Told(Policy):
    """Says what it was told to, pass by pass; then nothing."""

    def __init__(self, *actions):
        self.seen = []
        self._actions = list(actions)

    def after(self, done):
        self.seen.append(done)
        return self._actions.pop(0) if self._actions else NOTHING


HOT = hot(PAGES, 40, int(2 * LIMIT_PAGES))


def test_a_policy_sees_every_sync_but_the_first_and_the_last():
    policy = Told()
    course = migrate(idle(PAGES, 10), policy=policy)
    assert policy.seen == list(course.passes[1:-1])
    assert migrate(idle(PAGES, 10), policy=Stock()) == course


def test_it_may_stop_the_guest():
    course = migrate(HOT, policy=Told(NOTHING, NOTHING, Action(stop=True)), patience_s=30)
    assert course.converged
    assert len(course.passes) == 5
    assert course.downtime_s == pytest.approx(int(2 * LIMIT_PAGES) * PAGE_S + 0.004, rel=0.01)


def test_it_may_give_up():
    course = migrate(HOT, policy=Told(NOTHING, Action(give_up=True)), patience_s=30)
    assert not course.converged
    assert len(course.passes) == 3
    assert course.total_s == course.passes[-1].at_s


def test_it_may_raise_the_limit():
    policy = Told(NOTHING, NOTHING, Action(downtime_limit_s=2.1 * LIMIT_S))
    course = migrate(HOT, policy=policy, patience_s=30)
    assert course.converged
    assert len(policy.seen) == 3
    assert LIMIT_S < course.downtime_s < 2.1 * LIMIT_S


class CountedMemory:
    """So many pages are pending after each sync; counts what the guest runs."""

    page_bytes = 4096
    n_pages = PAGES

    def __init__(self, *pending_pages):
        self.ran_s = []
        self._next = [PAGES, *pending_pages]

    def start(self, seed):
        self.pending_pages = 0.0

    def run(self, duration_s):
        self.ran_s.append(duration_s)

    def sync(self):
        self.pending_pages = float(self._next.pop(0) if len(self._next) > 1 else self._next[0])
        return self.pending_pages

    def send(self, duration_s, page_s, zero_page_s):
        pages = min(duration_s / page_s, self.pending_pages)
        self.pending_pages -= pages
        return Sent(pages, 0.0, pages * page_s)


def test_throttling_takes_time_from_the_guest_and_from_nobody_else():
    memory = CountedMemory(8000, 8000, 8000, 100)
    policy = Told(NOTHING, Action(throttle=0.25), Action(throttle=0.75))
    course = precopy(memory, BANDWIDTH, LIMIT_S, policy=policy, host=BARE)
    assert course.converged
    paused_at_s = course.passes[-1].at_s
    second, third = (p.at_s for p in course.passes[2:4])
    throttled_s = 0.25 * (third - second) + 0.75 * (paused_at_s - third)
    assert course.throttled_s == pytest.approx(throttled_s)
    assert sum(memory.ran_s) == pytest.approx(paused_at_s - throttled_s)


def a_pass(number, at_s, sent_pages, fresh_pages, pending_pages=10_000):
    return Pass(
        number=number, at_s=at_s, sent_bytes=sent_pages * 4096,
        left_pages=pending_pages - fresh_pages, pending_pages=pending_pages, page_bytes=4096,
        bandwidth_Bps=40e6, limit_s=0.3,
    )  # fmt: skip


def test_auto_converge_number_by_number():
    policy = AutoConverge()
    answers = [
        policy.after(a_pass(number, *done)).throttle
        for number, done in enumerate(
            [
                # at_s, sent pages in all, fresh pages
                (0.9, 1000, 600),  # no second is over
                (1.5, 2000, 500),  # 1100 of 2000 sent: more than half, once
                (2.5, 3000, 900),  # just one second is not more than one
                (2.6, 3100, 1),  # 901 of 1100: twice
                (3.7, 5100, 1000),  # just half is not more than half
                (4.8, 7100, 1001),  # once
                (5.9, 9100, 10),  # no, but once stays once
                (7.0, 11100, 1500),  # twice
                (7.5, 11500, 9999),  # too soon, but counted:
                (8.1, 13100, 0),  # once
                (9.2, 15100, 2000),  # twice
            ],
            start=2,
        )
    ]
    assert [answer and round(answer, 9) for answer in answers] == [
        *[None, None, None, 0.2, None, None, None, 0.3, None, None, 0.4]
    ]


class QemuThrottle:
    """migration_bitmap_sync, migration_trigger_throttle and mig_throttle_guest_down of QEMU 7.2's
    migration/ram.c with its defaults, line by line, in bytes, percent, and for milliseconds 1/1024
    of a second, of which sums of floats are exact.
    """

    def __init__(self):
        self.time_last_bitmap_sync = 0
        self.num_dirty_pages_period = 0
        self.bytes_xfer_prev = 0
        self.dirty_rate_high_cnt = 0
        self.percentage = 0

    def sync(self, end_time, transferred, num_dirty_pages):
        self.num_dirty_pages_period += num_dirty_pages
        if end_time > self.time_last_bitmap_sync + 1024:
            bytes_dirty_threshold = (transferred - self.bytes_xfer_prev) * 50 // 100
            if self.num_dirty_pages_period * 4096 > bytes_dirty_threshold:
                self.dirty_rate_high_cnt += 1
                if self.dirty_rate_high_cnt >= 2:
                    self.dirty_rate_high_cnt = 0
                    self.percentage = min(self.percentage + 10, 99) if self.percentage else 20
            self.time_last_bitmap_sync = end_time
            self.num_dirty_pages_period = 0
            self.bytes_xfer_prev = transferred
        return self.percentage


@given(
    st.lists(
        st.tuples(
            st.sampled_from([100, 400, 1023, 1024, 1025, 1500, 3000]),
            st.integers(0, 2 * 10**7),
            st.integers(0, 5000),
        ),
        max_size=60,
    )
)
def test_auto_converge_is_qemus(syncs):
    policy, qemu = AutoConverge(), QemuThrottle()
    now_ms, sent, throttle = 0, 0, 0.0
    for number, (later_ms, n_bytes, fresh) in enumerate(syncs, start=2):
        now_ms, sent = now_ms + later_ms, sent + n_bytes
        done = Pass(
            number=number, at_s=now_ms / 1024, sent_bytes=sent, left_pages=0, pending_pages=fresh,
            page_bytes=4096, bandwidth_Bps=0.0, limit_s=0.3,
        )  # fmt: skip
        action = policy.after(done)
        throttle = throttle if action.throttle is None else action.throttle
        assert round(throttle * 100, 6) == qemu.sync(now_ms, sent, fresh)


def test_auto_converge_makes_a_hot_guest_converge():
    stock = migrate(HOT, patience_s=60)
    course = migrate(HOT, policy=AutoConverge(), patience_s=60)
    assert not stock.converged
    assert course.converged
    # 14 passes of more than a second take it from 20 % to 80 % at the earliest.
    assert course.total_s > 5
    assert 0.2 < course.throttled_s / course.total_s < 0.99


def test_descend_keeps_the_limit_below_what_it_saw():
    policy = Descend(patience_s=5.0)
    limits = []
    for number, pending in enumerate([1000, 990, 960, 2000, 900], start=2):
        action = policy.after(a_pass(number, number * 1.0, 0, 0, pending))
        assert not action.give_up
        assert not action.stop
        limits.append(action.downtime_limit_s * 40e6 / 4096)
    # 990 is not 3 % lower than 1000.
    assert limits == pytest.approx([0.97 * n for n in (1000, 1000, 960, 960, 900)])
    assert [done.pending_pages for done in policy.lowest] == [1000, 960, 900]


def test_descend_gives_up_after_its_patience_and_ten_passes():
    for apart_s, n_passes in [(0.1, 51), (1.0, 11), (10.0, 11)]:
        policy = Descend(patience_s=5.0)
        gave_up = [
            policy.after(a_pass(number, number * apart_s, 0, 0, 1000)).give_up
            for number in range(60)
        ]
        assert gave_up.index(True) == pytest.approx(n_passes, abs=1)


def test_descend_finds_the_hot_set():
    policy = Descend(patience_s=3.0)
    course = migrate(HOT, 1e-9, policy=policy, patience_s=60)
    assert not course.converged
    assert policy.lowest[-1].pending_pages == pytest.approx(2 * LIMIT_PAGES, rel=0.03)


def test_descend_ends_with_an_idle_guest():
    course = migrate(idle(PAGES, 10), 1e-9, policy=Descend(3.0))
    assert course.converged
    assert course.passes[-1].pending_pages == 0
