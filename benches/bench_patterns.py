"""What the detector of patterns costs beyond the statistics, on a guest of 1 TiB."""

import time

import numpy as np
import pytest
from conftest import keep

from mempattern import GroupStats, Interval, Provenance, Region
from mempattern.classify import PatternDetector

RAM = Region("ram", 1 << 28)
PERIOD_NS = 100_000_000


def hot(rng, _index):
    """50 groups of it."""
    words = np.zeros(RAM.n_words, np.uint64)
    words[80_000:80_400] = rng.integers(0, 2**63, 400, dtype=np.uint64)
    return words


def scattered(rng, _index):
    """One page here and there: one group in fifty is active."""
    words = np.zeros(RAM.n_words, np.uint64)
    words[rng.integers(0, RAM.n_words, 10_000)] = 1
    return words


def sweep(_rng, index):
    words = np.zeros(RAM.n_words, np.uint64)
    words[20_000 * index : 20_000 * (index + 1)] = ~np.uint64(0)
    return words


def dense(rng, _index):
    """Half of all pages."""
    return rng.integers(0, 2**64, RAM.n_words, dtype=np.uint64)


@pytest.mark.parametrize("pages", [hot, scattered, sweep, dense], ids=lambda pages: pages.__name__)
def bench_patterns(benchmark, pages):
    rng, stats = np.random.default_rng(1), GroupStats([RAM])
    detector = PatternDetector(stats)
    verdicts_ms = []

    def setup():
        index = stats.n_intervals
        words = {"ram": pages(rng, index)}
        start = 1 + index * PERIOD_NS
        interval = Interval(index, start, start + PERIOD_NS, (RAM,), words, Provenance("bench"))
        stats.update(interval)
        return (interval,), {}

    def told():
        start = time.perf_counter()
        detector.pattern()
        verdicts_ms.append(1e3 * (time.perf_counter() - start))

    benchmark.pedantic(
        detector.observe, setup=setup, teardown=lambda _: told(), rounds=30, warmup_rounds=5
    )
    observed_ms = [1e3 * seconds for seconds in benchmark.stats.stats.data]
    keep(benchmark, "nothing: observe", observed_ms, at_most=1, unit=" ms")
    keep(benchmark, "nothing: pattern", verdicts_ms[5:], unit=" ms")
