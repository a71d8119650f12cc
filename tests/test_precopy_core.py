"""A recording's pages in a migration, against a model with an array of bools for each bitmap."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from model import make_pages, to_pages, to_words
from recordings import hot, idle, record, uniform

from mempattern import Interval, Provenance, Region
from mempattern.migration.memory import PageMemory
from mempattern.migration.recording import Recording
from mempattern.migration.replayed import ReplayedMemory, TraceEndError

SIZES = st.sampled_from([1, 63, 64, 65, 500, 513, 2000])
KINDS = st.sampled_from(
    ["zero", "one", "edges", "sparse", "clustered", "hot spot", "dense", "full"]
)
SEEDS = st.integers(0, 2**20)
CUTS = st.lists(st.floats(0, 1), max_size=5).map(lambda cuts: np.diff([0.0, *sorted(cuts), 1.0]))


class ModelMigration:
    """The bitmaps of QEMU 7.2 and of KVM: one array each over the pages of all regions."""

    def __init__(self, sizes, chunk_pages, zero):
        n_pages = sum(sizes)
        self.pending = np.ones(n_pages, bool)  # RAMBlock.bmap
        self.log = np.full(n_pages, chunk_pages > 0)  # KVM's
        self.fetched = self.log.copy()  # KVMSlot.dirty_bmap
        self.zero = zero.copy()
        self.at = 0
        # A page's chunk, none lying in two regions.
        parts = [np.arange(size) // max(chunk_pages, 1) for size in sizes]
        self.chunk = np.concatenate([part + 10**6 * r for r, part in enumerate(parts)])
        self.region = np.repeat(np.arange(len(sizes)), sizes)
        self.clears_late = chunk_pages > 0
        self.to_clear = set(self.chunk.tolist())
        self.deferred = np.zeros(n_pages, bool)
        self.written, self.found = np.zeros(n_pages, bool), np.zeros(n_pages, bool)

    def write(self, pages):
        self.log |= pages
        self.written |= pages
        self.zero &= ~pages

    def sync(self):
        self.fetched = self.log.copy()
        self.pending |= self.log
        if not self.clears_late:
            self.log[:] = False
        self.to_clear = set(self.chunk.tolist())
        self.found, self.written = self.written, np.zeros_like(self.written)

    def send(self, budget, page_cost, zero_cost):
        pages, zeros, cost = 0, 0, 0.0
        while cost < budget and (self.pending & ~self.deferred).any():
            around = np.roll(np.arange(self.pending.size), -self.at)
            page = int(around[(self.pending & ~self.deferred)[around]][0])
            if self.clears_late and self.chunk[page] in self.to_clear:
                self.to_clear.discard(self.chunk[page])
                cleared = (self.chunk == self.chunk[page]) & self.fetched
                self.log[cleared] = self.fetched[cleared] = False
            self.pending[page] = False
            pages += 1
            zeros += int(self.zero[page])
            cost += zero_cost if self.zero[page] else page_cost
            self.at = (page + 1) % self.pending.size
            # With nothing left it has searched to the region's end.
            if cost < budget and not (self.pending & ~self.deferred).any():
                self.at = int(np.flatnonzero(self.region == self.region[page])[-1] + 1)
                self.at %= self.pending.size
        return pages, zeros, cost


class ReplayMachine(RuleBasedStateMachine):
    @initialize(
        sizes=st.lists(SIZES, min_size=1, max_size=3),
        chunk_pages=st.sampled_from([0, 64, 512, 1 << 18]),
        kinds=st.lists(KINDS, min_size=1, max_size=6),
        durations_ns=st.lists(st.integers(10**6, 3 * 10**9), min_size=6, max_size=6),
        seed=SEEDS,
    )
    def begin(self, sizes, chunk_pages, kinds, durations_ns, seed):
        rng = np.random.default_rng(seed)
        regions = tuple(Region(f"slot {number}", size) for number, size in enumerate(sizes))
        self.rows, made, now = [], [], 0
        for kind, duration in zip(kinds, durations_ns, strict=False):
            pages = [make_pages(kind, size, rng) for size in sizes]
            words = {r.name: to_words(p, garbage=rng) for r, p in zip(regions, pages, strict=True)}
            made.append(Interval(0, now, now + duration, regions, words, Provenance("test")))
            now += duration
            self.rows.append(np.concatenate(pages))
        self.recording = Recording(made)
        zero = [rng.random(size) < 0.3 for size in sizes]
        self.zero, self.sizes, self.chunk_pages = np.concatenate(zero), sizes, chunk_pages
        self.memory = ReplayedMemory(
            self.recording,
            self.recording.edges_s[:-1].tolist(),
            [to_words(z) for z in zero],
            chunk_pages=chunk_pages,
        )
        self.start(seed)

    @rule(seed=SEEDS)
    def start(self, seed):
        self.memory.start(seed)
        self.model = ModelMigration(self.sizes, self.chunk_pages, self.zero)
        self.interval = seed % len(self.rows)

    @rule(parts=CUTS)
    def run_an_interval(self, parts):
        edges = self.recording.edges_s
        length = edges[self.interval + 1] - edges[self.interval]
        for part in parts:
            self.memory.run(part * length)
        self.model.write(self.rows[self.interval])
        self.interval += 1
        if self.interval == len(self.rows):
            self.interval = edges.tolist().index(self.recording.loop_s)

    @rule()
    def run_all_of_them_at_once(self):
        self.memory.run(self.recording.duration_s - self.recording.edges_s[self.interval])
        for row in self.rows[self.interval :]:
            self.model.write(row)
        self.interval = self.recording.edges_s.tolist().index(self.recording.loop_s)

    @rule()
    def sync(self):
        self.model.sync()
        assert self.memory.sync() == self.model.pending.sum()
        assert self.memory.sync() == self.model.pending.sum()
        self.model.sync()
        assert not any(words.any() for words in self.memory.found().bitmaps.values())

    @rule()
    def find(self):
        self.model.sync()
        self.memory.sync()
        found = self.memory.found()
        pages = [to_pages(found.bitmaps[r.name], r.n_pages) for r in self.recording.regions]
        np.testing.assert_array_equal(np.concatenate(pages), self.model.found)

    @rule()
    def look_ahead(self):
        due = self.model.pending | self.model.log
        assert self.memory.outstanding() == (due.sum(), (due & self.model.zero).sum())

    @rule(kind=KINDS, seed=SEEDS, ends=st.booleans())
    def defer(self, kind, seed, ends):
        rng = np.random.default_rng(seed)
        pages = [make_pages(kind, size, rng) for size in self.sizes]
        regions = self.recording.regions
        words = {r.name: to_words(p, garbage=rng) for r, p in zip(regions, pages, strict=True)}
        chosen = Interval(0, 0, 1, regions, words, Provenance("test"))
        self.memory.defer(None if ends else chosen)
        self.model.deferred = np.concatenate(pages) & (not ends)

    @rule(
        budget=st.sampled_from([0.0, 0.25, float("inf")]) | st.integers(0, 3000).map(float),
        zero_cost=st.sampled_from([0.125, 0.5, 1.0]),
    )
    def send(self, budget, zero_cost):
        sent = self.memory.send(budget, 1.0, zero_cost)
        assert sent == self.model.send(budget, 1.0, zero_cost)

    @invariant()
    def as_much_is_pending(self):
        if hasattr(self, "model"):
            assert self.memory.pending_pages == self.model.pending.sum()
            deferred = self.model.pending & self.model.deferred
            assert self.memory.deferred_pages == deferred.sum()


def test_any_order_of_calls():
    run_state_machine_as_test(ReplayMachine, settings=settings(settings(), stateful_step_count=30))


# ---- parts of an interval ------------------------------------------------------------------------


def clean(rows, seed=0, start_s=0.1, durations_s=0.1):
    """A memory of which everything has been sent, at the start of an interval."""
    memory = ReplayedMemory(record(rows, durations_s), [start_s], chunk_pages=0)
    memory.start(seed)
    memory.send(float("inf"), 1.0, 1.0)
    return memory


def written(memory, duration_s):
    """Pages that are written in the next so many seconds."""
    memory.run(duration_s)
    pages = memory.sync()
    memory.send(float("inf"), 1.0, 1.0)
    return pages


def once(n_pages):
    """All pages are written in the second of three intervals, and never again."""
    rows = idle(n_pages, 3)
    rows[1] = True
    return rows


def shares(workload, parts, seeds=20):
    """The share of the second interval's pages that is written in each part of it, the mean."""
    counts = []
    for seed in range(seeds):
        memory = clean(workload, seed)
        counts.append([written(memory, part * 0.1) for part in parts])
    return np.mean(counts, axis=0) / workload[1].sum()


@given(kinds=st.tuples(KINDS, KINDS), parts=CUTS, seed=SEEDS)
def test_the_parts_make_up_the_whole(kinds, parts, seed):
    rng = np.random.default_rng(seed)
    pages = [make_pages(kind, 3000, rng) for kind in kinds]
    memory = clean([pages[0], pages[1], idle(3000, 1)[0]], seed)
    for part in parts:
        memory.run(part * 0.1)
    assert memory.sync() == pages[1].sum()


@given(parts=CUTS, seed=SEEDS)
def test_what_is_written_once_is_in_one_part(parts, seed):
    memory = clean(once(3000), seed)
    assert sum(written(memory, part * 0.1) for part in parts) == 3000


@given(length=st.floats(0.01, 0.99), seed=SEEDS)
def test_a_part_has_its_share(length, seed):
    n_pages = 100_000
    share = written(clean(once(n_pages), seed), length * 0.1) / n_pages
    deviation = np.sqrt(length * (1 - length) / n_pages)
    assert share == pytest.approx(length, abs=6 * deviation)


def test_another_seed_has_other_pages():
    """Two halves of the same seed share no page; of two seeds they share a quarter."""
    first = clean(once(10_000), 1)
    first.run(0.05)
    second = clean(once(10_000), 2)
    second.run(0.05)
    assert first.sync() != second.sync()


def test_what_comes_back_always_is_in_all_parts():
    # 7 writes an interval: in 1 - exp(-7 / 2) of all cases one is in a half
    assert shares(hot(5000, 4, 5000), [0.5, 0.5]) == pytest.approx(0.97, abs=0.01)
    assert shares(hot(5000, 4, 5000), [1.0]) == 1


def test_what_comes_back_half_of_the_times():
    """As often as it is written if the writes come at random: n with 1 - exp(-n) = 1/2."""
    rng = np.random.default_rng(3)
    rows = rng.random((3, 50_000)) < 0.5
    expected = (1 - 0.5**0.5) / 0.5
    assert shares(rows, [0.5, 0.5]) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("writes", [500, 5000, 50_000])
@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_random_writes_are_as_many_in_a_part_as_they_truly_were(writes, share):
    """Truth: pages of a Poisson number of writes at random among 20,000."""
    expected = np.expm1(-share * writes / 20_000) / np.expm1(-writes / 20_000)
    rows = uniform(20_000, 3, writes)
    assert shares(rows, [share, 1 - share])[0] == pytest.approx(expected, rel=0.05)


def test_the_first_and_the_last_part_of_intervals_that_a_migration_cuts():
    """It starts in the middle of an interval: only the rest of that is written."""
    memory = clean(once(10_000), start_s=0.15)
    assert written(memory, 0.05) == pytest.approx(5000, abs=300)
    assert written(memory, 0.1) == 0


# ---- where a replay starts, and how it goes on ---------------------------------------------------


def marked(n_intervals, durations_s=0.1):
    """Interval i writes i + 1 pages that no other one writes."""
    rows = np.zeros((n_intervals, n_intervals * (n_intervals + 1) // 2), bool)
    for number, row in enumerate(rows):
        first = number * (number + 1) // 2
        row[first : first + number + 1] = True
    return record(rows, durations_s)


def next_intervals(memory, n_intervals, duration_s=0.1):
    return [written(memory, duration_s) - 1 for _ in range(n_intervals)]


def test_each_seed_starts_at_its_moment_and_the_next_interval_follows():
    recording = marked(20)
    memory = ReplayedMemory(recording, [0.3, 1.1, 1.8])
    for seed, first in enumerate([3, 11, 18, 3, 11]):
        memory.start(seed)
        memory.send(float("inf"), 1.0, 1.0)
        assert next_intervals(memory, 2) == [first, first + 1]


def test_after_the_end_it_goes_on_at_the_loop():
    recording = marked(20)
    loop = recording.edges_s.tolist().index(recording.loop_s)
    memory = ReplayedMemory(recording, [1.8])
    memory.start(0)
    memory.send(float("inf"), 1.0, 1.0)
    looped = list(range(loop, 20))
    assert next_intervals(memory, 2 + 2 * len(looped)) == [18, 19, *looped, *looped]


def test_a_migration_that_starts_later():
    recording = marked(20)
    loop = recording.edges_s.tolist().index(recording.loop_s)
    memory = ReplayedMemory(recording, [1.0])
    for wait_s, first in [(0.0, 10), (0.5, 15), (1.0, loop), (1.2, loop + 2)]:
        with memory.started_later(wait_s):
            memory.start(0)
        memory.send(float("inf"), 1.0, 1.0)
        # Wherever the sum of seconds ends, it is not far from an edge.
        assert next_intervals(memory, 2)[1] == first + 1
    memory.start(0)
    memory.send(float("inf"), 1.0, 1.0)
    assert next_intervals(memory, 1) == [10]


def test_a_later_turn_has_other_pages_in_its_parts():
    rows = once(10_000)
    recording = record(rows)  # too short for any other loop than from the start
    assert recording.loop_s == 0
    memory = ReplayedMemory(recording, [0.1])
    memory.start(0)
    memory.send(float("inf"), 1.0, 1.0)
    halves = []
    for _ in range(4):
        halves.append(written(memory, 0.05))
        memory.run(0.25)
        memory.sync()
        memory.send(float("inf"), 1.0, 1.0)
    assert len(set(halves)) > 1


def test_any_seed_is_one():
    for seed in (0, 2**24, 2**40 + 3, 2**70):
        assert written(clean(once(1000), seed), 0.1) == 1000


# ---- what a tracer sees, and where the recording ends --------------------------------------------


def test_it_knows_its_pages():
    assert isinstance(ReplayedMemory(marked(3), [0.0]), PageMemory)


@pytest.mark.parametrize("start_s", [0.0, 0.35, 1.8])
def test_a_tracer_sees_the_intervals_that_are_over(start_s):
    recording = marked(20)
    loop = recording.edges_s.tolist().index(recording.loop_s)
    memory = ReplayedMemory(recording, [start_s])
    memory.start(0)
    first = int(np.ceil(start_s * 10 - 1e-9))
    order = [*range(first, 20), *list(range(loop, 20)) * 9]
    seen = []
    for _ in range(40):
        memory.run(0.07)
        seen += list(memory.seen())
    assert [len(interval.pages("ram")) - 1 for interval in seen] == order[: len(seen)]
    assert len(seen) >= 26
    assert [interval.index for interval in seen] == list(range(len(seen)))
    assert seen[0].start_ns == pytest.approx((first / 10 - start_s) * 1e9, abs=10)
    for before, after in itertools.pairwise(seen):
        assert after.start_ns == before.end_ns
        assert after.duration_s == pytest.approx(0.1)
    assert seen[-1].end_ns <= 2.8e9


def test_what_lies_beyond_the_end_is_told():
    memory = ReplayedMemory(marked(20), [1.5])
    memory.start(0)
    for ran_s, beyond_s in [(0.4, 0.0), (0.5, 0.4), (3.0, 3.4)]:
        memory.run(ran_s)
        assert memory.extrapolated_s == pytest.approx(beyond_s, abs=1e-9)
    memory.start(0)
    assert memory.extrapolated_s == 0


def test_a_migration_that_began_beyond_the_end():
    memory = ReplayedMemory(marked(20), [2.5])
    memory.start(0)
    memory.run(0.3)
    assert memory.extrapolated_s == pytest.approx(0.3)


def test_it_may_end_with_the_recording():
    memory = ReplayedMemory(marked(20), [1.5], loops=False)
    memory.start(0)
    memory.run(0.45)
    with pytest.raises(TraceEndError, match=r"the trace ends after 2\.0 s, before the migration"):
        memory.run(0.1)


def test_turns_that_change_nothing_are_left_out():
    """A million years of a loop are written at once, and it is known where they end."""
    recording = marked(20)
    loop = recording.edges_s.tolist().index(recording.loop_s)
    turn_s = recording.duration_s - recording.loop_s
    memory = ReplayedMemory(recording, [0.0])
    memory.start(0)
    memory.send(float("inf"), 1.0, 1.0)
    memory.run(recording.duration_s + 1e6 * turn_s)
    assert memory.sync() == recording.touched_pages
    memory.send(float("inf"), 1.0, 1.0)
    memory.run(0.09)  # of which rounding takes little
    memory.sync()
    row = loop * (loop + 1) // 2 + np.arange(loop + 1)
    found = memory.found().pages("ram")
    assert len(found) > 0
    assert set(found) <= set(row)


def test_the_recording_gives_its_intervals_back():
    rng = np.random.default_rng(5)
    rows = rng.random((7, 1000)) < rng.choice([0, 0.01, 0.9], (7, 1))
    recording = record(rows, 0.25)
    assert len(list(recording)) == len(recording) == 7
    for row, interval in zip(rows, recording, strict=True):
        np.testing.assert_array_equal(to_pages(interval.bitmaps["ram"], 1000), row)
        assert interval.duration_s == 0.25
    for number in (-1, 7):
        with pytest.raises(IndexError, match="the recording has 7"):
            recording[number]
