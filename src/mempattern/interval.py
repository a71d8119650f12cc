"""What one collection of dirty pages saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from mempattern._checks import whole_number
from mempattern._memory import AnyBitmap, Bitmap
from mempattern.bitmaps import page_numbers
from mempattern.errors import BitmapError, RegionError, UsageError
from mempattern.regions import Region

__all__ = ["AnyBitmap", "Bitmap", "Interval", "Provenance"]

_MOST_NS = (1 << 63) - 1
_UINT64 = np.dtype(np.uint64)


@dataclass(frozen=True, slots=True)
class Provenance:
    """How an interval's pages were observed; the same for all intervals of one source."""

    source: str
    """What collected: "kvm-dirty-log", "kvm-dirty-ring", ..."""
    blind_spots: tuple[str, ...] = ()
    """Writes that this source cannot see."""
    granularity: str = "a page"
    """What a set bit vouches for, where that is not exactly one written page."""


@dataclass(frozen=True, slots=True, eq=False)
class Interval:
    """The pages of each region written since the collection before.

    `bitmaps[name]` is a read-only uint64 array of `region.n_words` words. A source's stays valid
    and unchanged for as long as it is referenced, and may keep the memory of all regions' bitmaps
    with it: copy what you keep of one.

    Raises `BitmapError` for an array of another dtype or length, `RegionError` for a missing one,
    `UsageError` unless the interval ends after it starts.
    """

    index: int
    """Number of the interval within its source, from 0."""
    start_ns: int
    """CLOCK_MONOTONIC at the end of the collection before."""
    end_ns: int
    """CLOCK_MONOTONIC at the end of this collection."""
    regions: tuple[Region, ...]
    """The source's at the end of this collection."""
    bitmaps: Mapping[str, Bitmap]
    provenance: Provenance
    """The source's."""
    lost_pages: int = 0
    """0 if no page is known to be missing from the bitmaps, else a lower bound of how many."""
    collect_ns: int = 0
    """Time the collection itself took."""
    lent: tuple[tuple[Region, ...], Any, list[Any]] | None = field(
        init=False, default=None, repr=False
    )
    """For the C core: regions, and pointers to their bitmaps with what keeps these alive."""

    def __post_init__(self) -> None:
        for name in ("index", "start_ns", "end_ns", "lost_pages", "collect_ns"):
            least = -_MOST_NS if name in ("start_ns", "end_ns") else 0
            number = whole_number(getattr(self, name), least, _MOST_NS)
            if number is None:
                raise UsageError(
                    f"interval {self.index!r}: {name} must be a whole number of at most 63 bits, "
                    f"not {getattr(self, name)!r}"
                )
            object.__setattr__(self, name, number)
        if self.end_ns <= self.start_ns:
            raise UsageError(
                f"interval {self.index} must end after it starts, "
                f"not at {self.end_ns} ns having started at {self.start_ns} ns"
            )
        bitmaps = {region.name: self._read_only(region) for region in self.regions}
        object.__setattr__(self, "bitmaps", MappingProxyType(bitmaps))

    def _read_only(self, region: Region) -> Bitmap:
        bitmap = self.bitmaps.get(region.name)
        if (
            type(bitmap) is np.ndarray  # the usual case by itself, for thousands of regions
            and bitmap.dtype == _UINT64
            and bitmap.shape == (region.n_words,)
            and not bitmap.flags.writeable
        ):
            return bitmap
        if bitmap is None:
            raise RegionError(f"interval {self.index} has no bitmap of region {region.name!r}")
        array = np.asarray(bitmap)
        if array.dtype != np.uint64 or array.shape != (region.n_words,):
            raise BitmapError(
                f"interval {self.index}: region {region.name!r} needs {region.n_words} words "
                f"of uint64, not an array of {array.dtype} shaped {array.shape}"
            )
        if array.flags.writeable:
            array = array.view()
            array.flags.writeable = False
        return array

    @property
    def duration_s(self) -> float:
        """From `start_ns` to `end_ns`."""
        return (self.end_ns - self.start_ns) / 1e9

    def pages(self, region_name: str) -> npt.NDArray[np.int64]:
        """Numbers of the region's dirty pages, ascending: a new int64 array.

        Raises `RegionError`, `BitmapError` (the bitmap changed in the middle), `KernelError`.
        """
        for region in self.regions:
            if region.name == region_name:
                return page_numbers(self.bitmaps[region_name], region.n_pages)
        raise RegionError(f"no region {region_name!r} in interval {self.index}")
