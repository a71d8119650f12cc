"""NumPy, by the fastest way found for each piece of work: in blocks that stay in the cache with
what is made of them, and with a group's eight counts added up by one multiplication, which is
six times as fast as `bitwise_count(words).reshape(-1, 8).sum(axis=1)`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

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
    Scratch,
    Words,
    at_least,
    first,
    mean_and_std,
    windows_of,
)

BLOCK_WORDS = 1 << 15
_EVEN, _SHORT = np.uint64(0x00FF00FF00FF00FF), np.uint64(0x0001000100010001)
_8, _48, _63, _1 = (np.uint64(n) for n in (8, 48, 63, 1))


def blocks(n_words: int) -> Iterator[tuple[slice, slice]]:
    """Of the words, and of their groups."""
    for start in range(0, n_words, BLOCK_WORDS):
        end = min(start + BLOCK_WORDS, n_words)
        yield slice(start, end), slice(start // GROUP_WORDS, end // GROUP_WORDS)


def by_group(words: Words) -> Words:
    """Set bits of each eight words."""
    counts = np.bitwise_count(words).view(np.uint64)  # a byte a word
    pairs = counts >> _8
    pairs &= _EVEN
    counts &= _EVEN
    counts += pairs
    counts *= _SHORT  # its highest 16 bits are the sum of all
    counts >>= _48
    return counts


def n_set(words: Words) -> int:
    return int(np.bitwise_count(words).sum(dtype=np.uint64))


def counts(case: Case) -> Run:
    turn, into = itertools.cycle(case.bitmaps), np.zeros(case.n_groups, np.uint32)

    def run() -> Any:
        words = next(turn)
        for block, groups in blocks(case.n_words):
            into[groups] = by_group(words[block])
        return into

    return run


def overlap(case: Case) -> Run:
    turn = itertools.cycle(case.bitmaps)
    ever, last = np.zeros(case.n_words, np.uint64), [np.zeros(case.n_words, np.uint64)]

    def run() -> tuple[int, ...]:
        words, before = next(turn), last[0]
        dirty = redirtied = fresh = 0
        for block, _ in blocks(case.n_words):
            now = words[block]
            dirty += n_set(now)
            redirtied += n_set(now & before[block])
            fresh += n_set(now & ~ever[block])
            ever[block] |= now
        last[0] = words
        return dirty, redirtied, fresh

    return run


def starts(words: Words, block: slice) -> Words:
    """First pages of runs."""
    now = words[block]
    before = now << _1
    before[1:] |= now[:-1] >> _63
    if block.start:
        before[0] |= words[block.start - 1] >> _63
    np.invert(before, out=before)
    before &= now
    return before


def runs(case: Case) -> Run:
    turn = itertools.cycle(case.bitmaps)

    def run() -> int:
        words = next(turn)
        return sum(n_set(starts(words, block)) for block, _ in blocks(case.n_words))

    return run


def _ones(words: Words) -> Any:
    bits = np.unpackbits(words.view(np.uint8), bitorder="little")
    return np.flatnonzero(bits.view(bool))  # five times as fast as of bytes


def pages(case: Case) -> Run:
    """Where most words are clean, of the others only."""
    turn = itertools.cycle(case.bitmaps)

    def run() -> Any:
        words = next(turn)
        dirty = np.flatnonzero(words)
        if 4 * dirty.size > words.size:
            return _ones(words)
        bits = _ones(words[dirty])
        return (dirty[bits >> 6] << 6) + (bits & 63)

    return run


def windows(case: Case) -> Run:
    intervals = first(N_WINDOWED, case.bitmaps)

    def run() -> list[float]:
        sums = [0] * len(LENGTHS)
        for block, _ in blocks(case.n_words):
            for row, unions in enumerate(windows_of([words[block] for words in intervals])):
                sums[row] += sum(map(n_set, unions))
        return [n / (N_WINDOWED // length) for n, length in zip(sums, LENGTHS, strict=True)]

    return run


def group_windows(case: Case) -> Run:
    intervals = first(N_WINDOWED, case.bitmaps)
    sums = np.zeros((len(LENGTHS), case.n_groups), np.uint64)
    squares = np.zeros_like(sums)

    def run() -> Any:
        for block, groups in blocks(case.n_words):
            for row, unions in enumerate(windows_of([words[block] for words in intervals])):
                sums[row, groups] = squares[row, groups] = 0
                for union in unions:
                    n = by_group(union)
                    sums[row, groups] += n
                    squares[row, groups] += n * n
        return lambda: mean_and_std(sums, squares)

    return run


def hot(case: Case) -> Run:
    intervals = first(HOT_OF, case.bitmaps)

    def run() -> Words:
        found = np.empty(case.n_words, np.uint64)
        for block, _ in blocks(case.n_words):
            found[block] = at_least(HOT_FROM, [words[block] for words in intervals])
        return found

    return run


class Update:
    """The arrays of `mempattern.Groups`, kept block by block."""

    def __init__(self, case: Case) -> None:
        self.turn = itertools.cycle(case.bitmaps)
        self.last, self.ever = (np.zeros(case.n_words, np.uint64) for _ in range(2))
        n = case.n_groups
        self.dirty, self.redirtied, self.fresh = (np.zeros(n, np.uint32) for _ in range(3))
        self.touched, self.active, self.streak = (np.zeros(n, np.uint32) for _ in range(3))
        self.last_active, self.total = np.full(n, -1, np.int32), np.zeros(n, np.uint64)
        self.rate, self.observed, self.n = np.zeros(n), 0.0, 0

    def __call__(self) -> tuple[Any, ...]:
        words, n_active, n_runs = next(self.turn), 0, 0
        decay = 2 ** (-DURATION_S / HALF_LIFE_S)
        for block, groups in blocks(words.size):
            now = words[block]
            dirty, fresh = by_group(now), by_group(now & ~self.ever[block])
            self.redirtied[groups] = by_group(now & self.last[block])
            self.dirty[groups], self.fresh[groups] = dirty, fresh
            self.last[block] = now
            self.ever[block] |= now
            is_active = dirty > 0
            self.touched[groups] += self.fresh[groups]
            self.active[groups] += is_active
            streak = self.streak[groups]
            streak += 1
            streak *= is_active
            self.last_active[groups][is_active] = self.n
            self.total[groups] += dirty
            rate = self.rate[groups]
            rate *= decay
            rate += dirty
            n_active += int(np.count_nonzero(is_active))
            n_runs += n_set(starts(words, block))
        self.observed = self.observed * decay + DURATION_S
        self.n += 1
        sums = (int(a.sum(dtype=np.uint64)) for a in (self.dirty, self.redirtied, self.fresh))
        return (
            (*sums, n_active, n_runs), self.dirty, self.redirtied, self.fresh, self.touched,
            self.active, self.streak, self.last_active, self.total,
            lambda: self.rate / self.observed,
        )  # fmt: skip


update = Update


def trace_write(case: Case) -> Run:
    """`savez_compressed`, which is zlib: no thread, no commits, no checksum of an interval."""
    file = Scratch()

    def run() -> Run:
        _write(case, file.path)
        return lambda: _read(file.path)

    return run


def trace_read(case: Case) -> Run:
    file = Scratch()
    _write(case, file.path)
    return lambda: _read(file.path)


def _write(case: Case, path: Path) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, *case.bitmaps)


def _read(path: Path) -> list[Words]:
    with np.load(path) as file:
        return list(file.values())
