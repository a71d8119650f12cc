"""Which of a process's mappings are followed, and where their pages lie in regions.

Mappings come and go, grow, split and merge; statistics want regions that stay. So a region is a
*span* of address space: what is not mapped in it is not dirty. A span may grow, and never goes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from mempattern._checks import whole_number
from mempattern.errors import UsageError
from mempattern.regions import GROUP_PAGES, PAGE_BYTES, Region
from mempattern.sources.maps import Mapping

_KERNELS_OWN = ("[vvar]", "[vvar_vclock]", "[vdso]", "[uprobes]")
_MEMORY_DEVICES = ("/dev/shm/", "/dev/zero", "/dev/hugepages/")
_JOIN_BYTES = 64 << 20
_MOST_BYTES = 1 << 40
"""Larger mappings are address space that is reserved, not memory (sanitizers, garbage collectors);
only who names one gets it."""

_Range = tuple[int, ...]
"""Of addresses: start, end."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Part of a mapping, and where it lies: at page `first_page` of region number `region`."""

    start: int
    """Of its first byte, the virtual address in the process."""
    end: int
    """The first address after it."""
    region: int
    first_page: int
    page_bytes: int
    """Of its pages and the region's."""
    is_private_file: bool
    """Whether it maps a file privately: a write makes a copy of the page."""


class Layout(Protocol):
    """Says what is followed. It may remember what it has placed before."""

    def place(self, mappings: Sequence[Mapping]) -> tuple[tuple[Region, ...], list[Placed]]:
        """The regions, which only grow and become more, and the mappings in them."""
        ...


# ---- spans -----------------------------------------------------------------------------------


def _is_memory(mapping: Mapping) -> bool:
    path = mapping.path
    if path in _KERNELS_OWN or path.startswith("anon_inode:") or "[aio]" in path:
        return False
    return not path.startswith("/dev/") or path.startswith(_MEMORY_DEVICES)


@dataclass(slots=True)
class _Span:
    """A region, as it is now."""

    name: str
    start: int
    end: int
    page_bytes: int
    number: int
    """Of its region."""
    _region: Region | None = None

    def region(self) -> Region:
        """The same object until the span grows."""
        n_pages, region = (self.end - self.start) // self.page_bytes, self._region
        if region is None or region.n_pages != n_pages:
            region = self._region = Region(self.name, n_pages, self.page_bytes, self.start)
        return region


def _start(span: _Span) -> int:
    return span.start


@dataclass(slots=True)
class Spans:
    """Regions over whatever mappings are selected, wherever they come up.

    Memory that was placed is placed again, until it is unmapped, for as long as `keeps` holds of
    its mapping: what was written and then made read-only is still to be seen.

    Spans begin and end at multiples of `group_pages` pages (a power of two), or of 512, whichever
    is more. A mapping within 64 MiB of a span makes that one grow; elsewhere it begins a new one.
    Spans of one page size are disjoint. One of another size may lie across them, since hugetlb
    pages come up within a step of small ones, or where small ones were.
    """

    selects: Callable[[Mapping], bool]
    """Whether a mapping is followed."""
    group_pages: int = GROUP_PAGES
    keeps: Callable[[Mapping], bool] = _is_memory
    _spans: list[_Span] = field(default_factory=list)
    _names: set[str] = field(default_factory=set)
    _placed: list[_Range] = field(default_factory=list)
    """What was placed the last time: ascending, and not touching."""

    def __post_init__(self) -> None:
        checked = whole_number(self.group_pages, 1, 1 << 31)
        if checked is None or checked & (checked - 1):
            raise UsageError(
                f"group_pages must be a power of two to follow a process, not {self.group_pages!r}"
            )

    def place(self, mappings: Sequence[Mapping]) -> tuple[tuple[Region, ...], list[Placed]]:
        """As `Layout.place`."""
        followed = list(self._followed(mappings))
        self._placed = _joined(sorted((mapping.start, mapping.end) for mapping in followed))
        spans: defaultdict[int, list[_Span]] = defaultdict(list)  # by page size, ascending
        for span in sorted(self._spans, key=_start):
            spans[span.page_bytes].append(span)
        for mapping in followed:
            self._make_room(mapping, spans[mapping.page_bytes])
        regions = tuple(span.region() for span in self._spans)
        placed = [part for m in followed for part in _parts(m, spans[m.page_bytes])]
        return regions, placed

    def _followed(self, mappings: Iterable[Mapping]) -> Iterator[Mapping]:
        """What is selected and, of all else, the parts that were placed the last time."""
        for mapping in mappings:
            if self.selects(mapping):
                yield mapping
            elif self._placed and self.keeps(mapping):
                for low, high in _overlap(mapping, self._placed):
                    yield replace(mapping, start=low, end=high)

    def _make_room(self, mapping: Mapping, spans: list[_Span]) -> None:
        """`spans`, of its page size, grow or become more, and stay in order."""
        step = max(self.group_pages, GROUP_PAGES) * mapping.page_bytes
        start = mapping.start // step * step
        end = -(-mapping.end // step) * step
        first = max(bisect_right(spans, start, key=_start) - 1, 0)
        if first < len(spans) and spans[first].start <= start and end <= spans[first].end:
            return
        beyond = bisect_left(spans, end, first, key=_start)
        around = spans[first : beyond + 1]  # all in [start, end), and one neighbour on either side
        for low, high in list(_uncovered(start, end, around)):
            near = _nearest(low, high, around)
            if near is None:
                new = _Span(self._name(mapping), low, high, mapping.page_bytes, len(self._spans))
                self._spans.append(new)
                insort(spans, new, key=_start)
            else:
                near.start = min(near.start, low)
                near.end = max(near.end, high)

    def _name(self, mapping: Mapping) -> str:
        name = "".join(c if c.isprintable() else "?" for c in mapping.name)
        if name in ("", "anon") or name in self._names:
            name = f"{name}@{mapping.start:x}"
        while name in self._names:  # by a span of another page size, or a file of such a name
            name += "'"
        self._names.add(name)
        return name


def _joined(ranges: Iterable[_Range]) -> list[_Range]:
    """Ascending ranges, those that touch made one."""
    joined: list[_Range] = []
    for low, high in ranges:
        if joined and low <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(high, joined[-1][1])
        else:
            joined.append((low, high))
    return joined


def _overlap(mapping: Mapping, ranges: Sequence[_Range]) -> list[_Range]:
    """The whole pages of the mapping that lie in ascending ranges, be it in part."""
    first = bisect_left(ranges, (mapping.start,))
    if first and ranges[first - 1][1] > mapping.start:
        first -= 1
    beyond = bisect_left(ranges, (mapping.end,), first)
    size = mapping.page_bytes
    return _joined(
        (max(mapping.start, low // size * size), min(mapping.end, -(-high // size) * size))
        for low, high in ranges[first:beyond]
    )


def _uncovered(start: int, end: int, spans: Iterable[_Span]) -> Iterator[_Range]:
    for span in spans:
        if span.end <= start or span.start >= end:
            continue
        if start < span.start:
            yield start, span.start
        start = span.end
    if start < end:
        yield start, end


def _nearest(low: int, high: int, spans: Iterable[_Span]) -> _Span | None:
    """The neighbour, on either side, that is to grow over [low, high)."""

    def gap(span: _Span) -> int:
        return max(low - span.end, span.start - high)

    near = min(spans, key=gap, default=None)
    return near if near is not None and gap(near) <= _JOIN_BYTES else None


def _parts(mapping: Mapping, spans: Sequence[_Span]) -> Iterator[Placed]:
    """The mapping, cut where one of the spans, which cover it, ends and the next begins."""
    low, size = mapping.start, mapping.page_bytes
    number = bisect_right(spans, low, key=_start) - 1
    while low < mapping.end:
        span = spans[number]
        high = min(mapping.end, span.end)
        page = (low - span.start) // size
        yield Placed(low, high, span.number, page, size, mapping.is_private_file)
        low, number = high, number + 1


def writable_memory(group_pages: int = GROUP_PAGES) -> Spans:
    """All memory the process may write to now, but for mappings of more than 1 TiB.

    Also what it could write to when this was asked before, until that is unmapped.
    """
    return Spans(
        lambda m: m.permissions[1] == "w" and _is_memory(m) and m.end - m.start <= _MOST_BYTES,
        group_pages,
    )


def everything(group_pages: int = GROUP_PAGES) -> Spans:
    """All mappings, also those that are read-only at the moment, but for those above 1 TiB."""
    return Spans(lambda m: _is_memory(m) and m.end - m.start <= _MOST_BYTES, group_pages)


def named(name: str, group_pages: int = GROUP_PAGES) -> Spans:
    """The mappings of that `Mapping.name` or path."""

    def selects(mapping: Mapping) -> bool:
        return name in (mapping.name, mapping.path)

    return Spans(selects, group_pages, keeps=selects)


@dataclass(slots=True)
class SpanAt:
    """The one region of `within` that an address lies in, found again after it has grown."""

    within: Spans
    address: int
    """Virtual, in the process."""
    _number: int | None = None

    def place(self, mappings: Sequence[Mapping]) -> tuple[tuple[Region, ...], list[Placed]]:
        """As `Layout.place`; no region until one of `within` has the address."""
        regions, placed = self.within.place(mappings)
        if self._number is None:
            self._number = next((n for n, r in enumerate(regions) if self._lies_in(r)), None)
        if self._number is None:
            return (), []
        return (regions[self._number],), [
            replace(part, region=0) for part in placed if part.region == self._number
        ]

    def _lies_in(self, region: Region) -> bool:
        return 0 <= self.address - (region.address or 0) < region.n_pages * region.page_bytes


# ---- fixed places ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Block:
    """One piece of guest-physical memory and the host memory behind it.

    `region.address` is the guest-physical address, `host_start` the virtual one in the process.
    """

    region: Region
    host_start: int

    @property
    def host_end(self) -> int:
        """The first address in the process that is no more of it."""
        return self.host_start + self.region.n_pages * self.region.page_bytes


@dataclass(frozen=True, slots=True)
class Blocks:
    """Regions that stay where they are in the process: a guest's RAM, a range of addresses."""

    blocks: tuple[Block, ...]
    """One for each region, in their order."""

    def place(self, mappings: Sequence[Mapping]) -> tuple[tuple[Region, ...], list[Placed]]:
        """As `Layout.place`; the regions never change."""
        regions = tuple(block.region for block in self.blocks)
        placed: list[Placed] = []
        for number, block in enumerate(self.blocks):
            for mapping in mappings:
                low = max(mapping.start, block.host_start)
                high = min(mapping.end, block.host_end)
                page_bytes = block.region.page_bytes
                if low < high and mapping.page_bytes == page_bytes:
                    page = (low - block.host_start) // page_bytes
                    placed.append(
                        Placed(low, high, number, page, page_bytes, mapping.is_private_file)
                    )
        return regions, placed


def guest_ram(blocks: Iterable[Block]) -> Blocks:
    """A guest's RAM, as guest-physical regions."""
    return Blocks(tuple(blocks))


def address_range(start: int, end: int) -> Blocks:
    """Virtual addresses from `start` up to `end`, page-aligned; they need not be mapped yet.

    In pages of 4 KiB: hugetlb memory in the range is left out, and `named` is the way to it.
    Raises `UsageError`.
    """
    if not 0 <= start < end <= 1 << 64 or start % PAGE_BYTES or end % PAGE_BYTES:
        raise UsageError(
            f"a range is two multiples of {PAGE_BYTES}, the lower one first, "
            f"not {start:#x}-{end:#x}"
        )
    n_pages = (end - start) // PAGE_BYTES
    return Blocks((Block(Region(f"{start:x}-{end:x}", n_pages, address=start), start),))
