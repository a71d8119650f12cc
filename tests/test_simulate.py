"""Policies replayed over one recording: courses computed by hand, and what holds of any."""

import itertools
import math

import numpy as np
import pytest
from effort import examples
from hypothesis import given
from hypothesis import strategies as st
from migrations import BANDWIDTH, BARE, LIMIT_PAGES, PAGE_S, PAGES
from model import to_pages, to_words
from recordings import (
    PROVENANCE,
    hot,
    idle,
    record,
    square_wave,
    sweep,
    uniform,
)

from mempattern import Interval, Region, errors
from mempattern.migration.policies import NOTHING, Action, Policy, Relaxed, Stock
from mempattern.migration.recording import Recording
from mempattern.migration.registry import POLICIES
from mempattern.migration.simulate import simulate

STEP_PAGES = 530
"""That a step of 51 ms and what 32 pages take sends (see test_a_step)."""
SWITCHOVER_S = BARE.switchover_s
HOT = hot(PAGES, 40, int(2 * LIMIT_PAGES))


def replayed(recording, policies, ceiling_s=1.0, bandwidth=BANDWIDTH, **options):
    if not isinstance(recording, Recording):
        recording = record(recording)
    return simulate(recording, policies, bandwidth, ceiling_s, **({"host": BARE} | options))


def of_stock(recording, **options):
    (outcome,) = replayed(recording, {"stock": Stock}, **options)
    return outcome


class Told(Policy):
    """Does so when it is asked there the `number`-th time; keeps what it was told of."""

    poll_s = 0.0

    def __init__(self, where="after", action=NOTHING, number=1):
        self.tasks, self.passes, self.polls, self.watched = [], [], [], []
        self._where, self._action, self._number = where, action, number

    def _act(self, where, seen):
        if where != self._where or len(seen) != self._number:
            return NOTHING
        return self._action() if callable(self._action) else self._action

    def begin(self, task):
        self.tasks.append(task)
        return self._act("begin", self.tasks)

    def after(self, done):
        self.passes.append(done)
        return self._act("after", self.passes)

    def poll(self, now):
        self.polls.append(now)
        return self._act("poll", self.polls)

    def watch(self, interval):
        self.watched.append(interval)
        self._act("watch", self.watched)


class NeverStops(Policy):
    def begin(self, task):
        return Action(downtime_limit_s=0.0)


# ---- courses by hand -----------------------------------------------------------------------------


def test_an_idle_guest():
    """33 steps leave 2510 pages, less than the 2929.7 of the limit."""
    stock = of_stock(idle(PAGES, 40))
    assert (stock.policy, stock.end, stock.success, stock.error) == ("stock", "completed", True, "")
    assert stock.passes == 3
    assert stock.downtime_s == pytest.approx(2510 * PAGE_S + SWITCHOVER_S)
    assert stock.total_s == pytest.approx(PAGES * PAGE_S + SWITCHOVER_S)
    assert stock.sent_bytes == PAGES * 4104
    assert stock.throttled_s == stock.postcopy_pages == stock.extrapolated_s == 0


def test_a_hot_set():
    """2000 pages more: three steps of 4510 leave 2920, in which all that is hot is again."""
    stock = of_stock(hot(PAGES, 40, 2000))
    assert stock.passes == 4
    assert stock.sent_bytes == (36 * STEP_PAGES + 2920) * 4104
    assert stock.downtime_s == pytest.approx(2920 * PAGE_S + SWITCHOVER_S)
    assert stock.total_s == pytest.approx((PAGES + 2000) * PAGE_S + SWITCHOVER_S)


def test_a_sweep():
    """300 pages a tenth of a second, none of them waiting to be sent: after 33 steps 2510 + 5383
    are pending, after 10 more 2593 + 1631, after 3 more 2634 + 489, after one more 2593 + 163."""
    stock = of_stock(sweep(PAGES, 60, 300))
    assert stock.passes == 6
    sent_pages = 47 * STEP_PAGES + 2593 + 163
    assert stock.sent_bytes == pytest.approx(sent_pages * 4104, abs=40 * 4104)
    assert stock.downtime_s == pytest.approx(2756 * PAGE_S + SWITCHOVER_S, abs=40 * PAGE_S)
    assert stock.total_s == pytest.approx(sent_pages * PAGE_S + SWITCHOVER_S, abs=40 * PAGE_S)


def test_a_square_wave():
    """6000 pages are hot for two seconds. 33 steps leave 2510 and find these; 11 more leave 2680 of
    them, and find all of them written before the trough; 6 more leave 2820."""
    stock = of_stock(square_wave(PAGES, 80, 20, 6000))
    assert stock.passes == 5
    assert stock.sent_bytes == (50 * STEP_PAGES + 2820) * 4104
    assert stock.downtime_s == pytest.approx(2820 * PAGE_S + SWITCHOVER_S)
    assert stock.total_s == pytest.approx((50 * STEP_PAGES + 2820) * PAGE_S + SWITCHOVER_S)


def test_throttling():
    """Half of the time from the start: the sweep is half as fast, and half of the time is taken."""
    (outcome,) = replayed(
        sweep(PAGES, 60, 600), {"half": lambda: Told("begin", Action(throttle=0.5))}
    )
    at_half = of_stock(sweep(PAGES, 60, 300))
    assert outcome.total_s == pytest.approx(at_half.total_s, abs=80 * PAGE_S)
    running_s = outcome.total_s - outcome.downtime_s
    assert outcome.throttled_s == pytest.approx(running_s / 2)


def test_the_ceiling_is_told_to_policies_and_the_limit_is_qemus():
    relaxed, stock, low = (
        replayed(idle(PAGES, 40), {"a": make}, ceiling_s=0.6, downtime_limit_s=limit_s)[0]
        for make, limit_s in [(Relaxed, 0.3), (Stock, 0.3), (Stock, 0.1)]
    )
    # 27 and 36 steps leave 5690 and 920, of 5859.4 and 976.6.
    assert relaxed.downtime_s == pytest.approx(5690 * PAGE_S + SWITCHOVER_S)
    assert stock.downtime_s == pytest.approx(2510 * PAGE_S + SWITCHOVER_S)
    assert low.downtime_s == pytest.approx(920 * PAGE_S + SWITCHOVER_S)


# ---- policies that do not let it end -------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64, int])
def test_numbers_of_any_kind(kind):
    action = Action(downtime_limit_s=kind(2), throttle=kind(1))
    (outcome,) = replayed(HOT, {"a": lambda: Told("begin", action)})
    assert outcome.end == "completed"
    running_s = outcome.total_s - outcome.downtime_s
    assert outcome.throttled_s == pytest.approx(0.99 * running_s)
    assert type(outcome.throttled_s) is float


# ---- a policy that ends it -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "n_steps", "pages"),
    [("begin", 0, PAGES), ("poll", 1, PAGES), ("after", 33, 2510 + 5859)],
)
def test_stopping_at_once(where, n_steps, pages):
    """After the first step all 5859 hot pages, of which 530 were sent, are written again."""
    (outcome,) = replayed(HOT, {"a": lambda: Told(where, Action(stop=True))}, start_s=1.0)
    assert outcome.end == "completed"
    # Of what is always hot, half an interval writes 97 %.
    assert outcome.downtime_s == pytest.approx(
        pages * PAGE_S + SWITCHOVER_S, abs=0.1 * STEP_PAGES * PAGE_S
    )
    assert outcome.total_s == pytest.approx(n_steps * STEP_PAGES * PAGE_S + outcome.downtime_s)
    assert outcome.postcopy_pages == 0


@pytest.mark.parametrize(("where", "n_steps"), [("begin", 0), ("poll", 1), ("after", 33)])
def test_postcopy(where, n_steps):
    """The guest waits for the switchover only; what was pending is missing there, and sent."""
    stopped, gone = replayed(
        HOT,
        {
            "stop": lambda: Told(where, Action(stop=True)),
            "post-copy": lambda: Told(where, Action(postcopy=True, stop=True)),
        },
    )
    assert gone.end == "completed"
    assert gone.downtime_s == SWITCHOVER_S
    assert gone.total_s == pytest.approx(stopped.total_s)
    assert gone.sent_bytes == stopped.sent_bytes
    assert gone.sent_bytes == (n_steps * STEP_PAGES + gone.postcopy_pages) * 4104
    assert gone.total_s == pytest.approx(gone.sent_bytes / BANDWIDTH + SWITCHOVER_S)


# ---- where it begins, and where the trace ends ---------------------------------------------------


@pytest.mark.parametrize("number", range(41))
def test_what_was_observed_are_the_intervals_before(number):
    """Whatever 0.1 s times the number is rounded to."""
    rows = uniform(1000, 40, 30)
    seen = []

    class Looks(Policy):
        def begin(self, task):
            seen.append(task.observed())
            return NOTHING

    replayed(rows, {"a": Looks, "b": Looks}, start_s=number * 0.1)
    assert seen[0] is seen[1]  # it is made once for all
    if number == 0:
        assert seen[0] is None
    else:
        np.testing.assert_array_equal(
            [to_pages(one.bitmaps["ram"], 1000) for one in seen[0]], rows[:number]
        )


def test_an_interval_that_is_not_over_was_not_observed():
    recording = record(idle(64, 30), lost_pages=3)
    assert recording.until(0.099) is None
    assert len(recording.until(0.199)) == 1
    assert len(recording.until(1e9)) == 30
    assert recording.until(1.0).lost_pages == 30


def test_nothing_that_is_yet_to_come_is_observed():
    """Two recordings that begin alike are observed alike."""
    rows = uniform(1000, 40, 30)
    others = rows.copy()
    others[20:] = True
    first, second = (record(one).until(2.0) for one in (rows, others))
    np.testing.assert_array_equal(first.dirty_pages, second.dirty_pages)
    assert first.loop_s == second.loop_s
    np.testing.assert_array_equal(first.ever[0], second.ever[0])


@pytest.mark.parametrize("start_s", [0.0, 1.5, 3.0, 4.0])
def test_it_begins_in_the_middle(start_s):
    """What is written from then on counts: hot until 1.5 s, and from 3 s on."""
    rows = hot(PAGES, 80, 2500)
    rows[15:30] = False
    stock = of_stock(rows, start_s=start_s)
    if start_s == 1.5:  # 1.5 s idle, of 1.8 s until the first sync
        assert stock == of_stock(hot(PAGES, 80, 2500))
    again = of_stock(rows[int(start_s * 10) :])
    assert (stock.total_s, stock.downtime_s) == (again.total_s, again.downtime_s)


def test_a_trace_that_is_shorter_than_the_migration():
    """Of 1.79 s until the guest is stopped, 0.5 s were recorded."""
    recording = record(idle(PAGES, 20))
    policies = {"stock": Stock, "relaxed": Relaxed, "never": NeverStops}
    stock, relaxed, _ = replayed(recording, policies, start_s=1.5)
    assert stock.extrapolated_s == pytest.approx(33 * STEP_PAGES * PAGE_S - 0.5)
    # 19 steps leave 9930 pages.
    assert relaxed.extrapolated_s == pytest.approx(20 * STEP_PAGES * PAGE_S - 0.5)
    for outcome in replayed(recording, policies, start_s=1.5, past_end="refuse"):
        assert outcome.end == "trace ended"
        assert not outcome.success
        assert "the trace ends after 2.0 s" in outcome.error
        assert math.isnan(outcome.total_s)


def test_a_trace_that_is_long_enough_for_some():
    """It refuses those for which it is too short; the pause may lie beyond its end."""
    recording = record(hot(PAGES, 18, 1000))
    policies = {"stock": Stock, "relaxed": Relaxed, "never": NeverStops}
    outcomes = replayed(recording, policies, past_end="refuse")
    assert [one.end for one in outcomes] == ["trace ended", "completed", "trace ended"]
    assert outcomes[1] == replayed(recording, {"relaxed": Relaxed})[0]
    assert outcomes[1].extrapolated_s == 0
    assert outcomes[1].total_s > 1.8


def test_what_is_extrapolated_is_each_ones_own():
    """The oracle plays the migration several times, and throttled guests need less of the trace."""
    recording = record(HOT)
    policies = {
        "stock": Stock,
        "half": lambda: Told("begin", Action(throttle=0.5)),
        "oracle": None,
    }
    outcomes = replayed(recording, policies, patience_s=10.0)
    for outcome in outcomes:
        pause_s = 0.0 if math.isnan(outcome.downtime_s) else outcome.downtime_s
        ran_s = outcome.total_s - pause_s - outcome.throttled_s
        assert outcome.extrapolated_s == pytest.approx(max(ran_s - 4.0, 0.0))
    assert outcomes[0].extrapolated_s > 6 > outcomes[1].extrapolated_s


# ---- memory of any kind --------------------------------------------------------------------------


@pytest.mark.parametrize("garbage", [None, np.random.default_rng(1)])
def test_zero_pages(garbage):
    zero = np.arange(PAGES - 1) % 2 == 0
    seen = []

    class Looks(Policy):
        def begin(self, task):
            seen.append(task.zero_pages)
            return NOTHING

    (outcome,) = replayed(idle(PAGES - 1, 40), {"a": Looks}, zero=[to_words(zero, garbage)])
    assert seen == [PAGES // 2]
    assert outcome.sent_bytes == (PAGES // 2 - 1) * 4104 + PAGES // 2 * 9


def test_zero_pages_of_too_few_regions():
    with pytest.raises(errors.UsageError, match="zero pages for each of the 1 regions, not 0"):
        replayed(idle(PAGES, 40), {"stock": Stock}, zero=[])


def of_regions(*regions, n_intervals=30, pages=()):
    words = {r.name: to_words(np.isin(np.arange(r.n_pages), pages)) for r in regions}
    return [
        Interval(number, number * 10**8, (number + 1) * 10**8, regions, words, PROVENANCE)
        for number in range(n_intervals)
    ]


def test_pages_of_another_size():
    """64 KiB, and a header each."""
    recording = Recording(of_regions(Region("ram", 1250, 1 << 16)))
    stock = of_stock(recording)
    assert stock.sent_bytes == 1250 * (65536 + 8)
    assert stock.total_s == pytest.approx(stock.sent_bytes / BANDWIDTH + SWITCHOVER_S)


def test_pages_of_several_sizes():
    regions = Region("ram", 64), Region("huge", 64, 2 << 20)
    with pytest.raises(errors.UsageError, match=r"pages of \[4096, 2097152\] bytes"):
        Recording(of_regions(*regions))


def test_regions_that_grow():
    """It migrates what the newest interval has, with what was written in the smaller regions."""
    small, large = Region("heap", 5000), Region("heap", 20_000)
    grown = of_regions(small, n_intervals=20, pages=range(2000))
    later = of_regions(large, n_intervals=40, pages=range(2000))[20:]
    always = Recording(of_regions(large, n_intervals=40, pages=range(2000)))
    policies = {"stock": Stock, "best": POLICIES["best"], "oracle": None}
    assert replayed(Recording(grown + later), policies) == replayed(always, policies)


# ---- what holds of any recording -----------------------------------------------------------------


@st.composite
def recordings(draw):
    n_pages, n_intervals = draw(st.integers(200, 3000)), draw(st.integers(5, 40))
    seed = draw(st.integers(0, 2**20))
    rows = uniform(n_pages, n_intervals, draw(st.floats(0, n_pages)), seed)
    rows |= square_wave(
        n_pages, n_intervals, draw(st.integers(1, 20)), draw(st.integers(0, n_pages))
    )
    return rows


@examples(15)
@given(
    rows=recordings(),
    names=st.permutations([name for name in POLICIES if name != "best"]),
    start=st.floats(0, 0.9),
    n_zero=st.integers(0, 500),
    chunk_pages=st.sampled_from([0, 512, 1 << 18]),
)
def test_no_policy_depends_on_those_before_it(rows, names, start, n_zero, chunk_pages):
    """Nor on how often it was played: the same call has the same outcomes."""
    n_pages = rows.shape[1]
    zero = [to_words(np.random.default_rng(n_zero).permutation(n_pages) < n_zero)]
    bandwidth = n_pages * 4104 / 0.8

    def outcomes(names):
        policies = {name: POLICIES[name] for name in names}
        found = simulate(
            recording, policies, bandwidth, 0.4, start_s=start * recording.duration_s, zero=zero,
            chunk_pages=chunk_pages, patience_s=3.0,
        )  # fmt: skip
        assert [one.policy for one in found] == list(names)
        assert not any(one.end == "failed" for one in found)
        return {one.policy: repr(one) for one in found}  # NaN is NaN

    recording = record(rows)
    first = outcomes(names)
    assert outcomes(names) == first
    assert outcomes(names[::-1]) == first
    assert outcomes(names[:1]) == {names[0]: first[names[0]]}


class Finds(Told):
    """Keeps the pages that each sync found, and the moment."""

    def begin(self, task):
        self.found = []
        return Action(downtime_limit_s=0.001)

    def after(self, done):
        found = done.found()
        n_pages = found.regions[0].n_pages
        self.found.append((found, to_pages(found.bitmaps["ram"], n_pages), done))
        return NOTHING


@examples(20)
@given(rows=recordings(), start=st.integers(0, 10), chunk_pages=st.sampled_from([0, 512, 1 << 18]))
def test_what_a_policy_sees_of_pages(rows, start, chunk_pages):
    """A sync finds what was written since the one before: all that was in the intervals in between,
    and nothing that was in none. A tracer sees the intervals."""
    n_intervals, n_pages = rows.shape
    start = min(start, n_intervals - 1)
    recording = record(rows)
    policy = Finds()
    replayed(
        recording, {"a": lambda: policy}, start_s=start * 0.1, chunk_pages=chunk_pages,
        bandwidth=n_pages * 4104 / 0.8, patience_s=4.0,
    )  # fmt: skip
    loop = round(recording.loop_s * 10)
    order = [*range(start, n_intervals), *list(range(loop, n_intervals)) * 60]
    before_s = 0.0
    for found, pages, done in policy.found:
        assert found.start_ns == pytest.approx(before_s * 1e9, abs=2)
        first, last = before_s * 10, done.at_s * 10
        touched = rows[order[math.floor(first + 1e-6) : math.ceil(last - 1e-6)]].any(axis=0)
        whole = rows[order[math.ceil(first - 1e-6) : math.floor(last + 1e-6)]].any(axis=0)
        assert not (pages & ~touched).any()
        assert not (whole & ~pages).any()
        assert done.fresh_pages <= pages.sum()
        before_s = done.at_s
    assert [one.index for one in policy.watched] == list(range(len(policy.watched)))
    for number, one in enumerate(policy.watched):
        np.testing.assert_array_equal(to_pages(one.bitmaps["ram"], n_pages), rows[order[number]])
        assert one.end_ns == pytest.approx((number + 1) * 1e8, abs=10)
    for earlier, later in itertools.pairwise(policy.watched):
        assert earlier.end_ns == later.start_ns


@pytest.mark.parametrize("number", range(30))
def test_no_interval_is_missed_by_both_looking_before_and_watching(number):
    """Wherever it begins, even where 0.1 s times the number is not quite the interval's end."""
    recording = record(np.eye(30, 3000, dtype=bool))
    policy = Told()
    replayed(recording, {"a": lambda: policy}, start_s=number * 0.1, bandwidth=30e6)
    seen = list(recording.until(number * 0.1) or []) + policy.watched
    pages = [int(one.pages("ram")[0]) for one in seen]
    assert pages[:30] == list(range(min(len(pages), 30)))


@pytest.mark.parametrize(
    ("name", "value"),
    [("start_s", -0.1), ("start_s", 4.1), ("start_s", math.nan), ("ceiling_s", 0.0),
     ("downtime_limit_s", math.nan), ("patience_s", 0), ("patience_s", -1.0),
     ("bandwidth", 0.0), ("bandwidth", "1Gbit")],
)  # fmt: skip
def test_numbers_that_make_no_sense(name, value):
    with pytest.raises(errors.UsageError, match=f"^{name} must be a"):
        replayed(HOT, {"stock": Stock}, **{name: value})
