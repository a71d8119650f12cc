"""What a migration asks a policy and does for it: polls, stops, throttling, deferral, watching."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from migrations import BANDWIDTH, BARE, LIMIT_PAGES, LIMIT_S, PAGE_S, PAGES, STEP_S, migrate
from model import to_words
from paged_memory import PagedMemory
from recordings import PROVENANCE, hot, idle, record, uniform

from mempattern import Interval, Region, errors
from mempattern.migration.policies import NOTHING, Action, Policy
from mempattern.migration.precopy import Host, precopy
from mempattern.migration.replayed import ReplayedMemory

STEP_PAGES = 530
HOT = hot(PAGES, 40, int(2 * LIMIT_PAGES))


class Polls(Policy):
    """Acts at the polls of these numbers, from 1 on."""

    sees_ahead = True

    def __init__(self, poll_s=0.0, actions=None):
        self.poll_s, self.told, self._actions = poll_s, [], actions or {}

    def poll(self, now):
        self.told.append((now, now.downtime_s()))
        return self._actions.get(len(self.told), NOTHING)


def pages_of(*pages, n_pages=PAGES):
    words = {"ram": to_words(np.isin(np.arange(n_pages), pages))}
    return Interval(0, 0, 1, (Region("ram", n_pages),), words, PROVENANCE)


# ---- polls ---------------------------------------------------------------------------------------


def test_a_poll_after_each_step():
    policy = Polls()
    course = migrate(idle(PAGES, 40), policy=policy)
    assert len(policy.told) == 33
    for number, (now, _) in enumerate(policy.told, 1):
        assert now.at_s == pytest.approx(number * STEP_PAGES * PAGE_S)
        assert now.sent_bytes == number * STEP_PAGES * 4104
        assert now.pending_pages == PAGES - number * STEP_PAGES
        assert (now.number, now.limit_s, now.page_bytes) == (1, LIMIT_S, 4096)
        assert now.bandwidth_Bps == (pytest.approx(BANDWIDTH) if number > 1 else 0)
    assert course == migrate(idle(PAGES, 40))  # nothing changes by that


@pytest.mark.parametrize("poll_s", [0.02, 0.1, 0.5, 1.7, 3.0, math.inf])
def test_polls_come_at_their_time(poll_s):
    """At the first step that ends so long after the last one, whatever passes do."""
    policy = Polls(poll_s)
    course = migrate(HOT, policy=policy, patience_s=20)
    at_s = [0.0, *(now.at_s for now, _ in policy.told)]
    assert course.total_s - at_s[-1] < poll_s + STEP_S
    for before, after in itertools.pairwise(at_s):
        assert poll_s <= after - before < poll_s + STEP_S
    assert course.passes == migrate(HOT, patience_s=20).passes


def test_no_poll_of_a_policy_that_asks_for_none():
    policy = Polls(math.inf)
    migrate(idle(PAGES, 40), policy=policy)
    assert policy.told == []


@given(
    seed=st.integers(0, 2**20), writes=st.floats(0, 2000), n_zero=st.integers(0, 2000),
    number=st.integers(1, 40), buffer_s=st.sampled_from([0.0, 0.02]),
)  # fmt: skip
def test_a_replay_knows_what_the_downtime_would_be(seed, writes, n_zero, number, buffer_s):
    """The very one that a stop at that moment has."""
    rows = uniform(3000, 20, writes, seed)
    zero = np.random.default_rng(seed).permutation(3000) < n_zero
    policy = Polls(actions={number: Action(stop=True)})
    course = migrate(
        rows, 0.01, policy=policy, zero=zero, host=Host(1e5, buffer_s, 0.004, 0.03), patience_s=9
    )
    if len(policy.told) == number:
        now, downtime_s = policy.told[-1]
        assert course.downtime_s == pytest.approx(downtime_s)
        assert course.total_s == pytest.approx(now.at_s + downtime_s)


def test_a_memory_that_does_not_know_its_pages_says_so():
    policy = Polls()
    memory = PagedMemory(PAGES, lambda start_s, end_s: np.zeros(PAGES, bool))

    class Counted:
        """Only the calls of a `Memory`."""

        page_bytes, n_pages = 4096, PAGES
        start, run, sync, send = memory.start, memory.run, memory.sync, memory.send
        pending_pages = property(lambda self: memory.pending_pages)

    precopy(Counted(), BANDWIDTH, LIMIT_S, policy=policy, host=BARE)
    assert all(math.isnan(downtime_s) for _, downtime_s in policy.told)
    defers = Polls(actions={1: Action(defer=pages_of(1))})
    with pytest.raises(errors.UsageError, match="only where they are known: replay a trace"):
        precopy(Counted(), BANDWIDTH, LIMIT_S, policy=defers, host=BARE)


# ---- what they may do ----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2, 10, 32])
def test_a_stop_in_the_midst_of_a_pass(number):
    """Nothing is written: what is left of the pass is sent in the pause."""
    course = migrate(idle(PAGES, 40), policy=Polls(actions={number: Action(stop=True)}))
    assert course.converged
    left = PAGES - number * STEP_PAGES
    assert course.downtime_s == pytest.approx(left * PAGE_S + 0.004)
    assert course.total_s == pytest.approx(PAGES * PAGE_S + 0.004)
    # The first sync, one for the stop, one in the pause.
    assert [done.pending_pages for done in course.passes] == [PAGES, left, left]


def test_a_stop_in_the_midst_of_a_pass_finds_what_was_written():
    """At 0.544 s, when 5300 pages are sent: 3000 of these were written."""
    rows = idle(PAGES, 40)
    rows[3, 1000:4000] = True
    course = migrate(rows, policy=Polls(actions={10: Action(stop=True)}))
    assert course.passes[-1].pending_pages == PAGES - 10 * STEP_PAGES + 3000
    assert course.downtime_s == pytest.approx((PAGES - 2300) * PAGE_S + 0.004)


def test_a_limit_that_a_poll_sets_ends_the_pass():
    """10,820 pages are left at the step at which it becomes 1.5 s (14,648 pages)."""
    raised = {3: Action(downtime_limit_s=1e-9), 18: Action(downtime_limit_s=1.5)}
    policy = Polls(actions=raised)
    course = migrate(idle(PAGES, 40), policy=policy)
    assert [done.limit_s for done in course.passes] == [LIMIT_S, 1.5, 1.5]
    left = PAGES - 18 * STEP_PAGES
    assert course.downtime_s == pytest.approx(left * PAGE_S + 0.004)
    assert len(policy.told) == 18


@pytest.mark.parametrize("throttle", [0.0, 0.5, 0.99, 1.0])
def test_throttling_from_a_poll_on(throttle):
    """The guest has 1 - t of the time from the 10th step on, and never none at all."""
    ran_s = []

    class Guest(PagedMemory):
        def run(self, duration_s):
            ran_s.append(duration_s)
            super().run(duration_s)

    memory = Guest(PAGES, lambda start_s, end_s: np.zeros(PAGES, bool))
    policy = Polls(actions={10: Action(throttle=throttle), 20: NOTHING, 30: Action(throttle=0)})
    course = precopy(memory, BANDWIDTH, LIMIT_S, policy=policy, host=BARE)
    at_s = [now.at_s for now, _ in policy.told]
    throttled_s = min(throttle, 0.99) * (at_s[29] - at_s[9])
    assert course.throttled_s == pytest.approx(throttled_s)
    assert sum(ran_s) == pytest.approx(at_s[-1] - throttled_s)
    assert min(ran_s) > 0


@pytest.mark.parametrize("number", [1, 17])
def test_postcopy_from_a_poll(number):
    course = migrate(HOT, policy=Polls(actions={number: Action(postcopy=True)}))
    assert course.converged
    assert course.downtime_s == 0.004
    assert course.sent_bytes == (number * STEP_PAGES + course.postcopy_pages) * 4104
    assert course.total_s == pytest.approx(course.sent_bytes / BANDWIDTH + 0.004)
    assert course.postcopy_pages == course.passes[-1].pending_pages


@pytest.mark.parametrize(
    ("action", "converged", "sent_pages"),
    [(Action(give_up=True), False, 0), (Action(stop=True), True, PAGES),
     (Action(postcopy=True), True, PAGES)],
)  # fmt: skip
def test_a_migration_that_ends_as_it_begins(action, converged, sent_pages):
    class AtOnce(Policy):
        def begin(self, task):
            return action

    course = migrate(idle(PAGES, 40), policy=AtOnce(), host=Host(1e6, 0.0, 0.004, 0.03))
    assert (course.converged, course.cancelled) == (converged, not converged)
    assert course.sent_bytes == sent_pages * 4104
    pause_s = 0.004 if converged else 0.0
    assert course.total_s == pytest.approx(0.03 + pause_s + sent_pages * PAGE_S)
    if action.stop:
        assert course.downtime_s == pytest.approx(PAGES * PAGE_S + 0.004)


# ---- deferral ------------------------------------------------------------------------------------


class Sends(PagedMemory):
    """Keeps how often each page was sent, and how often in the pause."""

    def start(self, seed):
        super().start(seed)
        self.sent, self.sent_last = np.zeros((2, self.n_pages), int)

    def send(self, duration_s, page_s, zero_page_s):
        before = self.pending.copy()
        sent = super().send(duration_s, page_s, zero_page_s)
        self.sent += before & ~self.pending
        if math.isinf(duration_s):
            self.sent_last += before & ~self.pending
        return sent


class Defers(Policy):
    def __init__(self, interval):
        self._interval = interval

    def begin(self, task):
        return Action(defer=self._interval)


def test_deferred_pages_are_sent_once_and_in_the_pause():
    """2500 pages, always written: without that they are sent twice, or more."""
    writes = (np.arange(PAGES) >= 3000) & (np.arange(PAGES) < 5500)
    memory = Sends(PAGES, lambda start_s, end_s: writes)
    policy = Defers(pages_of(*range(3000, 5500)))
    course = precopy(memory, BANDWIDTH, LIMIT_S, policy=policy, host=BARE, patience_s=30)
    assert course.converged
    assert course.sent_bytes == PAGES * 4104
    assert (memory.sent == 1).all()
    assert (memory.sent_last[writes] == 1).all()
    # With the others that the last step left.
    assert 2500 * PAGE_S <= course.downtime_s - 0.004 <= LIMIT_S
    plain = Sends(PAGES, lambda start_s, end_s: writes)
    precopy(plain, BANDWIDTH, LIMIT_S, host=BARE, patience_s=30)
    assert (plain.sent[writes] >= 2).all()


@pytest.mark.parametrize("chunk_pages", [0, 512, 1 << 18])
def test_deferred_pages_of_a_replay(chunk_pages):
    """The same, page by page in the C core."""
    rows = hot(PAGES, 40, 2500, 3000)
    policy = Defers(pages_of(*range(3000, 5500)))
    course = migrate(rows, policy=policy, chunk_pages=chunk_pages, patience_s=30)
    assert course.converged
    assert course.sent_bytes == PAGES * 4104
    assert course.passes[-1].pending_pages >= 2500


def test_deferred_pages_count_as_remaining():
    """4000 take longer than the limit: with all others sent it goes on, and time passes."""
    policy = Defers(pages_of(*range(4000)))
    course = migrate(hot(PAGES, 40, 4000), policy=policy, patience_s=10)
    assert not course.converged
    assert 10 <= course.total_s < 10 + STEP_S
    assert course.sent_bytes == (PAGES - 4000) * 4104
    for done in course.passes[-10:]:
        assert done.pending_pages == 4000


def test_while_only_deferred_pages_are_left_the_guest_runs_and_is_watched():
    """They are let go by a poll at some 5 s, sent, and it ends."""
    polls = []

    class LetsGo(Defers):
        poll_s = 5.0

        def __init__(self):
            super().__init__(pages_of(*range(4000)))
            self.seen = []

        def watch(self, interval):
            self.seen.append(interval)

        def poll(self, now):
            polls.append(now.at_s)
            return Action(defer=pages_of())

    policy = LetsGo()
    rows = hot(PAGES, 40, 4000)
    rows[20:] = False
    course = migrate(rows, policy=policy, patience_s=30)
    assert polls == [pytest.approx(5.0, abs=STEP_S)]
    assert course.converged
    assert course.sent_bytes == PAGES * 4104
    assert course.total_s == pytest.approx(polls[0] + 4000 * PAGE_S, abs=2 * STEP_S)
    running_s = course.total_s - course.downtime_s
    assert len(policy.seen) == pytest.approx(running_s / 0.1, abs=1)


@given(
    seed=st.integers(0, 2**20), share=st.floats(0, 1), writes=st.floats(0, 3000),
    limit_s=st.floats(0.01, 1), chunk_pages=st.sampled_from([0, 512, 1 << 18]),
)  # fmt: skip
def test_any_deferral_adds_up(seed, share, writes, limit_s, chunk_pages):
    """Nothing of it is sent before the pause, and all of it in it."""
    rng = np.random.default_rng(seed)
    rows, deferred = uniform(3000, 20, writes, seed), np.flatnonzero(rng.random(3000) < share)
    policy = Defers(pages_of(*deferred, n_pages=3000))
    course = migrate(rows, limit_s, policy=policy, chunk_pages=chunk_pages, patience_s=3)
    for done in course.passes:
        assert done.pending_pages >= len(deferred)
    if course.converged:
        assert course.downtime_s >= len(deferred) * PAGE_S
        last = course.passes[-1]
        assert course.sent_bytes == last.sent_bytes + last.pending_pages * 4104
        assert course.sent_bytes >= 3000 * 4104


# ---- watching ------------------------------------------------------------------------------------


def test_a_policy_is_told_of_intervals_that_are_over_by_the_poll():
    class Watches(Polls):
        def __init__(self):
            super().__init__()
            self.n_seen, self.at = 0, []

        def watch(self, interval):
            self.n_seen += 1
            assert interval.index == self.n_seen - 1

        def poll(self, now):
            self.at.append((now.at_s, self.n_seen))
            return NOTHING

    policy = Watches()
    migrate(HOT, policy=policy, patience_s=9)
    for at_s, n_seen in policy.at:
        assert n_seen == pytest.approx(at_s / 0.1, abs=1)
        assert n_seen <= at_s / 0.1 + 1e-6


def test_nobody_makes_bitmaps_that_nobody_watches():
    class Unseen(ReplayedMemory):
        def seen(self):
            raise AssertionError("nobody asked")

    precopy(Unseen(record(idle(PAGES, 40)), [0.0]), BANDWIDTH, LIMIT_S, policy=Polls(), host=BARE)
