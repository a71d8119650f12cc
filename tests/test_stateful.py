"""A GroupStats with a history under any order of calls, good and bad, against the model."""

from dataclasses import astuple, replace

import numpy as np
import pytest
from growing import grown_regions, new_region
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from model import GROUP_ARRAYS, KINDS, ModelHistory, ModelStats, make_pages, to_pages, to_words

from mempattern import (
    DirtyHistory,
    GroupStats,
    Interval,
    MempatternError,
    Provenance,
    errors,
)

SIZES = st.sampled_from([1, 64, 100, 513, 3000, 33_000])
GROUPS = st.sampled_from([64, 192, 512, 1024])
SEEDS = st.integers(0, 2**32)
DURATIONS_NS = st.sampled_from([1, 1000, 10**6, 10**9, 10**12, 10**15]) | st.integers(1, 10**13)


GROWTHS = st.tuples(st.integers(0, 3), st.sampled_from([0, 0, 1, 63, 64, 511, 1000, 40_000]))
FIELDS = (*GROUP_ARRAYS, "write_rate")


class StatsMachine(RuleBasedStateMachine):
    @initialize(
        sizes=st.lists(SIZES, min_size=1, max_size=3),
        group_pages=GROUPS,
        half_life_s=st.sampled_from([0.01, 1.0, 1e6]),
        depth=st.none() | st.integers(1, 6),
    )
    def begin(self, sizes, group_pages, half_life_s, depth):
        regions = tuple(new_region(number, size) for number, size in enumerate(sizes))
        self.regions = regions
        self.history = DirtyHistory(regions, depth) if depth else None
        self.stats = GroupStats(regions, group_pages, half_life_s=half_life_s, history=self.history)
        self.model = ModelStats(regions, group_pages, half_life_s)
        self.model_history = ModelHistory(regions, depth)
        self.n_intervals = 0
        self.left = []
        self.take_groups()

    def take_groups(self):
        # Only here: the arrays are views and must show every update.
        self.groups = {region.name: self.stats.groups(region.name) for region in self.regions}

    def make(self, kind, seed):
        rng = np.random.default_rng(seed)
        pages = {r.name: make_pages(kind, r.n_pages, rng) for r in self.regions}
        return pages, {name: to_words(bits, garbage=rng) for name, bits in pages.items()}

    def count(self, pages, duration_s, seen):
        self.model.update(pages, duration_s)
        self.model_history.update(pages)
        self.n_intervals += 1
        assert astuple(seen) == self.model.seen_in_all()

    @rule(kind=st.sampled_from(KINDS), seed=SEEDS, duration_ns=DURATIONS_NS)
    def update_with_words(self, kind, seed, duration_ns):
        pages, words = self.make(kind, seed)
        seen = self.stats.update(words, duration_ns / 1e9)
        for array in words.values():
            array[:] = 0x55  # the caller's again
        self.count(pages, duration_ns / 1e9, seen)

    @rule(kind=st.sampled_from(KINDS), seed=SEEDS, duration_ns=DURATIONS_NS)
    def update_with_bytes(self, kind, seed, duration_ns):
        pages, words = self.make(kind, seed)
        short = {r.name: words[r.name].tobytes()[: -(-r.n_pages // 8)] for r in self.regions}
        self.count(pages, duration_ns / 1e9, self.stats.update(short, duration_ns / 1e9))

    @rule(kind=st.sampled_from(KINDS), seed=SEEDS, duration_ns=DURATIONS_NS)
    def update_with_an_interval(self, kind, seed, duration_ns):
        pages = self.make(kind, seed)[0]
        clean = {name: to_words(bits) for name, bits in pages.items()}
        interval = Interval(0, 5, 5 + duration_ns, self.regions, clean, Provenance("test"))
        self.count(pages, duration_ns / 1e9, self.stats.update(interval))

    @rule(
        how=st.sampled_from(["size", "dtype", "missing", "unknown", "duration", "no duration"]),
        seed=SEEDS,
    )
    def bad_input_changes_nothing(self, how, seed):
        words, duration_s = self.make("full", seed)[1], 1.0
        last = self.regions[-1].name  # the regions before it are good
        if how == "size":
            words[last] = np.append(words[last], words[last])
        elif how == "dtype":
            words[last] = words[last].astype(">u8")
        elif how == "missing":
            del words[last]
        elif how == "unknown":
            words["vga"] = words[last]
        else:
            duration_s = None if how == "no duration" else float("nan")
        with pytest.raises(MempatternError):
            self.stats.update(words, duration_s)

    @rule(
        growths=st.lists(GROWTHS, min_size=5, max_size=5),
        new=st.lists(SIZES, max_size=2),
        order=st.randoms(use_true_random=False),
    )
    def follow(self, growths, new, order):
        regions = grown_regions(self.regions, growths, new, self.stats.group_pages, order)
        if regions != self.regions:
            self.left = [
                (groups, {field: getattr(groups, field).copy() for field in FIELDS})
                for groups in self.groups.values()
            ]
        self.stats.follow(iter(regions))
        self.regions = regions
        self.model.follow(self.regions)
        self.model_history.follow(self.regions)
        self.take_groups()

    @rule(how=st.sampled_from(["gone", "shrunk", "moved", "misaligned", "page size"]))
    def what_is_no_growth_changes_nothing(self, how):
        *others, last = self.regions
        if how == "gone":
            last = replace(last, name="vga")
        elif how == "shrunk":
            last = replace(last, n_pages=last.n_pages + 1, address=last.address - 8 * 4096)
        elif how == "moved":
            last = replace(last, n_pages=last.n_pages + 9, address=last.address + 4096)
        elif how == "misaligned":
            pages = self.stats.group_pages - 1
            last = replace(last, n_pages=last.n_pages + pages, address=last.address - pages * 4096)
        else:
            last = replace(last, page_bytes=8192)
        with pytest.raises(errors.RegionError):
            self.stats.follow([new_region(7, 100), *others, last])

    @rule(last=st.integers(1, 6))
    def distinct_pages(self, last):
        if self.history is not None and last <= self.history.depth:
            distinct = self.history.distinct_pages(last)
            assert distinct == self.model_history.distinct_pages(last)

    @rule(at_least=st.integers(1, 6))
    def hot_pages(self, at_least):
        if self.history is None or at_least > self.history.depth:
            return
        hot, expected = self.history.hot_pages(at_least), self.model_history.hot_pages(at_least)
        for name, pages in expected.items():
            np.testing.assert_array_equal(to_pages(hot[name], pages.size), pages)

    @rule()
    def write_rate(self):
        for region in self.regions:
            np.testing.assert_allclose(
                self.groups[region.name].write_rate,
                self.model.write_rate(region),
                rtol=1e-9,
                atol=1e-280,
            )

    @invariant()
    def the_arrays_are_the_models(self):
        if not hasattr(self, "stats"):
            return
        assert self.stats.n_intervals == self.n_intervals
        assert self.stats.regions == self.regions
        for groups, copies in self.left:
            for field, copy in copies.items():
                np.testing.assert_array_equal(getattr(groups, field), copy, err_msg=field)
        if self.history is not None:
            assert len(self.history) == len(self.model_history)
            assert self.history.regions == self.regions
        for region in self.regions:
            seen = self.stats.seen(region.name)
            assert astuple(seen) == self.model.seen(region.name)
            assert self.groups[region.name].region == region
            assert self.stats.groups(region.name).dirty.size == self.groups[region.name].n_groups
            for field, expected in self.model.groups(region).items():
                array = getattr(self.groups[region.name], field)
                np.testing.assert_array_equal(array, expected, err_msg=field)


def test_any_order_of_calls(kernel):
    run_state_machine_as_test(StatsMachine, settings=settings(settings(), stateful_step_count=25))
