"""What a call from Python costs beyond the C call: a guest of 1 MiB, whose bitmap is four words."""

import time

import numpy as np
import pytest
from conftest import keep

from mempattern import DistinctPages, GroupStats, Region, group_counts
from mempattern._native import ffi, lib

RAM = Region("ram", 256)
DURATION_S = 0.1
CALLS = 500


def update(words, lent):
    stats = GroupStats([RAM])
    seen, handle = ffi.new("mpat_seen[]", 1), stats._held.handle
    bitmaps, pointers = {"ram": words}, ffi.new("uint64_t *[]", [lent])
    return (
        lambda: stats.update(bitmaps, DURATION_S),
        lambda: lib.mpat_stats_update(handle, pointers, DURATION_S, seen),
    )


def distinct(words, lent):
    pages = DistinctPages([RAM])
    bitmaps, pointers, handle = {"ram": words}, ffi.new("uint64_t *[]", [lent]), pages._held.handle
    return (
        lambda: pages.update(bitmaps, DURATION_S),
        lambda: lib.mpat_distinct_update(handle, pointers, DURATION_S),
    )


def counts(words, lent):
    into = np.zeros(1, np.uint32)
    counted = ffi.from_buffer("uint32_t[]", into)
    return (
        lambda: group_counts(words, RAM.n_pages, out=into),
        lambda: lib.mpat_group_counts(lent, RAM.n_pages, 512, counted),
    )


def repeated(call):
    def run():
        for _ in range(CALLS):
            call()

    return run


@pytest.mark.parametrize("make", [update, distinct, counts])
def bench_call(benchmark, make):
    words = np.zeros(RAM.n_words, np.uint64)
    words[1] = 5
    ours, bare = map(repeated, make(words, ffi.from_buffer("uint64_t[]", words)))
    bare_s = []

    def setup():
        start = time.perf_counter()
        bare()
        bare_s.append(time.perf_counter() - start)

    benchmark.pedantic(ours, setup=setup, rounds=100, warmup_rounds=5)
    mine_s = benchmark.stats.stats.data
    above = [
        1e6 * (my - its) / CALLS for my, its in zip(mine_s, bare_s[-len(mine_s) :], strict=True)
    ]
    keep(benchmark, "the C call by cffi", above, at_most=5, unit=" us")
