"""Which pages of a VM hold only zeros: a migration sends these in 9 bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mempattern._memory import as_words
from mempattern.errors import UsageError
from mempattern.interval import Bitmap
from mempattern.migration.recording import Recording
from mempattern.regions import GROUP_PAGES, Region
from mempattern.sources.content import META, Content

_BLOCK_PAGES = 1 << 20
"""That are looked at together: eight bytes each, of a VM that may have hundreds of millions."""


def zeros_of(
    recording: Recording, meta: Mapping[str, str]
) -> tuple[list[Bitmap] | None, str | None]:
    """Bitmaps of the zero pages, as the trace's facts tell them, and what there is to note.

    Without them no page is taken to hold only zeros, which is the most that a migration can send.
    """
    if META not in meta:
        return None, (
            "the trace does not say which pages hold only zeros, and all are taken to hold more: "
            "the first pass takes at most so long (--zero-pages says how many do)"
        )
    content = Content.from_meta(meta)
    parts = None if content is None else _parts(recording.regions, content)
    if content is None or parts is None:
        return None, (
            "what the trace says of pages that hold only zeros makes no sense, and all are taken "
            "to hold more"
        )
    return zeros_by_group(recording, parts, content.part_pages), None


def count_zeros(
    regions: Sequence[Region],
    meta: Mapping[str, str],
    touched: Mapping[str, npt.NDArray[Any]],
    group_pages: int = GROUP_PAGES,
) -> int | None:
    """How many pages hold only zeros, as the trace's facts tell; None if they do not.

    `touched[name]`, of shape (n_groups,), are the pages of each group of a region that were
    written since; without an entry, none was. Those of a group are taken to be among its others, as
    far as there are any.
    """
    content = Content.from_meta(meta)
    counts = None if content is None else _parts(regions, content)
    if content is None or counts is None:
        return None
    part_pages = content.part_pages
    n_zero = 0.0
    for region, parts in zip(regions, counts, strict=True):
        edges = np.minimum(np.arange(len(parts) + 1) * part_pages, region.n_pages)
        nonzero = np.cumsum([0, *np.minimum(parts, np.diff(edges))])
        n_groups = region.n_groups(group_pages)
        group_edges = np.minimum(np.arange(n_groups + 1) * group_pages, region.n_pages)
        of_group = np.diff(np.interp(group_edges, edges, nonzero))
        n_zero += region.n_pages - float(np.maximum(of_group, touched.get(region.name, 0)).sum())
    return round(n_zero)


def _parts(regions: Sequence[Region], content: Content) -> list[list[int]] | None:
    """The counts of each region; what came later holds more than zeros."""
    counts: list[list[int]] = []
    for region in regions:
        parts = list(content.nonzero_pages.get(region.name, ()))
        n_parts = -(-region.n_pages // content.part_pages)
        if len(parts) > n_parts or any(n > content.part_pages for n in parts):
            return None
        counts.append(parts + [content.part_pages] * (n_parts - len(parts)))
    return counts


def unwritten(recording: Recording, zero: Iterable[Bitmap]) -> list[Bitmap]:
    """Bitmaps without what was written: it does not hold only zeros any more.

    Raises `UsageError` unless there is one for each region, `BitmapError` for what is none.
    """
    given = list(zero)
    if len(given) != len(recording.regions):
        raise UsageError(
            f"there must be a bitmap of zero pages for each of the {len(recording.regions)} "
            f"regions, not {len(given)} in all"
        )
    return [
        as_words(words, region) & ~ever
        for words, region, ever in zip(given, recording.regions, recording.ever, strict=True)
    ]


def spread_zeros(recording: Recording, zero_pages: int) -> list[Bitmap]:
    """Bitmaps of that many pages, spread evenly among those that were never written."""
    unwritten = [~_written(recording, number) for number in range(len(recording.regions))]
    free = sum(int(np.count_nonzero(pages)) for pages in unwritten)
    bitmaps: list[Bitmap] = []
    before = last = 0
    for region, pages in zip(recording.regions, unwritten, strict=True):
        for start in range(0, region.n_pages, _BLOCK_PAGES):
            block = pages[start : start + _BLOCK_PAGES]
            number = before + np.cumsum(block)  # of the unwritten pages, from 1
            quota = number * min(zero_pages, free) // max(free, 1)
            block[:] = np.diff(quota, prepend=last) > 0
            before, last = int(number[-1]), int(quota[-1])
        bitmaps.append(_packed(pages, region))
    return bitmaps


def zeros_by_group(
    recording: Recording,
    nonzero_pages: Sequence[npt.ArrayLike],
    group_pages: int = GROUP_PAGES,
) -> list[Bitmap]:
    """Bitmaps from each group's number of pages that do not hold only zeros.

    `nonzero_pages[r]` has shape (n_groups,), for groups of region r. Pages that were written are
    among them; which of a group's others are is not known, and the first ones are taken.
    """
    bitmaps: list[Bitmap] = []
    for number, (region, counts) in enumerate(zip(recording.regions, nonzero_pages, strict=True)):
        nonzero = _written(recording, number)
        for group, count in enumerate(np.asarray(counts, np.int64)):
            part = nonzero[group * group_pages : (group + 1) * group_pages]
            missing = int(count) - int(np.count_nonzero(part))
            if missing > 0:
                part[np.flatnonzero(~part)[:missing]] = True
        bitmaps.append(_packed(~nonzero, region))
    return bitmaps


def _written(recording: Recording, number: int) -> npt.NDArray[np.bool_]:
    octets = recording.ever[number].view(np.uint8)
    n_pages = recording.regions[number].n_pages
    return np.unpackbits(octets, bitorder="little", count=n_pages).view(bool)


def _packed(pages: npt.NDArray[np.bool_], region: Region) -> Bitmap:
    octets = np.zeros(region.n_words * 8, np.uint8)
    bits = np.packbits(pages, bitorder="little")
    octets[: bits.size] = bits
    return octets.view(np.uint64)
