"""CRoaring of Debian's libroaring-dev, called from C, see croaring.c.

Without the package, importing this raises `ImportError`. That version (0.2.66) cannot shift a set,
and so cannot count runs.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import compiled
import numpy as np

from peers.roaring import portable
from peers.work import HOT_FROM, HOT_OF, LENGTHS, N_WINDOWED, Case, Run, Words, first

if not Path("/usr/include/roaring/roaring.h").exists():
    raise ImportError("CRoaring is not installed: apt-get install libroaring-dev")

ffi, lib = compiled.load(
    "croaring",
    ["peers/croaring.c"],
    """
        typedef struct roaring_bitmap_s roaring_bitmap_t;
        roaring_bitmap_t *croaring_make(const char *portable, size_t n_bytes);
        void croaring_free(roaring_bitmap_t *set);
        void croaring_counts(const roaring_bitmap_t *set, size_t n_groups, uint32_t *counts);
        void croaring_overlap(const roaring_bitmap_t *set, const roaring_bitmap_t *last,
                              roaring_bitmap_t *ever, uint64_t *seen);
        uint64_t croaring_size(const roaring_bitmap_t *set);
        void croaring_pages(const roaring_bitmap_t *set, uint32_t *pages);
        void croaring_windows(const roaring_bitmap_t *const *intervals, uint64_t *sums);
        roaring_bitmap_t *croaring_hot(const roaring_bitmap_t *const *intervals,
                                       size_t n_intervals, unsigned k);
        """,
    ("roaring",),
)
_SETS = ffi.typeof("roaring_bitmap_t *[]")


def made(data: bytes = b"") -> Any:
    return ffi.gc(lib.croaring_make(data, len(data)), lib.croaring_free)


def forms(case: Case) -> list[Any]:
    return [made(portable(words)) for words in case.bitmaps]


def pages_of(one: Any) -> np.ndarray:
    found = np.empty(lib.croaring_size(one), np.uint32)
    lib.croaring_pages(one, ffi.from_buffer("uint32_t[]", found))
    return found


def words_of(one: Any, n_words: int) -> Words:
    bits = np.zeros(64 * n_words, bool)
    bits[pages_of(one)] = True
    return np.packbits(bits, bitorder="little").view(np.uint64)


def counts(case: Case) -> Run:
    turn, into = itertools.cycle(forms(case)), np.zeros(case.n_groups, np.uint32)
    to = ffi.from_buffer("uint32_t[]", into)

    def run() -> Any:
        lib.croaring_counts(next(turn), case.n_groups, to)
        return into

    return run


def overlap(case: Case) -> Run:
    turn, ever, last, seen = itertools.cycle(forms(case)), made(), [made()], ffi.new("uint64_t[3]")

    def run() -> tuple[int, ...]:
        one = next(turn)
        lib.croaring_overlap(one, last[0], ever, seen)
        last[0] = one
        return tuple(seen)

    return run


def pages(case: Case) -> Run:
    turn = itertools.cycle(forms(case))
    return lambda: pages_of(next(turn))


def windows(case: Case) -> Run:
    each = first(N_WINDOWED, forms(case))
    sums = ffi.new("uint64_t[]", len(LENGTHS))

    def run() -> list[float]:
        lib.croaring_windows(ffi.new(_SETS, each), sums)
        return [n / (N_WINDOWED // length) for n, length in zip(sums, LENGTHS, strict=True)]

    return run


def hot(case: Case) -> Run:
    each = first(HOT_OF, forms(case))

    def run() -> Any:
        found = lib.croaring_hot(ffi.new(_SETS, each), HOT_OF, HOT_FROM)
        found = ffi.gc(found, lib.croaring_free)
        return lambda: words_of(found, case.n_words)

    return run
