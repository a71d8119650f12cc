"""The C core on bitmaps of a 256 GiB and a 4 TiB guest, against NumPy and the memory itself."""

import itertools

import numpy as np
import pytest
from conftest import Peer

from mempattern import DirtyHistory, DistinctPages, GroupStats, Region, group_counts

GROUP_PAGES = 512
DEPTH = 16
SIZES = {"8MiB": 8 << 20, "128MiB": 128 << 20}

sizes = pytest.mark.parametrize("n_bytes", SIZES.values(), ids=SIZES.keys())


def dense(n_bytes):
    """Half of all pages. NumPy asks for huge pages, as our own bitmaps do."""
    return np.random.default_rng(1).integers(0, 2**64, n_bytes // 8, dtype=np.uint64)


@sizes
def bench_group_counts(against, native, n_bytes):
    ffi, lib = native
    words = dense(n_bytes)
    pointer = ffi.from_buffer("uint64_t[]", words)
    n_pages = n_bytes * 8

    def numpy_counts():
        return np.bitwise_count(words).reshape(-1, GROUP_PAGES // 64).sum(axis=1)

    assert np.array_equal(numpy_counts(), group_counts(words, n_pages, GROUP_PAGES))
    counts = np.zeros(n_pages // GROUP_PAGES, np.uint32)
    against(
        lambda: group_counts(words, n_pages, GROUP_PAGES, out=counts),
        [
            Peer("numpy", numpy_counts, at_least=18 if n_bytes == SIZES["8MiB"] else 8),
            Peer("C loop that only reads", lambda: lib.limit_read(pointer, len(words)), 0.85),
        ],
        rounds=80 if n_bytes == SIZES["8MiB"] else 15,
    )


class GrowingIntervals:
    """Dense intervals each of which has fresh pages in every group, for 170 intervals.

    Of the 512 pages of a group, three more take part with each interval.
    """

    def __init__(self, n_bytes):
        self.random = dense(n_bytes).reshape(-1, 8)
        self.words = np.empty(n_bytes // 8, np.uint64)
        self.number = itertools.count()

    def advance(self):
        n = 3 * next(self.number)
        bits = np.arange(512)
        taking_part = np.packbits(bits < n + 3, bitorder="little").view(np.uint64)
        new = np.packbits((bits >= n) & (bits < n + 3), bitorder="little").view(np.uint64)
        lines = self.words.reshape(-1, 8)
        np.bitwise_and(self.random, taking_part, out=lines)
        np.bitwise_or(lines, new, out=lines)


@sizes
def bench_fused_update_dense(against, native, n_bytes):
    """Dirty, redirtied, fresh, ever, history of 16, runs; every group has fresh pages."""
    ffi, lib = native
    region = Region("ram", n_bytes * 8)
    stats = GroupStats([region], GROUP_PAGES, history=DirtyHistory([region], DEPTH))
    growing = GrowingIntervals(n_bytes)
    n_words = n_bytes // 8
    # The same memory for the loop that only moves: the ring of bitmaps, ever, the group arrays.
    slots = [np.zeros(n_words, np.uint64) for _ in range(DEPTH)]
    ever, arrays = np.zeros(n_words, np.uint64), np.zeros(n_words // 8 * 44 // 8, np.uint64)
    turn = itertools.count()

    def pointer(array):
        return ffi.from_buffer("uint64_t[]", array)

    def move():
        at = next(turn) % DEPTH
        lib.limit_move(pointer(growing.words), pointer(slots[at - 1]), pointer(slots[at]),
                       pointer(ever), pointer(arrays), n_words)  # fmt: skip

    def update():
        stats.update({"ram": growing.words}, duration_s=0.1)

    against(
        update,
        [Peer("C loop that only moves", move, at_least=1 / 1.3)],
        rounds=50 if n_bytes == SIZES["8MiB"] else 12,
        before=growing.advance,
    )


def clustered(random, n_pages):
    """0.05 % of the pages, in whole groups here and there."""
    words = np.zeros(n_pages // 64, np.uint64)
    lines = words.reshape(-1, GROUP_PAGES // 64)
    lines[random.choice(len(lines), len(lines) // 2000, replace=False)] = 2**64 - 1
    return words


def scattered(random, n_pages):
    """0.05 % of the pages, anywhere: one group in five has one."""
    words = np.zeros(n_pages // 64, np.uint64)
    pages = random.choice(n_pages, n_pages // 2000, replace=False)
    np.bitwise_or.at(words, pages // 64, np.uint64(1) << (pages % 64).astype(np.uint64))
    return words


@sizes
@pytest.mark.parametrize("shape", [clustered, scattered])
def bench_fused_update_sparse(against, native, n_bytes, shape):
    """Four such intervals in turn, so that most of what was dirty is not dirty again."""
    ffi, lib = native
    region = Region("ram", n_bytes * 8)
    stats = GroupStats([region], GROUP_PAGES, history=DirtyHistory([region], DEPTH))
    random = np.random.default_rng(2)
    intervals = itertools.cycle([shape(random, region.n_pages) for _ in range(4)])
    now = np.zeros(region.n_words, np.uint64)
    pointer = ffi.from_buffer("uint64_t[]", now)

    def advance():
        now[:] = next(intervals)  # as KVM copies its log into the caller's buffer

    def update():
        stats.update({"ram": now}, duration_s=0.1)

    for _ in range(2 * DEPTH):  # the history is full of such intervals
        advance()
        update()
    against(
        update,
        [Peer("C loop that only reads", lambda: lib.limit_read(pointer, len(now)), 1 / 1.2)],
        rounds=80 if n_bytes == SIZES["8MiB"] else 20,
        before=advance,
    )


def anything(random, n_pages):
    """Half of all pages."""
    return random.integers(0, 2**64, n_pages // 64, dtype=np.uint64)


@sizes
@pytest.mark.parametrize("shape", [anything, clustered, scattered])
def bench_distinct_update(against, native, n_bytes, shape):
    """Twelve intervals, three in turn, which make windows of 1, 2, 3, 4, 6, 8 and 12."""
    ffi, lib = native
    region = Region("ram", n_bytes * 8)
    distinct, stats = DistinctPages([region], GROUP_PAGES), GroupStats([region], GROUP_PAGES)
    random = np.random.default_rng(3)
    intervals = [{"ram": shape(random, region.n_pages)} for _ in range(3)] * 4
    pointers = [ffi.from_buffer("uint64_t[]", interval["ram"]) for interval in intervals]

    def update():
        distinct.break_off()
        for interval in intervals:
            distinct.update(interval, duration_s=0.1)

    def update_stats():
        for interval in intervals:
            stats.update(interval, duration_s=0.1)

    def read():
        for pointer in pointers:
            lib.limit_read(pointer, region.n_words)

    update()
    update()  # all that it will need is backed by memory now
    against(
        update,
        [Peer("GroupStats.update", update_stats, 0.5), Peer("C loop that only reads", read)],
        rounds=20 if n_bytes == SIZES["8MiB"] else 6,
    )
