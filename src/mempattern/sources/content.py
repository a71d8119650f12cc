"""Which parts of a guest's RAM hold anything but zeros: a migration sends zero pages in 9 bytes."""

from __future__ import annotations

import errno
import json
import os
import random
import struct
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import NamedTuple

from mempattern.regions import PAGE_BYTES
from mempattern.sources.layout import Block
from mempattern.sources.maps import read_mappings

META = "nonzero_pages"
"""Its key among the facts of a trace file."""
_PARTS = 1024
_SAMPLES = 8
"""Pages looked at in each part."""
_PRESENT, _SWAPPED = 1 << 63, 1 << 62  # Linux Documentation/admin-guide/mm/pagemap.rst


@dataclass(frozen=True, slots=True)
class Content:
    """Of each region, by its name, the estimated pages that are not zero in each part of it.

    A part is `part_pages` pages, the last one may be short.
    """

    part_pages: int
    nonzero_pages: Mapping[str, tuple[int, ...]]

    def to_meta(self) -> dict[str, str]:
        """For the trace file's table of facts."""
        counts = {name: list(parts) for name, parts in self.nonzero_pages.items()}
        return {META: json.dumps({"part_pages": self.part_pages, "regions": counts})}

    @classmethod
    def from_meta(cls, meta: Mapping[str, str]) -> Content | None:
        """The inverse; None for a trace that has it not, or makes no sense."""
        try:
            said = json.loads(meta[META])
            part_pages, regions = said["part_pages"], said["regions"].items()
            content = cls(part_pages, {name: tuple(parts) for name, parts in regions})
        except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
            return None
        numbers = [
            part_pages,
            *(count for parts in content.nonzero_pages.values() for count in parts),
        ]
        is_sound = part_pages and all(type(n) is int and 0 <= n < 1 << 52 for n in numbers)
        return content if is_sound and part_pages % 64 == 0 else None


def sample_content(pid: int, blocks: Iterable[Block]) -> Content:
    """Look at some pages of each part of the guest's RAM in process `pid`.

    Pages that the process never touched are not: reading them would make memory for them. Whether
    a file behind them holds something is asked of the file; who may not ask takes it that it does.
    Raises `OSError` without the right to read the process's memory.
    """
    blocks = tuple(blocks)
    total = sum(block.region.n_pages for block in blocks)
    part_pages = -(-total // (_PARTS * 64)) * 64
    with ExitStack() as opened:
        process = _Process(
            _open(opened, f"/proc/{pid}/mem"),
            _open(opened, f"/proc/{pid}/pagemap"),
            tuple(_files(opened, pid)),
        )
        return Content(
            part_pages, {b.region.name: tuple(_count(process, b, part_pages)) for b in blocks}
        )


class _File(NamedTuple):
    """A mapping of one, in small pages; `descriptor` is None if it may not be opened."""

    start: int
    end: int
    offset: int
    descriptor: int | None

    def has_data_at(self, address: int) -> bool:
        """It is not a hole there: written through another mapping, or dropped from this one."""
        if self.descriptor is None:
            return True
        place = self.offset + address - self.start
        try:
            return os.lseek(self.descriptor, place, os.SEEK_DATA) < place + PAGE_BYTES
        except OSError as error:  # ENXIO: nothing but a hole up to its end
            return error.errno != errno.ENXIO


class _Process(NamedTuple):
    memory: int
    pagemap: int
    files: tuple[_File, ...]

    def holds_something(self, address: int) -> bool:
        """The 4 KiB there, which is what QEMU sends at once, also of larger pages."""
        entry = os.pread(self.pagemap, 8, address // PAGE_BYTES * 8)
        flags = struct.unpack("<Q", entry)[0] if len(entry) == 8 else 0
        if flags & _PRESENT:
            return any(os.pread(self.memory, PAGE_BYTES, address))
        file = next((f for f in self.files if f.start <= address < f.end), None)
        return bool(flags & _SWAPPED) or (file is not None and file.has_data_at(address))


def _open(opened: ExitStack, path: str) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    opened.callback(os.close, descriptor)
    return descriptor


def _files(opened: ExitStack, pid: int) -> Iterable[_File]:
    """Pages of hugetlbfs are not dropped, and it does not tell its holes: these are left out."""
    for m in read_mappings(pid):
        if m.inode and m.permissions[1] == "w" and m.page_bytes == PAGE_BYTES:
            descriptor = None
            with suppress(OSError):  # it needs CAP_CHECKPOINT_RESTORE
                descriptor = _open(opened, f"/proc/{pid}/map_files/{m.start:x}-{m.end:x}")
            yield _File(m.start, m.end, m.offset, descriptor)


def _count(process: _Process, block: Block, part_pages: int) -> Iterable[int]:
    rng = random.Random(0)
    page_bytes = block.region.page_bytes
    for first in range(0, block.region.n_pages, part_pages):
        n_pages = min(part_pages, block.region.n_pages - first)
        looked_at = rng.sample(range(first, first + n_pages), min(_SAMPLES, n_pages))
        nonzero = sum(
            process.holds_something(
                block.host_start + page * page_bytes + rng.randrange(0, page_bytes, PAGE_BYTES)
            )
            for page in looked_at
        )
        yield round(nonzero * n_pages / len(looked_at))
