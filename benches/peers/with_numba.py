"""Numba, one thread, loops as one writes them; `popcount` is one instruction of LLVM's."""

from __future__ import annotations

import itertools
from typing import Any

import numba
import numpy as np

from mempattern.jit import popcount
from peers.work import (
    DURATION_S,
    GROUP_WORDS,
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

compiled = numba.njit(nogil=True, boundscheck=False)
_1, _63 = np.uint64(1), np.uint64(63)


@compiled
def _counts(words, counts):
    for group in range(counts.size):
        n = 0
        for i in range(GROUP_WORDS * group, GROUP_WORDS * (group + 1)):
            n += popcount(words[i])
        counts[group] = n


def counts(case: Case) -> Run:
    turn, into = itertools.cycle(case.bitmaps), np.zeros(case.n_groups, np.uint32)

    def run() -> Any:
        _counts(next(turn), into)
        return into

    return run


@compiled
def _overlap(words, before, ever):
    dirty = redirtied = fresh = 0
    for i in range(words.size):
        dirty += popcount(words[i])
        redirtied += popcount(words[i] & before[i])
        fresh += popcount(words[i] & ~ever[i])
        ever[i] |= words[i]
    return dirty, redirtied, fresh


def overlap(case: Case) -> Run:
    turn, ever = itertools.cycle(case.bitmaps), np.zeros(case.n_words, np.uint64)
    last = [np.zeros(case.n_words, np.uint64)]

    def run() -> tuple[int, ...]:
        words = next(turn)
        found = _overlap(words, last[0], ever)
        last[0] = words
        return found

    return run


@compiled
def _runs(words):
    n = popcount(words[0] & ~(words[0] << _1))
    for i in range(1, words.size):
        n += popcount(words[i] & ~(words[i] << _1 | words[i - 1] >> _63))
    return n


def runs(case: Case) -> Run:
    turn = itertools.cycle(case.bitmaps)
    return lambda: _runs(next(turn))


@compiled
def _pages(words):
    n = 0
    for word in words:
        n += popcount(word)
    pages = np.empty(n, np.int64)
    at = 0
    for i in range(words.size):
        word = words[i]
        while word:
            lowest = word & (~word + _1)
            pages[at] = 64 * i + popcount(lowest - _1)
            at += 1
            word ^= lowest
    return pages


def pages(case: Case) -> Run:
    turn = itertools.cycle(case.bitmaps)
    return lambda: _pages(next(turn))


@compiled
def _group_windows(intervals, sums, squares):
    """Sums over the windows of each length and group; the rows are those of LENGTHS."""
    made_of = ((1, 1, 0), (2, 2, 0), (3, 3, 0), (4, 2, 1), (6, 2, 2), (8, 2, 3), (12, 2, 4))
    open_ = np.empty((7, 12, GROUP_WORDS), np.uint64)
    for group in range(sums.shape[1]):
        at = GROUP_WORDS * group
        for row in range(7):
            length, n_parts, of = made_of[row]
            total = square = 0
            for window in range(12 // length):
                n = 0
                for i in range(GROUP_WORDS):
                    if row == 0:
                        word = intervals[window][at + i]
                    else:
                        word = open_[of, n_parts * window, i]
                        for part in range(1, n_parts):
                            word |= open_[of, n_parts * window + part, i]
                    open_[row, window, i] = word
                    n += popcount(word)
                total += n
                square += n * n
            sums[row, group] = total
            squares[row, group] = square


@compiled
def _windows(intervals, sums):
    """Word by word, without the memory of groups."""
    a = intervals
    sums[:] = 0
    for i in range(a[0].size):
        w0, w1, w2, w3, w4, w5 = a[0][i], a[1][i], a[2][i], a[3][i], a[4][i], a[5][i]
        w6, w7, w8, w9, w10, w11 = a[6][i], a[7][i], a[8][i], a[9][i], a[10][i], a[11][i]
        sums[0] += (
            popcount(w0) + popcount(w1) + popcount(w2) + popcount(w3) + popcount(w4) + popcount(w5)
            + popcount(w6) + popcount(w7) + popcount(w8) + popcount(w9) + popcount(w10)
            + popcount(w11)
        )  # fmt: skip
        p0, p1, p2, p3, p4, p5 = w0 | w1, w2 | w3, w4 | w5, w6 | w7, w8 | w9, w10 | w11
        sums[1] += (
            popcount(p0) + popcount(p1) + popcount(p2) + popcount(p3) + popcount(p4) + popcount(p5)
        )
        t0, t1, t2, t3 = p0 | w2, w3 | p2, p3 | w8, w9 | p5
        sums[2] += popcount(t0) + popcount(t1) + popcount(t2) + popcount(t3)
        f0, f1, f2 = p0 | p1, p2 | p3, p4 | p5
        sums[3] += popcount(f0) + popcount(f1) + popcount(f2)
        s0, s1 = t0 | t1, t2 | t3
        sums[4] += popcount(s0) + popcount(s1)
        sums[5] += popcount(f0 | f1)
        sums[6] += popcount(s0 | s1)


def windows(case: Case) -> Run:
    intervals, sums = tuple(first(N_WINDOWED, case.bitmaps)), np.zeros(len(LENGTHS), np.int64)

    def run() -> list[float]:
        _windows(intervals, sums)
        return [int(n) / (N_WINDOWED // size) for n, size in zip(sums, LENGTHS, strict=True)]

    return run


def group_windows(case: Case) -> Run:
    intervals = tuple(first(N_WINDOWED, case.bitmaps))
    sums = np.zeros((len(LENGTHS), case.n_groups), np.uint64)
    squares = np.zeros_like(sums)

    def run() -> Any:
        _group_windows(intervals, sums, squares)
        return lambda: mean_and_std(sums, squares)

    return run


@compiled
def _hot(intervals, k, found):
    """By binary counters of five digits, each a word."""
    for i in range(found.size):
        d0 = d1 = d2 = d3 = d4 = np.uint64(0)
        for words in intervals:
            carry = words[i]
            d0, carry = d0 ^ carry, d0 & carry
            d1, carry = d1 ^ carry, d1 & carry
            d2, carry = d2 ^ carry, d2 & carry
            d3, carry = d3 ^ carry, d3 & carry
            d4 |= carry
        more = np.uint64(0)
        less = k - 1
        more = d0 & more if less & 1 else d0 | more
        more = d1 & more if less & 2 else d1 | more
        more = d2 & more if less & 4 else d2 | more
        more = d3 & more if less & 8 else d3 | more
        found[i] = d4 & more if less & 16 else d4 | more


def hot(case: Case) -> Run:
    intervals = tuple(first(HOT_OF, case.bitmaps))

    def run() -> Any:
        found = np.empty(case.n_words, np.uint64)
        _hot(intervals, HOT_FROM, found)
        return found

    return run


@compiled
def _update(words, kept, number, decay):
    """Of `kept`, `groups` has the six arrays of uint32, in the order of `mempattern.Groups`."""
    last, ever, groups, last_active, total, rate = kept
    all_dirty = all_redirtied = all_fresh = n_active = n_runs = 0
    before = np.uint64(0)
    for group in range(total.size):
        dirty = redirtied = fresh = 0
        for i in range(GROUP_WORDS * group, GROUP_WORDS * (group + 1)):
            word = words[i]
            dirty += popcount(word)
            redirtied += popcount(word & last[i])
            fresh += popcount(word & ~ever[i])
            n_runs += popcount(word & ~(word << _1 | before >> _63))
            before = word
            last[i] = word
            ever[i] |= word
        groups[0, group], groups[1, group], groups[2, group] = dirty, redirtied, fresh
        groups[3, group] += fresh
        rate[group] = rate[group] * decay + dirty
        if dirty:
            groups[4, group] += 1
            groups[5, group] += 1
            last_active[group] = number
            total[group] += dirty
            n_active += 1
        else:
            groups[5, group] = 0
        all_dirty += dirty
        all_redirtied += redirtied
        all_fresh += fresh
    return all_dirty, all_redirtied, all_fresh, n_active, n_runs


def update(case: Case) -> Run:
    turn, number = itertools.cycle(case.bitmaps), itertools.count()
    last, ever = (np.zeros(case.n_words, np.uint64) for _ in range(2))
    groups, last_active = np.zeros((6, case.n_groups), np.uint32), np.full(case.n_groups, -1, "i4")
    total, rate = np.zeros(case.n_groups, np.uint64), np.zeros(case.n_groups)
    decay = 2 ** (-DURATION_S / HALF_LIFE_S)
    observed, kept = [0.0], (last, ever, groups, last_active, total, rate)

    def run() -> tuple[Any, ...]:
        seen = _update(next(turn), kept, next(number), decay)
        observed[0] = observed[0] * decay + DURATION_S
        return (seen, *groups, last_active, total, lambda: rate / observed[0])

    return run
