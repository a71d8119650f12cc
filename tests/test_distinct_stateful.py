"""DistinctPages under any order of calls, on every kernel, against the model."""

from dataclasses import replace

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
from model import KINDS, ModelDistinct, make_pages, to_words
from test_distinct import check_all

from mempattern import DistinctPages, Interval, Provenance, errors

pytestmark = pytest.mark.usefixtures("kernel")


SIZES = st.sampled_from([1, 64, 100, 513, 3000, 33_000])
GROWTHS = st.tuples(st.integers(0, 3), st.sampled_from([0, 0, 1, 63, 64, 511, 1000, 40_000]))


class DistinctMachine(RuleBasedStateMachine):
    @initialize(
        sizes=st.lists(SIZES, min_size=1, max_size=3),
        group_pages=st.sampled_from([64, 192, 512, 1024]),
    )
    def begin(self, sizes, group_pages):
        regions = tuple(new_region(number, size) for number, size in enumerate(sizes))
        self.distinct = DistinctPages(regions, group_pages)
        self.model = ModelDistinct(regions, group_pages)
        self.now_ns = 0

    @rule(
        kind=st.sampled_from(KINDS),
        seed=st.integers(0, 2**32),
        times=st.integers(1, 5),
        as_interval=st.booleans(),
        gap=st.sampled_from([0, 0, 0, 2]),
        lost=st.sampled_from([0, 0, 0, 1]),
    )
    def update(self, *, kind, seed, times, as_interval, gap, lost):
        rng = np.random.default_rng(seed)
        for _ in range(times):
            regions = self.model.regions
            pages = {r.name: make_pages(kind, r.n_pages, rng) for r in regions}
            words = {name: to_words(bits, garbage=rng) for name, bits in pages.items()}
            duration_ns = int(rng.integers(1, 10**10))
            if not as_interval:
                self.distinct.update(words, duration_ns / 1e9)
                self.model.update(pages, duration_ns / 1e9)
                self.now_ns = None  # the next one's start is not compared
                continue
            if gap and self.now_ns is not None:
                self.model.break_off()
            start = (self.now_ns or 0) + gap * duration_ns
            self.now_ns = start + duration_ns
            self.distinct.update(
                Interval(0, start, self.now_ns, regions, words, Provenance("test"), lost)
            )
            if lost:
                self.model.break_off()
                self.now_ns = None
            else:
                self.model.update(pages, duration_ns / 1e9)

    @rule()
    def break_off(self):
        self.distinct.break_off()
        self.model.break_off()
        self.now_ns = None

    @rule(
        growths=st.lists(GROWTHS, min_size=5, max_size=5),
        new=st.lists(SIZES, max_size=2),
        order=st.randoms(use_true_random=False),
    )
    def follow(self, growths, new, order):
        regions = grown_regions(self.model.regions, growths, new, self.model.group_pages, order)
        self.distinct.follow(iter(regions))
        self.model.follow(regions)

    @rule()
    def what_is_no_growth_changes_nothing(self):
        for bad in (self.model.regions[1:], (replace(self.model.regions[0], page_bytes=8192),)):
            with pytest.raises(errors.RegionError):
                self.distinct.follow([*bad, new_region(7, 100)])

    @invariant()
    def all_is_as_in_the_model(self):
        if hasattr(self, "distinct"):
            check_all(self.distinct, self.model)


def test_any_order_of_calls(kernel):
    run_state_machine_as_test(DistinctMachine, settings=settings(settings(), stateful_step_count=8))
