"""A trace file under any order of calls, good and bad, against a list of intervals.

Written, closed, copied, and read back by position in any order, also while it is being written.
Recordings that are killed are in test_trace_disk.py.
"""

import random
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from model import KINDS, make_pages, to_words
from traces import HERE, assert_same, grow

from mempattern import Interval, Region
from mempattern.errors import ClosedError, TraceError
from mempattern.trace import TraceReader, TraceWriter

SEEDS = st.integers(0, 2**32)


class TraceMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="mempattern-"))
        self.path = self.directory / "t.mpt"

    @initialize(sizes=st.lists(st.sampled_from([1, 64, 100, 5000]), min_size=1, max_size=3))
    def begin(self, sizes):
        self.regions = tuple(
            Region(f"slot {i}", n_pages, address=(i + 1) << 40) for i, n_pages in enumerate(sizes)
        )
        self.trace = TraceWriter(self.path, self.regions, HERE)
        self.written, self.facts, self.now = [], {}, 0

    def make(self, kind, seed, gap=1):
        rng = np.random.default_rng(seed)
        words = {r.name: to_words(make_pages(kind, r.n_pages, rng)) for r in self.regions}
        start, end = self.now + int(rng.integers(0, 5)), self.now + int(rng.integers(5, 10**9))
        last = self.written[-1].index if self.written else -1
        return Interval(last + gap, start, end, self.regions, words, HERE, int(seed % 3), 7)

    @rule(kind=st.sampled_from(KINDS), seed=SEEDS, gap=st.integers(1, 3))
    def write(self, kind, seed, gap):
        interval = self.make(kind, seed, gap)
        if self.trace is None:
            return
        self.trace.write(interval)
        self.written.append(interval)
        self.now = interval.end_ns

    @rule(seed=SEEDS)
    def regions_grow(self, seed):
        if len(self.regions) < 5 and sum(r.n_pages for r in self.regions) < 20_000:
            self.regions = grow(self.regions, np.random.default_rng(seed))

    @rule(how=st.sampled_from(["again", "before", "source", "shrunk"]), seed=SEEDS)
    def what_is_not_the_next_changes_nothing(self, how, seed):
        if self.trace is None or not self.written:
            return
        interval = self.make("full", seed)
        if how == "again":
            interval = replace(interval, index=self.written[-1].index)
        elif how == "before":
            end_ns = self.written[-1].end_ns
            interval = replace(interval, start_ns=end_ns - 1, end_ns=end_ns + 1)
        elif how == "source":
            interval = replace(interval, provenance=replace(HERE, source="another"))
        else:
            self.regions_are_lost(interval)
            return
        with pytest.raises(TraceError):
            self.trace.write(interval)

    def regions_are_lost(self, interval):
        region = Region("quite another", 64)
        words = {region.name: np.zeros(1, np.uint64)}
        with pytest.raises(TraceError):
            self.trace.write(replace(interval, regions=(region,), bitmaps=words))

    @rule(number=st.integers(0, 5))
    def add_a_fact(self, number):
        if self.trace is None:
            return
        name = f"fact {number}"
        if name in self.facts:
            with pytest.raises(TraceError, match="known already"):
                self.trace.add_facts({name: "again"})
        else:
            self.facts[name] = "x" * number
            self.trace.add_facts({name: self.facts[name]})

    @rule()
    def close(self):
        if self.trace is not None:
            self.trace.close()
            self.trace.close()
            with pytest.raises(ClosedError):
                self.trace.write(self.make("full", 0))
            self.trace = None

    @rule(seed=SEEDS)  # not hypothesis's own order: how much is committed is for the disk to say
    def read(self, seed):
        """While it is written: what is committed by now, and never anything else."""
        n_safe = len(self.written) if self.trace is None else self.trace.written
        with TraceReader(self.path) as trace:
            assert n_safe <= len(trace) <= len(self.written)
            positions = list(range(len(trace)))
            random.Random(seed).shuffle(positions)
            for position in positions:
                assert_same(trace[position], self.written[position])
            with pytest.raises(IndexError):
                trace[len(trace)]
            assert trace.dropped == 0
            if self.trace is None:
                assert trace.meta.items() >= self.facts.items()

    @rule()
    def the_one_file_is_all_of_it(self):
        if self.trace is None:
            copy = self.directory / "copy.mpt"
            shutil.copy(self.path, copy)
            with TraceReader(copy) as trace:
                assert len(trace) == len(self.written)

    @invariant()
    def nothing_is_dropped(self):
        if getattr(self, "trace", None) is not None:
            assert self.trace.dropped == 0

    def teardown(self):
        if hasattr(self, "regions"):
            self.close()
            with TraceReader(self.path) as trace:
                for interval, expected in zip(trace, self.written, strict=True):
                    assert_same(interval, expected)
        shutil.rmtree(self.directory)


def test_any_order_of_calls():
    run_state_machine_as_test(TraceMachine, settings=settings(settings(), deadline=None))
