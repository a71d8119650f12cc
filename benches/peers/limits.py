"""What the memory or the disk allows: the same bytes, and no work on them. Nothing is found."""

from __future__ import annotations

import itertools
from typing import Any

import compiled
import numpy as np

from peers.plain_c import pointer, turn_of
from peers.work import HOT_OF, N_WINDOWED, Case, Run, Scratch, first

DECLARATIONS = """
    uint64_t limit_read(const uint64_t *words, size_t n);
    void limit_update(const uint64_t *cur, uint64_t *last, const uint64_t *ever, uint64_t *groups,
                      size_t n);
"""
MOVED_WORDS = 512
"""`limit_update` takes multiples of that."""

_, lib = compiled.load("limits", ["limits.c"], DECLARATIONS)


def read_one(case: Case) -> Run:
    turn = turn_of(case)
    return lambda: lib.limit_read(next(turn), case.n_words)


def read_many(case: Case, n: int) -> Run:
    each = [pointer(words) for words in first(n, case.bitmaps)]

    def run() -> None:
        for words in each:
            lib.limit_read(words, case.n_words)

    return run


counts = overlap = runs = pages = read_one


def windows(case: Case) -> Run:
    return read_many(case, N_WINDOWED)


group_windows = windows


def hot(case: Case) -> Run:
    return read_many(case, HOT_OF)


def update(case: Case) -> Run:
    """Where half of the groups are active or more, nearly every line of all that an update keeps
    has such a group in it: what moves all of that. `ever` is only read, for once all bitmaps
    have been seen no page is fresh. Else what reads the bitmap.
    """
    n_words = case.n_words // MOVED_WORDS * MOVED_WORDS
    if case.active_share < 0.5 or n_words == 0:
        return read_one(case)
    last, ever = (pointer(np.zeros(n_words, np.uint64)) for _ in range(2))
    groups = pointer(np.zeros(n_words // 8 * 44 // 8, np.uint64))
    turn = itertools.cycle([pointer(words) for words in case.bitmaps])
    return lambda: lib.limit_update(next(turn), last, ever, groups, n_words)


def trace_write(case: Case) -> Run:
    file = Scratch()
    return lambda: _write(case, file)


def trace_read(case: Case) -> Run:
    file = Scratch()
    _write(case, file)
    return lambda: np.fromfile(file.path, np.uint64)


def _write(case: Case, file: Scratch) -> Any:
    with file.path.open("wb") as stream:
        for words in case.bitmaps:
            stream.write(words.data)
