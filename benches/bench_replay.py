"""Replays of 60 s of a 64 GiB guest, seen at 10 Hz: what is kept of it, and what a policy takes.

A sparse guest writes little, a scattered one 300 000 pages a second anywhere, a hot one as good as
all of 1 GiB every second, and a sweeping one 300 000 pages a second, one after the other.
"""

import time

import numpy as np
import pytest
from conftest import Peer, keep

from mempattern import Interval, Provenance, Region
from mempattern.migration.recording import Recording
from mempattern.migration.registry import POLICIES
from mempattern.migration.simulate import simulate
from mempattern.quantities import parse_bandwidth

GIB = 64
RAM = Region("ram", GIB << 18)
N_INTERVALS = 600
PERIOD_NS = 100_000_000
ALONE = ("stock", "relaxed", "auto-converge", "hot-pages", "mp", "best", "oracle")
CEILING_S = 1.0
PATIENCE_S = 60.0
"""What was recorded; a migration that does not end is replayed for so long."""
ROUNDS = 3
PER_INTERVAL = " ms an interval"
PER_GIB = " B a GiB and interval"


def sparse(rng, _index):
    """In 1 GiB."""
    return RAM.n_pages // 4 + rng.integers(0, RAM.n_pages // 64, 2_000)


def scattered(rng, _index):
    return rng.integers(0, RAM.n_pages, 30_000)


def hot(rng, _index):
    return rng.integers(0, RAM.n_pages // 64, 100_000)


def sweep(_rng, index):
    return (np.arange(30_000) + 30_000 * index) % RAM.n_pages


@pytest.fixture(scope="module", params=[sparse, scattered, hot, sweep], ids=lambda f: f.__name__)
def intervals(request):
    rng, made = np.random.default_rng(1), []
    for index in range(N_INTERVALS):
        pages = request.param(rng, index)
        words = np.zeros(RAM.n_words, np.uint64)
        np.bitwise_or.at(words, pages >> 6, np.uint64(1) << (pages & 63).astype(np.uint64))
        start_ns = index * PERIOD_NS
        made.append(
            Interval(
                index, start_ns, start_ns + PERIOD_NS, (RAM,), {RAM.name: words}, Provenance("made")
            )
        )
    return made


def bench_recording(against, benchmark, intervals):
    """Beside keeping the bitmaps."""

    def copied():
        return [interval.bitmaps[RAM.name].copy() for interval in intervals]

    against(lambda: Recording(intervals), [Peer("NumPy: copies", copied)], rounds=ROUNDS)
    took_ms = [1e3 * seconds / N_INTERVALS for seconds in benchmark.stats.stats.data]
    keep(benchmark, "the clock", took_ms, unit=PER_INTERVAL)
    n_bytes = Recording(intervals).nbytes
    their_bytes = sum(words.nbytes for words in copied())
    keep(benchmark, "memory of NumPy's copies", [their_bytes / n_bytes])
    keep(benchmark, "memory", [n_bytes / GIB / N_INTERVALS], unit=PER_GIB)


@pytest.mark.parametrize("bandwidth", ["10Gbit", "40Gbit"])
def bench_replay(benchmark, intervals, bandwidth):
    """Some policies one by one, and then all there are."""
    recording, link = Recording(intervals), parse_bandwidth(bandwidth)

    def replay(names):
        policies = {name: POLICIES[name] for name in names}
        outcomes = simulate(recording, policies, link, CEILING_S, patience_s=PATIENCE_S)
        assert all(outcome.end != "failed" for outcome in outcomes)

    for name in ALONE:
        took_s = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            replay([name])
            took_s.append(time.perf_counter() - start)
        keep(benchmark, f"the clock: {name}", took_s, at_most=1, unit=" s")
    benchmark.pedantic(replay, args=(POLICIES,), rounds=1)
    all_s = benchmark.stats.stats.data
    keep(benchmark, f"the clock: all {len(POLICIES)}, once", all_s, unit=" s")
