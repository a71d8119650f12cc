"""Plain loops in C, see plain.c."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import compiled
import numpy as np

from peers.work import (
    DURATION_S,
    HALF_LIFE_S,
    HOT_FROM,
    HOT_OF,
    LENGTHS,
    N_WINDOWED,
    Case,
    Run,
    first,
    mean_and_std,
)

DECLARATIONS = """
    struct plain_groups {
        uint32_t *dirty, *redirtied, *fresh, *touched, *active_intervals, *streak;
        int32_t *last_active;
        uint64_t *dirty_total;
        double *rate;
    };
    void plain_counts(const uint64_t *words, size_t n_words, uint32_t *counts);
    void plain_overlap(const uint64_t *words, const uint64_t *last, uint64_t *ever,
                       size_t n_words, uint64_t *seen);
    uint64_t plain_runs(const uint64_t *words, size_t n_words);
    uint64_t plain_pages(const uint64_t *words, size_t n_words, int64_t *pages);
    void plain_windows(const uint64_t *const *intervals, size_t n_words, uint64_t *sums);
    void plain_group_windows(const uint64_t *const *intervals, size_t n_words, uint64_t *sums,
                             uint64_t *squares);
    void plain_hot(const uint64_t *const *intervals, size_t n_intervals, unsigned k,
                   size_t n_words, uint64_t *found);
    void plain_update(const uint64_t *words, uint64_t *last, uint64_t *ever, size_t n_words,
                      int32_t number, double decay, const struct plain_groups *to,
                      uint64_t *seen);
"""


@functools.cache
def native() -> Any:
    return compiled.load("plain", ["peers/plain.c"], DECLARATIONS)


def pointer(array: np.ndarray) -> Any:
    """To the memory of an array, which it keeps alive."""
    ffi, _ = native()
    return ffi.from_buffer(_C_NAME[array.dtype.str], array)


_C_NAME = {"<u8": "uint64_t[]", "<u4": "uint32_t[]", "<i4": "int32_t[]", "<i8": "int64_t[]",
           "<f8": "double[]"}  # fmt: skip


def pointers(case: Case, n: int) -> Any:
    """To so many bitmaps, in turn. The case keeps them alive."""
    ffi, _ = native()
    return ffi.new("uint64_t *[]", [pointer(words) for words in first(n, case.bitmaps)])


def turn_of(case: Case) -> Any:
    return itertools.cycle([pointer(words) for words in case.bitmaps])


def counts(case: Case) -> Run:
    turn, lib, into = turn_of(case), native()[1], np.zeros(case.n_groups, np.uint32)
    to = pointer(into)

    def run() -> Any:
        lib.plain_counts(next(turn), case.n_words, to)
        return into

    return run


def overlap(case: Case) -> Run:
    turn, (ffi, lib), ever = turn_of(case), native(), pointer(np.zeros(case.n_words, np.uint64))
    seen, last = ffi.new("uint64_t[3]"), [pointer(np.zeros(case.n_words, np.uint64))]

    def run() -> tuple[int, ...]:
        words = next(turn)
        lib.plain_overlap(words, last[0], ever, case.n_words, seen)
        last[0] = words
        return tuple(seen)

    return run


def runs(case: Case) -> Run:
    turn, lib = turn_of(case), native()[1]
    return lambda: lib.plain_runs(next(turn), case.n_words)


def pages(case: Case) -> Run:
    turn, (ffi, lib) = turn_of(case), native()

    def run() -> Any:
        words = next(turn)
        found = np.empty(lib.plain_pages(words, case.n_words, ffi.NULL), np.int64)
        lib.plain_pages(words, case.n_words, pointer(found))
        return found

    return run


def windows(case: Case) -> Run:
    (ffi, lib), intervals = native(), pointers(case, N_WINDOWED)
    sums = ffi.new("uint64_t[]", len(LENGTHS))

    def run() -> list[float]:
        lib.plain_windows(intervals, case.n_words, sums)
        return [n / (N_WINDOWED // length) for n, length in zip(sums, LENGTHS, strict=True)]

    return run


def group_windows(case: Case) -> Run:
    (_, lib), intervals = native(), pointers(case, N_WINDOWED)
    sums = np.zeros((len(LENGTHS), case.n_groups), np.uint64)
    squares = np.zeros_like(sums)

    def run() -> Any:
        lib.plain_group_windows(intervals, case.n_words, pointer(sums), pointer(squares))
        return lambda: mean_and_std(sums, squares)

    return run


def hot(case: Case) -> Run:
    (_, lib), intervals = native(), pointers(case, HOT_OF)

    def run() -> Any:
        found = np.empty(case.n_words, np.uint64)
        lib.plain_hot(intervals, HOT_OF, HOT_FROM, case.n_words, pointer(found))
        return found

    return run


def update(case: Case) -> Run:
    turn, number, (ffi, lib) = turn_of(case), itertools.count(), native()
    last, ever = (pointer(np.zeros(case.n_words, np.uint64)) for _ in range(2))
    n = case.n_groups
    arrays = [np.zeros(n, kind) for kind in (*["u4"] * 6, "i4", "u8", "f8")]
    arrays[6][:] = -1  # last_active
    rate, observed = arrays[8], [0.0]
    to = ffi.new("struct plain_groups *", [pointer(array) for array in arrays])
    seen = ffi.new("uint64_t[5]")
    decay = 2 ** (-DURATION_S / HALF_LIFE_S)

    def run() -> tuple[Any, ...]:
        lib.plain_update(next(turn), last, ever, case.n_words, next(number), decay, to, seen)
        observed[0] = observed[0] * decay + DURATION_S
        return (tuple(seen), *arrays[:8], lambda: rate / observed[0])

    return run
