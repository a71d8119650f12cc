"""bitarray, over the same memory: nothing is converted."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
from bitarray import bitarray
from bitarray.util import count_and, sc_decode, sc_encode

from peers.work import (
    GROUP_PAGES,
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
    windows_of,
)

_DIRTY = bitarray("1")


def forms(case: Case) -> list[bitarray]:
    return [bitarray(buffer=words, endian="little") for words in case.bitmaps]


def words_of(bits: bitarray) -> Words:
    return np.frombuffer(bits.tobytes(), np.uint64)


def counts(case: Case) -> Run:
    turn = itertools.cycle(forms(case))
    starts = range(0, case.n_pages, GROUP_PAGES)

    def run() -> list[int]:
        count = next(turn).count
        return [count(1, start, start + GROUP_PAGES) for start in starts]

    return run


def overlap(case: Case) -> Run:
    turn, ever = itertools.cycle(forms(case)), bitarray(case.n_pages, "little")
    last = [ever.copy()]

    def run() -> tuple[int, ...]:
        bits = next(turn)
        dirty = bits.count()
        found = dirty, count_and(bits, last[0]), dirty - count_and(bits, ever)
        ever.__ior__(bits)
        last[0] = bits
        return found

    return run


def runs(case: Case) -> Run:
    turn = itertools.cycle(forms(case))

    def run() -> int:
        bits = next(turn)
        return bits.count() - count_and(bits, bits >> 1)

    return run


def pages(case: Case) -> Run:
    turn = itertools.cycle(forms(case))
    return lambda: list(next(turn).search(_DIRTY))


def windows(case: Case) -> Run:
    intervals = first(N_WINDOWED, forms(case))

    def run() -> list[float]:
        return [
            sum(union.count() for union in unions) / (N_WINDOWED // length)
            for unions, length in zip(windows_of(intervals), LENGTHS, strict=True)
        ]

    return run


def hot(case: Case) -> Run:
    intervals = first(HOT_OF, forms(case))

    def run() -> Any:
        found = at_least(HOT_FROM, intervals)
        return lambda: words_of(found)

    return run


def trace_write(case: Case) -> Run:
    """In its own format for sparse arrays, one after another."""
    bitmaps, file = forms(case), Scratch()

    def run() -> Run:
        _write(bitmaps, file.path)
        return lambda: [words_of(bits) for bits in _read(file.path, len(bitmaps))]

    return run


def trace_read(case: Case) -> Run:
    file, n = Scratch(), len(case.bitmaps)
    _write(forms(case), file.path)

    def run() -> Any:
        found = _read(file.path, n)
        return lambda: [words_of(bits) for bits in found]

    return run


def _write(bitmaps: list[bitarray], path: Path) -> None:
    with path.open("wb") as file:
        for bits in bitmaps:
            file.write(sc_encode(bits))


def _read(path: Path, n: int) -> list[bitarray]:
    stream = iter(path.read_bytes())
    return [sc_decode(stream) for _ in range(n)]
