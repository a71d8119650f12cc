"""A curve D(t) as the memory of a VM that migrates: so many pages, and not which."""

from __future__ import annotations

import math
from typing import Literal, SupportsIndex

import numpy as np
import numpy.typing as npt

from mempattern._checks import whole_number
from mempattern.curve import DirtyCurve
from mempattern.errors import UsageError
from mempattern.migration.memory import CHUNK_PAGES, Sent

_SLICES = 256
_WINDOWS_S = np.geomspace(1e-3, 1e6, 400)


class ExpectedMemory:
    """As many pages as D(t) expects, of a VM of `n_pages`, `zero_pages` of which hold only zeros.

    Memory is cut into slices, which are sent one after the other and around. What is written is
    taken to lie evenly in them, so that of a slice whose log was cleared t ago D(t) / slices are
    to be sent. Where the zero pages lie is not known either, and decides how many others are left
    when a first pass ends: `zeros` has them lie evenly, too, or behind the others. They are taken
    not to be written. `bound` takes the curve's lower or upper bound.

    Raises `UsageError` for numbers of pages that are none.
    """

    def __init__(
        self,
        curve: DirtyCurve,
        n_pages: SupportsIndex,
        zero_pages: SupportsIndex = 0,
        *,
        bound: Literal["low", "pages", "high"] = "pages",
        zeros: Literal["evenly", "last"] = "evenly",
        chunk_pages: SupportsIndex = CHUNK_PAGES,
    ) -> None:
        total = _whole("n_pages", n_pages, 1)
        n_zeros = _whole("zero_pages", zero_pages, 0)
        in_chunk = _whole("chunk_pages", chunk_pages, 0)
        estimates = [curve.at(float(window_s)) for window_s in _WINDOWS_S]
        self._written = np.array([getattr(one, bound) for one in estimates], np.float64)
        self.page_bytes: int = curve.page_bytes
        self.n_pages: int = total
        self.pending_pages: float = float(total)
        self._zero_pages = min(n_zeros, total)
        self._share = 1 / _SLICES
        evenly = [self._zero_pages * self._share] * _SLICES
        self._zeros = evenly if zeros == "evenly" else [0.0] * (_SLICES - 1) + [self._zero_pages]
        # A chunk's log is cleared when the first slice of it is sent; without chunks, by a sync.
        self._chunk = _SLICES * in_chunk / total if in_chunk else float(_SLICES)

    def start(self, seed: int) -> None:
        self._now_s = 0.0
        self._cleared_s: npt.NDArray[np.float64] = np.full(_SLICES, -np.inf)
        self._pending = [(self.n_pages - self._zero_pages) * self._share] * _SLICES
        self._zero = list(self._zeros)
        self._at = 0
        self._sync_s = 0.0
        self._clear_s = [math.nan] * _SLICES
        self._count()

    def run(self, duration_s: float) -> None:
        self._now_s += duration_s

    def sync(self) -> float:
        ages = self._now_s - self._cleared_s
        sent = np.isfinite(ages)
        written = np.interp(ages[sent], _WINDOWS_S, self._written, left=0.0)
        written = np.minimum(written, self.n_pages - self._zero_pages)
        pending = np.array(self._pending)
        pending[sent] = written * self._share
        self._pending = pending.tolist()
        self._sync_s = self._now_s
        self._clear_s = [math.nan] * _SLICES
        self._count()
        return self.pending_pages

    def send(self, duration_s: float, page_s: float, zero_page_s: float) -> Sent:
        left_s, pages, zeros = duration_s, 0.0, 0.0
        for _ in range(_SLICES):
            slice_pages, slice_zeros = self._pending[self._at], self._zero[self._at]
            slice_s = slice_pages * page_s + slice_zeros * zero_page_s
            share = 1.0 if slice_s <= left_s else left_s / slice_s
            if slice_pages:
                self._clear(self._at)
            self._pending[self._at] -= share * slice_pages
            self._zero[self._at] -= share * slice_zeros
            pages += share * slice_pages
            zeros += share * slice_zeros
            if share < 1.0:  # as nearly always, in a large VM
                self.pending_pages -= pages + zeros
                break
            left_s -= slice_s
            self._cleared_s[self._at] = self._clear_s[self._at]
            self._at = (self._at + 1) % _SLICES
        else:
            self._count()
        return Sent(pages + zeros, zeros, pages * page_s + zeros * zero_page_s)

    def _clear(self, at: int) -> None:
        """Of the chunk that the slice is in, unless it is clear since the last sync."""
        if math.isnan(self._clear_s[at]):
            first = int(at // self._chunk * self._chunk)
            last = max(int(first + self._chunk), at + 1)
            when_s = self._sync_s if self._chunk >= _SLICES else self._now_s
            last = min(last, _SLICES)
            self._clear_s[first:last] = [when_s] * (last - first)

    def _count(self) -> None:
        self.pending_pages = math.fsum(self._pending) + math.fsum(self._zero)


def _whole(name: str, value: SupportsIndex, least: int) -> int:
    number = whole_number(value, least, 1 << 52)
    if number is None:
        raise UsageError(f"{name} must be a whole number from {least} on, not {value!r}")
    return number
