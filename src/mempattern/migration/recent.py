"""The last intervals that a tracer saw, kept for a plan."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from mempattern.interval import Interval, Provenance
from mempattern.regions import Region


class RecentIntervals:
    """The last `most` intervals. Only their words that are not empty are kept: most of a VM is
    clean."""

    def __init__(self, most: int) -> None:
        self._kept: deque[_Kept] = deque(maxlen=most)

    def add(self, interval: Interval) -> None:
        self._kept.append(_Kept.of(interval))

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> Interval:
        return self._kept[index].interval()

    def __iter__(self) -> Iterator[Interval]:
        return (kept.interval() for kept in self._kept)

    def lately(self, duration_s: float) -> list[Interval] | None:
        """The last ones that cover so long a time; None if all of them do not."""
        for n_last, kept in enumerate(reversed(self._kept), start=1):
            if self._kept[-1].end_ns - kept.start_ns >= duration_s * 1e9:
                return [self[index] for index in range(-n_last, 0)]
        return None


class _Kept(NamedTuple):
    number: int
    start_ns: int
    end_ns: int
    regions: tuple[Region, ...]
    words: list[tuple[npt.NDArray[np.intp], npt.NDArray[np.uint64]]]
    """Of each region, where they are and what they are."""
    provenance: Provenance
    lost_pages: int

    @classmethod
    def of(cls, interval: Interval) -> Self:
        words: list[tuple[npt.NDArray[np.intp], npt.NDArray[np.uint64]]] = []
        for region in interval.regions:
            bitmap = interval.bitmaps[region.name]
            places = np.flatnonzero(bitmap)
            words.append((places, bitmap[places]))
        return cls(
            interval.index, interval.start_ns, interval.end_ns, interval.regions, words,
            interval.provenance, interval.lost_pages,
        )  # fmt: skip

    def interval(self) -> Interval:
        bitmaps = {region.name: np.zeros(region.n_words, np.uint64) for region in self.regions}
        for region, (places, words) in zip(self.regions, self.words, strict=True):
            bitmaps[region.name][places] = words
        return Interval(self.number, self.start_ns, self.end_ns, self.regions, bitmaps,
                        self.provenance, self.lost_pages)  # fmt: skip
