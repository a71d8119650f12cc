"""An MP under any order of calls: its numbers against plain sets of pages, none out of range."""

import math

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from model import KINDS, make_pages, per_group, to_words

from mempattern import GroupStats, Interval, Provenance, Region
from mempattern.classify import MP
from mempattern.errors import UsageError

SIZES = st.sampled_from([1, 64, 700, 5000])
SECONDS = st.sampled_from([1e-9, 1e-3, 0.05, 1.0, 3600.0, 1e8])
SEEDS = st.integers(0, 2**32)
GROUP_PAGES = 64


def ratio(part, whole):
    return part / whole if whole else None


class MPMachine(RuleBasedStateMachine):
    @initialize(
        sizes=st.lists(SIZES, min_size=1, max_size=3),
        bandwidth_Bps=st.sampled_from([1, 1e3, 1e6, 1e9, 1e15]),
        downtime_limit_s=SECONDS,
    )
    def begin(self, sizes, bandwidth_Bps, downtime_limit_s):
        self.regions = tuple(Region(f"slot {n}", size) for n, size in enumerate(sizes))
        self.stats = GroupStats(self.regions, GROUP_PAGES)
        self.mp = MP(bandwidth_Bps, downtime_limit_s)
        self.limit_bytes = bandwidth_Bps * downtime_limit_s
        self.now_ns = 0
        self.n_observed = 0
        self.before = None  # the pages of the iteration that the next one follows
        self.end_is_known = False

    def make(self, kind, seed):
        rng = np.random.default_rng(seed)
        pages = {r.name: make_pages(kind, r.n_pages, rng) for r in self.regions}
        return pages, {name: to_words(bits) for name, bits in pages.items()}

    @rule(
        kind=st.sampled_from(KINDS), seed=SEEDS, seconds=SECONDS,
        how=st.tuples(
            st.sampled_from([0, 0, 0, 5]), st.sampled_from([0, 0, 0.05, 1.0]), st.booleans()
        ),
    )  # fmt: skip
    def observe_an_iteration(self, kind, seed, seconds, how):
        """`how`: the pages lost, the gap in front, and whether just its length is told."""
        lost_pages, gap, bare = how
        pages, words = self.make(kind, seed)
        duration_ns = round(seconds * 1e9)
        start_ns = self.now_ns + int(gap * duration_ns)
        self.now_ns = start_ns + duration_ns
        if bare:
            lost_pages, iteration = 0, seconds
        else:
            iteration = Interval(
                0, start_ns, self.now_ns, self.regions, words, Provenance("test"), lost_pages
            )
        self.stats.update(words, seconds)
        verdict = self.mp.observe(self.stats, iteration)
        self.n_observed += 1
        assert verdict.iteration == self.n_observed
        follows = bare or gap < 1 or not self.end_is_known
        self.compare(verdict, pages, self.before if follows else None)
        assert verdict.lost_pages == lost_pages
        if lost_pages:
            assert (verdict.memory_intensive, verdict.probability) == (None, 0.5)
        self.before = None if lost_pages else pages
        self.end_is_known = not bare

    def compare(self, verdict, pages, before):
        n_dirty = sum(int(bits.sum()) for bits in pages.values())
        active = {name: per_group(bits, GROUP_PAGES) > 0 for name, bits in pages.items()}
        assert verdict.dirty_bytes == 4096 * n_dirty
        assert verdict.active_groups == sum(int(groups.sum()) for groups in active.values())
        if before is None:
            assert (verdict.stability, verdict.redirtied_share, verdict.volume_ratio) == (None,) * 3
        else:
            was = {name: per_group(before[name], GROUP_PAGES) > 0 for name in pages}
            both = sum(int((active[name] & was[name]).sum()) for name in pages)
            either = sum(int((active[name] | was[name]).sum()) for name in pages)
            again = sum(int((pages[name] & before[name]).sum()) for name in pages)
            n_before = sum(int(bits.sum()) for bits in before.values())
            assert verdict.stability == ratio(both, either)
            assert verdict.redirtied_share == ratio(again, n_dirty)
            assert verdict.volume_ratio == ratio(n_dirty, n_before)
        assert 0 <= verdict.probability <= 1
        assert 0.5 <= verdict.confidence <= 1
        assert verdict.dirty_bytes <= verdict.remaining_bytes
        assert verdict.remaining_bytes <= verdict.dirty_bytes + self.limit_bytes * (1 + 1e-9)
        for number in (
            verdict.required_Bps, verdict.required_factor, verdict.projected_bytes,
            verdict.projected_passes, verdict.trough_bytes,
        ):  # fmt: skip
            assert number is None or 0 <= number < math.inf
        assert verdict.sentence.endswith(".")
        if verdict.memory_intensive is not None:
            assert verdict.memory_intensive == (verdict.probability > 0.5)

    @rule(seconds=SECONDS, dirty_bytes=st.sampled_from([0, 4096, 10**9, 10**15]))
    def watch(self, seconds, dirty_bytes):
        self.mp.watch(seconds, dirty_bytes)

    @rule(kind=st.sampled_from(KINDS), seed=SEEDS)
    def update_without_observing(self, kind, seed):
        _, words = self.make(kind, seed)
        self.stats.update(words, 1.0)
        self.before = None

    @rule()
    def observe_twice(self):
        if self.before is not None:
            with pytest.raises(UsageError):
                self.mp.observe(self.stats, 1.0)

    @rule(seconds=st.sampled_from([0, -1.0, math.nan, math.inf, "1"]))
    def observe_nonsense(self, seconds):
        with pytest.raises(UsageError):
            self.mp.observe(self.stats, seconds)

    @rule(groups=st.integers(0, 3), beyond=st.integers(0, 100), more=st.booleans())
    def grow(self, groups, beyond, more):
        """At the end, where the pages keep their numbers."""
        extra = groups * GROUP_PAGES + beyond
        grown = [Region(r.name, r.n_pages + extra) for r in self.regions]
        if more and len(grown) < 5:
            grown.append(Region(f"slot {len(grown)}", 64))
        self.regions = tuple(grown)
        self.stats.follow(self.regions)
        if self.before is not None:
            before = {region.name: np.zeros(region.n_pages, bool) for region in self.regions}
            for name, pages in self.before.items():
                before[name][: pages.size] = pages
            self.before = before


def test_mp_in_any_order():
    run_state_machine_as_test(MPMachine, settings=settings(stateful_step_count=25))
