"""Intervals going into the C core: a bitmap for each region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mempattern._memory import AnyBitmap, as_words, lend
from mempattern._native import ffi
from mempattern.errors import BitmapError, RegionError
from mempattern.interval import Interval
from mempattern.regions import PAGE_BYTES, Region

_POINTERS = ffi.typeof("uint64_t *[]")


def lend_all(
    bitmaps: Interval | Mapping[str, AnyBitmap], regions: tuple[Region, ...], names: frozenset[str]
) -> tuple[Any, list[Any]]:
    """C's `const uint64_t *const *`, one bitmap a region in the regions' order, and what must stay
    alive with it; `names` are the regions' names.

    Raises `RegionError` unless the mapping has exactly the regions' names, and an interval exactly
    the regions; `BitmapError`.
    """
    if not isinstance(bitmaps, Interval):
        _check_names(bitmaps, regions, names)
        return _lend(bitmaps, regions)
    lent = bitmaps.lent
    if lent is None or lent[0] is not regions:
        if bitmaps.regions != regions and set(bitmaps.regions) != set(regions):
            raise RegionError(
                f"the interval has other regions, {_named(bitmaps.regions)}; "
                f"expected {_named(regions)}; unknown ones cannot be counted"
            )
        lent = regions, *_lend(bitmaps.bitmaps, regions)
        object.__setattr__(bitmaps, "lent", lent)  # it goes to several that have the same regions
    return lent[1:]


def _lend(bitmaps: Mapping[str, AnyBitmap], regions: tuple[Region, ...]) -> tuple[Any, list[Any]]:
    words = [as_words(bitmaps[region.name], region) for region in regions]
    lent = list(map(lend, words, regions))  # once no code of the caller's can run any more
    return ffi.new(_POINTERS, lent), lent


def _check_names(
    bitmaps: Mapping[str, object], regions: tuple[Region, ...], names: frozenset[str]
) -> None:
    if not isinstance(bitmaps, Mapping):
        raise BitmapError(
            f"expected an Interval or a mapping from region names to bitmaps, "
            f"not {type(bitmaps).__name__}: write {{{regions[0].name!r}: bitmap}}"
        )
    given = set(bitmaps)
    if given != names:
        missing = sorted(names - given)
        unknown = sorted(str(name) for name in given - names)
        problems = [f"lack {missing}"] * bool(missing) + [f"have unknown {unknown}"] * bool(unknown)
        raise RegionError(
            f"the bitmaps {' and '.join(problems)}; expected exactly one for each of "
            f"{sorted(names)}"
        )


def _named(regions: Sequence[Region]) -> str:
    return ", ".join(
        f"{region.name!r} of {region.n_pages} pages"
        + (f" of {region.page_bytes} bytes" if region.page_bytes != PAGE_BYTES else "")
        + (f" at {region.address:#x}" if region.address else "")
        for region in regions
    )
