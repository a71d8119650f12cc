"""Some pages of a region, chosen by chance, and in which of the last 64 intervals each was dirty.

Which groups are sampled is decided by a hash of their place, as SHARDS samples addresses
(Waldspurger et al., "Efficient MRC Construction with SHARDS", FAST '15): those with a hash below a
limit, which sinks when they become too many and rises when too few are left. So a group is in the
sample from its first dirty page on, with its whole past, and the sample is uniform and bounded.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mempattern.interval import Bitmap
from mempattern.regions import Region

DEPTH = 64
"""Intervals remembered of each sampled page: the bits of a word."""

SAMPLE_PAGES = 32768
"""Most pages in the sample of a region: 256 KiB, and some 50 microseconds an interval."""

_PIECE_PAGES = 512
_LOOKED_UP = 16384  # groups with the smallest hashes, among which is the sample of a busy region
_ONE, _WORD = np.uint64(1), np.uint64(64)


@dataclass(frozen=True, slots=True, eq=False)
class Sampled:
    """A sample of the groups active in the last intervals, a row a group.

    A row's pages are the group's, or 512 consecutive ones of a larger group.
    """

    hashes: npt.NDArray[np.float64]
    """(n_groups,), each from 0 to 1."""
    places: npt.NDArray[np.int64]
    """(n_groups,): page number in the region of the row's first page."""
    past: npt.NDArray[np.uint64]
    """(n_groups, n_pages): bit i says whether the page was dirty i intervals ago."""
    known: npt.NDArray[np.int64]
    """(n_groups,): intervals of the past that are known, at most 64."""
    limit: float
    """The hash below which groups are sampled."""
    share: float
    """Of a group's pages, those that its row has."""


class PageSample:
    """The sample of one region. `observe` comes once for each interval that dirtied it."""

    def __init__(self, region: Region, group_pages: int) -> None:
        self._group_pages = group_pages
        self._piece_words = min(group_pages, _PIECE_PAGES) // 64
        self._most = SAMPLE_PAGES // (self._piece_words * 64)
        self._past: npt.NDArray[np.uint64] = np.zeros((0, self._piece_words * 64), np.uint64)
        self._known_from = np.empty(0, np.int64)
        self._observed = 0
        self._limit = 1.0
        self._limit_before = 1.0  # it rose
        self._raised_at = 0
        self._groups = self._starts = np.empty(0, np.int64)
        self._words = np.empty((0, self._piece_words), np.int64)
        self._valid = np.empty((0, self._piece_words), np.uint64)
        self._place(region)
        self._is_sampled = np.zeros(self._hash_of.size, bool)

    def _place(self, region: Region) -> None:
        """Hash every group by where it lies, which growth does not change."""
        self.region = region
        base = region.address // (region.page_bytes * self._group_pages)
        numbers = np.arange(base, base + region.n_groups(self._group_pages), dtype=np.uint64)
        self._hash_of = _hash(numbers, zlib.crc32(region.name.encode()))
        if self._hash_of.size > _LOOKED_UP:
            first = np.argpartition(self._hash_of, _LOOKED_UP - 1)[:_LOOKED_UP]
            self._order = first[np.argsort(self._hash_of[first])]

    def _aim(self, groups: npt.NDArray[np.int64]) -> None:
        """The rows are of these groups: where their words are, and which bits of them are pages."""
        self._groups = groups
        self._is_sampled = np.zeros(self._hash_of.size, bool)
        self._is_sampled[groups] = True
        starts = groups * (self._group_pages // 64)
        spare = self._group_pages // 64 - self._piece_words
        starts += (self._hash_of[groups] * (1 << 50)).astype(np.int64) % (spare + 1)
        words = starts[:, None] + np.arange(self._piece_words)
        left = self.region.n_pages - words * 64
        n_valid = np.minimum(np.maximum(left, 0), 64).astype(np.uint64)  # faster than clip()
        self._valid = np.where(n_valid == _WORD, ~np.uint64(0), (_ONE << n_valid % _WORD) - _ONE)
        self._words = np.minimum(words, self.region.n_words - 1)
        self._starts = starts * 64

    def follow(self, region: Region) -> None:
        """Go on with the region as it has grown: at its start by whole groups."""
        in_front = (self.region.address - region.address) // region.page_bytes
        self._place(region)
        self._aim(self._groups + in_front // self._group_pages)

    def observe(
        self, index: int, bitmap: Bitmap, dirty: npt.NDArray[Any], active_groups: int
    ) -> None:
        """Take in interval number `index`, from 0; `dirty` is the region's `Groups.dirty`, of which
        `active_groups` are not 0.
        """
        self._age(index + 1)
        self._admit(dirty, active_groups)
        words = bitmap[self._words] & self._valid
        bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")
        self._past |= bits

    def _age(self, observed: int) -> None:
        gone = observed - self._observed
        self._observed = observed
        if gone < DEPTH:
            self._past <<= np.uint64(gone)
        else:
            self._past[:] = 0

    def _admit(self, dirty: npt.NDArray[Any], active_groups: int) -> None:
        """Let go of groups that are idle by now, let in those that are active, keep to the size."""
        active = self._active(dirty, active_groups)
        new = np.sort(active[(self._hash_of[active] < self._limit) & ~self._is_sampled[active]])
        alive = (self._past.max(axis=1) > 0) | (dirty[self._groups] > 0)  # faster than any()
        few = self._limit < 1 and alive.sum() + new.size < self._most // 2
        if new.size == 0 and alive.all() and not few:
            return
        groups = np.concatenate([self._groups[alive], new])
        past = np.zeros((groups.size, self._past.shape[1]), np.uint64)
        past[: groups.size - new.size] = self._past[alive]
        late = self._hash_of[new] >= self._limit_before
        since = np.where(late, self._raised_at, self._observed - DEPTH)
        known_from = np.concatenate([self._known_from[alive], since])
        if groups.size > self._most:
            hashes = self._hash_of[groups]
            self._limit = float(np.partition(hashes, self._most)[self._most])
            kept = hashes < self._limit
            groups, past, known_from = groups[kept], past[kept], known_from[kept]
        elif few:
            if self._observed - self._raised_at >= DEPTH:
                self._limit_before = self._limit
            self._limit = min(1.0, 2 * self._limit)
            self._raised_at = self._observed
        self._past, self._known_from = past, known_from
        self._aim(groups)

    def _active(self, dirty: npt.NDArray[Any], active_groups: int) -> npt.NDArray[np.int64]:
        """The active groups; of many, those with small hashes, twice as many as will be wanted."""
        expected = _LOOKED_UP * active_groups // dirty.size
        if dirty.size <= _LOOKED_UP or expected < 2 * self._most:
            return np.flatnonzero(dirty != 0)  # which is faster than of numbers
        self._limit = min(self._limit, float(self._hash_of[self._order[-1]]))
        return self._order[dirty[self._order] > 0]

    def sampled(self, observed: int) -> Sampled:
        """The sample after `observed` intervals, of which the last may have left the region out."""
        missed = np.uint64(min(observed - self._observed, DEPTH - 1))
        past = self._past << missed if observed - self._observed < DEPTH else self._past * 0
        known = np.minimum(observed - self._known_from, DEPTH)
        share = self._piece_words * 64 / self._group_pages
        hashes = self._hash_of[self._groups]
        return Sampled(hashes, self._starts, past, known, self._limit, share)


def _hash(numbers: npt.NDArray[np.uint64], seed: int) -> npt.NDArray[np.float64]:
    """From 0 to 1, by the finalizer of splitmix64 (Steele et al., OOPSLA '14)."""
    x = numbers * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return np.asarray((x >> np.uint64(11)) * 2.0**-53, np.float64)
