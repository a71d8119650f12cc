"""Which of a process's mappings are followed, and where their pages lie in regions.

Mappings come and go, grow, split and merge; statistics want regions that stay. So a region is a
*span* of address space: what is not mapped in it is not dirty. A span may grow, and never goes.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from mempattern._checks import whole_number
from mempattern.errors import ProcessError, UsageError
from mempattern.regions import GROUP_PAGES, PAGE_BYTES, Region

_LINE = re.compile(
    r"([0-9a-f]+)-([0-9a-f]+) ([-r][-w][-x][ps]) ([0-9a-f]+) [0-9a-f]+:[0-9a-f]+ (\d+) *(.*)"
)
_KERNELS_OWN = ("[vvar]", "[vvar_vclock]", "[vdso]", "[uprobes]")
_MEMORY_DEVICES = ("/dev/shm/", "/dev/zero", "/dev/hugepages/")
_JOIN_BYTES = 64 << 20
_MOST_BYTES = 1 << 40
"""Larger mappings are address space that is reserved, not memory (sanitizers, garbage collectors);
only who names one gets it."""


@dataclass(frozen=True, slots=True)
class Mapping:
    """One line of /proc/PID/maps; see proc_pid_maps(5)."""

    start: int
    end: int
    permissions: str
    """As "rw-p"."""
    offset: int
    inode: int
    path: str
    """A file's path, "[heap]", "[stack]", or "" for anonymous memory."""
    page_bytes: int = PAGE_BYTES
    """More than 4096 for memory of hugetlbfs."""

    @property
    def is_private_file(self) -> bool:
        return self.permissions[3] == "p" and self.inode != 0

    @property
    def name(self) -> str:
        """ "heap", "stack", a file's name, "memfd:name"; "anon" where there is none."""
        path = self.path.removesuffix(" (deleted)")
        if path.startswith("["):
            return path.strip("[]")
        return path.rsplit("/", 1)[-1] or "anon"


@dataclass(frozen=True, slots=True)
class Placed:
    """Part of a mapping, and where it lies: at page `first_page` of region number `region`."""

    start: int
    end: int
    region: int
    first_page: int
    page_bytes: int
    is_private_file: bool


class Layout(Protocol):
    """Says what is followed. It may remember what it has placed before."""

    def place(self, mappings: Sequence[Mapping]) -> tuple[tuple[Region, ...], list[Placed]]:
        """The regions, which only grow and become more, and the mappings in them."""
        ...


def parse_mappings(text: str, page_bytes_of: Callable[[int], int] | None = None) -> list[Mapping]:
    """The lines of a maps file, ascending. `page_bytes_of` gives a mapping's page size by start."""
    mappings = []
    for line in text.split("\n"):  # the only character that the kernel escapes in a path
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        start, end, permissions, offset, inode, path = match.groups()
        address = int(start, 16)
        if address >> 63:  # [vsyscall]: the kernel's, in every process's list
            continue
        mapping = Mapping(address, int(end, 16), permissions, int(offset, 16), int(inode), path)
        if page_bytes_of is not None and mapping.inode:
            size = page_bytes_of(address)
            if not (mapping.start | mapping.end) % size:  # else it is another mapping by now
                mapping = replace(mapping, page_bytes=size)
        mappings.append(mapping)
    return mappings


def read_mappings(pid: int) -> list[Mapping]:
    """The process's mappings now. Raises `ProcessError` if it is gone or may not be looked at."""
    try:
        text = _read(f"/proc/{pid}/maps")
        return parse_mappings(text, huge_page_sizes(pid) if machine_has_hugetlb() else None)
    except OSError as error:
        number = error.errno or errno.EIO
        raise ProcessError(number, f"the mappings of process {pid}: {error.strerror}") from error


def machine_has_hugetlb() -> bool:
    """Without any huge page reserved, no mapping can be of hugetlbfs: that spares reading smaps."""
    for pool in Path("/sys/kernel/mm/hugepages").glob("hugepages-*"):
        for name in ("nr_hugepages", "nr_overcommit_hugepages"):
            try:
                if int((pool / name).read_text()):
                    return True
            except (OSError, ValueError):
                continue
    return False


def huge_page_sizes(pid: int) -> Callable[[int], int]:
    """Page size by mapping start, from /proc/PID/smaps. Raises `OSError`."""
    sizes: dict[int, int] = {}
    start = 0
    for line in _read(f"/proc/{pid}/smaps").split("\n"):
        if line.startswith("KernelPageSize:"):
            sizes[start] = int(line.split()[1]) * 1024
        elif match := _LINE.match(line):
            start = int(match[1], 16)
    return lambda address: sizes.get(address, PAGE_BYTES)


def _read(path: str) -> str:
    """As it is: in the name of a file, text mode would take a \\r for the end of the line."""
    return Path(path).read_bytes().decode(errors="replace")


# ---- spans -----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Span:
    name: str
    start: int
    end: int
    page_bytes: int


@dataclass(slots=True)
class Spans:
    """Regions over whatever mappings are selected, wherever they come up.

    Spans begin and end at multiples of `group_pages` pages (a power of two), or of 512, whichever
    is more. A mapping within 64 MiB of a span makes that one grow; elsewhere it begins a new one.
    Spans of one page size are disjoint. One of another size may lie across them, since hugetlb
    pages come up within a step of small ones, or where small ones were.
    """

    selects: Callable[[Mapping], bool]
    group_pages: int = GROUP_PAGES
    _spans: list[_Span] = field(default_factory=list)

    def __post_init__(self) -> None:
        checked = whole_number(self.group_pages, 1, 1 << 31)
        if checked is None or checked & (checked - 1):
            raise UsageError(
                f"group_pages must be a power of two to follow a process, not {self.group_pages!r}"
            )

    def place(self, mappings: Sequence[Mapping]) -> tuple[tuple[Region, ...], list[Placed]]:
        selected = [mapping for mapping in mappings if self.selects(mapping)]
        for mapping in selected:
            self._make_room(mapping)
        regions = tuple(
            Region(s.name, (s.end - s.start) // s.page_bytes, s.page_bytes, s.start)
            for s in self._spans
        )
        placed = [part for mapping in selected for part in _parts(mapping, regions)]
        return regions, placed

    def _make_room(self, mapping: Mapping) -> None:
        step = max(self.group_pages, GROUP_PAGES) * mapping.page_bytes
        start = mapping.start // step * step
        end = -(-mapping.end // step) * step
        spans = sorted(
            (span for span in self._spans if span.page_bytes == mapping.page_bytes),
            key=lambda span: span.start,
        )
        for low, high in list(_uncovered(start, end, spans)):
            near = _nearest(low, high, spans)
            if near is None:
                self._spans.append(_Span(self._name(mapping), low, high, mapping.page_bytes))
            else:
                near.start = min(near.start, low)
                near.end = max(near.end, high)

    def _name(self, mapping: Mapping) -> str:
        taken = {span.name for span in self._spans}
        name = "".join(c if c.isprintable() else "?" for c in mapping.name)
        if name in ("", "anon", *taken):
            name = f"{name}@{mapping.start:x}"
        while name in taken:  # by a span of another page size, or a file of such a name
            name += "'"
        return name


def _uncovered(start: int, end: int, spans: Iterable[_Span]) -> Iterator[tuple[int, int]]:
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


def _parts(mapping: Mapping, regions: Iterable[Region]) -> Iterator[Placed]:
    for number, region in enumerate(regions):
        low = max(mapping.start, region.address)
        high = min(mapping.end, region.address + region.n_pages * region.page_bytes)
        if low < high and region.page_bytes == mapping.page_bytes:
            page = (low - region.address) // region.page_bytes
            yield Placed(low, high, number, page, mapping.page_bytes, mapping.is_private_file)


def _is_memory(mapping: Mapping) -> bool:
    path = mapping.path
    if path in _KERNELS_OWN or path.startswith("anon_inode:") or "[aio]" in path:
        return False
    return not path.startswith("/dev/") or path.startswith(_MEMORY_DEVICES)


def writable_memory(group_pages: int = GROUP_PAGES) -> Spans:
    """All memory the process may write to now, but for mappings of more than 1 TiB."""
    return Spans(
        lambda m: m.permissions[1] == "w" and _is_memory(m) and m.end - m.start <= _MOST_BYTES,
        group_pages,
    )


def everything(group_pages: int = GROUP_PAGES) -> Spans:
    """All mappings, also those that are read-only at the moment, but for those above 1 TiB."""
    return Spans(lambda m: _is_memory(m) and m.end - m.start <= _MOST_BYTES, group_pages)


def named(name: str, group_pages: int = GROUP_PAGES) -> Spans:
    """The mappings of that `Mapping.name` or path."""
    return Spans(lambda m: name in (m.name, m.path), group_pages)


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
        return self.host_start + self.region.n_pages * self.region.page_bytes


@dataclass(frozen=True, slots=True)
class Blocks:
    """Regions that stay where they are in the process: a guest's RAM, a range of addresses."""

    blocks: tuple[Block, ...]

    def place(self, mappings: Sequence[Mapping]) -> tuple[tuple[Region, ...], list[Placed]]:
        regions = tuple(block.region for block in self.blocks)
        placed = []
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
