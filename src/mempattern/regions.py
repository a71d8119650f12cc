"""Regions of memory and their groups of pages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, SupportsIndex

from mempattern._checks import whole_number
from mempattern.errors import RegionError

PAGE_BYTES = 4096
GROUP_PAGES = 512
"""Default pages in a group: 2 MiB, what one page-table entry of the next level covers on x86-64."""

_MAX_PAGES = 1 << 52  # 64-bit addresses divided into 4 KiB pages


@dataclass(frozen=True, slots=True)
class Region:
    """One contiguous run of pages with a name: a KVM memslot, a QEMU RAM block, a VMA.

    `page_bytes` is the unit that one bit of the region's bitmap stands for. `address` is where page
    0 lies, in bytes: guest-physical, or virtual in the process that was traced.
    Raises `RegionError` for an empty name, a page count below 1, a page size that is no power of
    two, or an address that is no multiple of it.

    >>> ram = mempattern.Region("ram", n_pages=1000)
    >>> ram.n_words, ram.n_groups()
    (16, 2)
    """

    name: str
    """Not empty, of printable characters, and unlike those of the regions given with it."""
    n_pages: int
    """From 1 to 2**52: bits of the bitmap."""
    page_bytes: int = PAGE_BYTES
    address: int = 0

    if TYPE_CHECKING:  # what it is made of may be more than what it then has

        def __init__(
            self,
            name: str,
            n_pages: SupportsIndex,
            page_bytes: SupportsIndex = PAGE_BYTES,
            address: SupportsIndex = 0,
        ) -> None: ...

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name or not self.name.isprintable():
            raise RegionError(
                f"a region's name must be a non-empty string of printable characters, "
                f"not {self.name!r}"
            )
        n_pages = whole_number(self.n_pages, 1, _MAX_PAGES)
        if n_pages is None:
            raise RegionError(
                f"region {self.name!r}: n_pages must be a whole number from 1 to 2**52, "
                f"not {self.n_pages!r}"
            )
        page_bytes = whole_number(self.page_bytes, 1, 1 << 40)
        if page_bytes is None or page_bytes & (page_bytes - 1):
            raise RegionError(
                f"region {self.name!r}: page_bytes must be a power of two, not {self.page_bytes!r}"
            )
        address = whole_number(self.address, 0, (1 << 64) - 1)
        if address is None or address % page_bytes:
            raise RegionError(
                f"region {self.name!r}: address must be a multiple of {page_bytes} below 2**64, "
                f"not {self.address!r}"
            )
        object.__setattr__(self, "n_pages", n_pages)
        object.__setattr__(self, "page_bytes", page_bytes)
        object.__setattr__(self, "address", address)

    @property
    def n_words(self) -> int:
        """64-bit words of the region's bitmap; KVM rounds up."""
        return -(-self.n_pages // 64)

    def n_groups(self, group_pages: int = GROUP_PAGES) -> int:
        """Groups of `group_pages` pages, counted from the region's start; the last may be short."""
        return -(-self.n_pages // group_pages)


def check_regions(regions: Iterable[Region]) -> tuple[Region, ...]:
    """The regions as a tuple. Raises `RegionError` if there is none or a name comes twice."""
    if isinstance(regions, Region):
        raise RegionError("expected a list of regions, not one alone: write [region]")
    if not isinstance(regions, Iterable):
        raise RegionError(f"expected a list of regions, not {type(regions).__name__}")
    checked = tuple(regions)
    if not checked:
        raise RegionError("no region was given; at least one is needed")
    seen: set[str] = set()
    for region in checked:
        if not isinstance(region, Region):
            raise RegionError(
                f"expected a mempattern.Region, not {type(region).__name__}: "
                'write Region("ram", n_pages=...)'
            )
        if region.name in seen:
            raise RegionError(f"region {region.name!r} is named twice; give each its own name")
        seen.add(region.name)
    return checked


def check_group_pages(group_pages: SupportsIndex) -> int:
    """Raises `RegionError` unless it is a positive multiple of 64 (whole words of a bitmap)."""
    checked = whole_number(group_pages, 64, (1 << 32) - 1)
    if checked is None or checked % 64:
        raise RegionError(
            f"group_pages must be a positive multiple of 64 below 2**32, not {group_pages!r}"
        )
    return checked


def origins(
    old: tuple[Region, ...], new: tuple[Region, ...], step_pages: int
) -> list[tuple[int, int]]:
    """Of each new region, the index of the old one it comes from and the page at which that begins
    in it; (-1, 0) for one that is new.

    Raises `RegionError` unless every old region is still there, with its page size, and has at
    most grown: at its end, and at its start by a multiple of `step_pages` pages.
    """
    before = {region.name: (number, region) for number, region in enumerate(old)}
    found: list[tuple[int, int]] = []
    for region in new:
        number, was = before.pop(region.name, (-1, region))
        found.append((number, _pages_in_front(was, region, step_pages)))
    if before:
        raise RegionError(
            f"the regions lack {sorted(before)}; regions may grow and be added, but none may go"
        )
    return found


def _pages_in_front(was: Region, now: Region, step_pages: int) -> int:
    unit = now.page_bytes
    if unit != was.page_bytes:
        raise RegionError(
            f"region {now.name!r} must keep its pages of {was.page_bytes} bytes, not {unit}"
        )
    in_front = (was.address - now.address) // unit
    if in_front < 0 or in_front + was.n_pages > now.n_pages:
        raise RegionError(
            f"region {now.name!r} may only grow, and its {was.n_pages} pages from "
            f"{was.address:#x} do not all lie in the {now.n_pages} from {now.address:#x}"
        )
    if in_front % step_pages:
        raise RegionError(
            f"region {now.name!r} has {in_front} pages in front of its old ones; it may grow "
            f"there by multiples of {step_pages} pages only"
        )
    return in_front
