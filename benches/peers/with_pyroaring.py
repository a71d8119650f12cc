"""pyroaring. It is given its own sets with runs where these are smaller, and returns sets."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
from pyroaring import BitMap

from peers.roaring import portable
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

FEW_PAGES = 64
"""In a group, on average: from so many on counting ranges is sooner than listing the pages."""


def forms(case: Case) -> list[BitMap]:
    sets = [BitMap.deserialize(portable(words)) for words in case.bitmaps]
    for one in sets:
        one.run_optimize()
    return sets


def words_of(one: BitMap, n_words: int) -> Words:
    bits = np.zeros(64 * n_words, bool)
    bits[np.asarray(one.to_array())] = True
    return np.packbits(bits, bitorder="little").view(np.uint64)


def counts(case: Case) -> Run:
    """By ranges; or, with NumPy's help, of the list of pages, where that is short."""
    turn, n_groups = itertools.cycle(forms(case)), case.n_groups
    starts = range(0, case.n_pages, GROUP_PAGES)

    def run() -> Any:
        one = next(turn)
        if len(one) < FEW_PAGES * n_groups:
            return np.bincount(np.asarray(one.to_array()) >> 9, minlength=n_groups)
        count = one.range_cardinality
        return [count(start, start + GROUP_PAGES) for start in starts]

    return run


def overlap(case: Case) -> Run:
    turn, ever = itertools.cycle(forms(case)), BitMap()
    last = [BitMap()]

    def run() -> tuple[int, ...]:
        one = next(turn)
        found = len(one), one.intersection_cardinality(last[0]), one.difference_cardinality(ever)
        ever.__ior__(one)
        last[0] = one
        return found

    return run


def runs(case: Case) -> Run:
    turn = itertools.cycle(forms(case))

    def run() -> int:
        one = next(turn)
        return len(one) - one.intersection_cardinality(one.shift(1))

    return run


def pages(case: Case) -> Run:
    turn = itertools.cycle(forms(case))
    return lambda: next(turn).to_array()


def windows(case: Case) -> Run:
    intervals = first(N_WINDOWED, forms(case))

    def run() -> list[float]:
        return [
            sum(map(len, unions)) / (N_WINDOWED // length)
            for unions, length in zip(windows_of(intervals), LENGTHS, strict=True)
        ]

    return run


def hot(case: Case) -> Run:
    intervals = first(HOT_OF, forms(case))

    def run() -> Any:
        found = at_least(HOT_FROM, intervals)
        return lambda: words_of(found, case.n_words)

    return run


def trace_write(case: Case) -> Run:
    """Serialized in the portable format, one after another."""
    sets, file = forms(case), Scratch()

    def run() -> Run:
        _write(sets, file.path)
        return lambda: [words_of(one, case.n_words) for one in _read(file.path)]

    return run


def trace_read(case: Case) -> Run:
    file = Scratch()
    _write(forms(case), file.path)

    def run() -> Any:
        found = _read(file.path)
        return lambda: [words_of(one, case.n_words) for one in found]

    return run


def _write(sets: list[BitMap], path: Path) -> None:
    with path.open("wb") as file:
        for one in sets:
            data = one.serialize()
            file.write(len(data).to_bytes(8, "little"))
            file.write(data)


def _read(path: Path) -> list[BitMap]:
    data, at, found = memoryview(path.read_bytes()), 0, []
    while at < len(data):
        n = int.from_bytes(data[at : at + 8], "little")
        found.append(BitMap.deserialize(bytes(data[at + 8 : at + 8 + n])))
        at += 8 + n
    return found
