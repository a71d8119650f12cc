"""The memory writes of another process, by soft-dirty bits: for kernels before Linux 6.7.

Reading the bits and clearing them are two steps, so writes in between are lost; clearing takes the
target's mmap lock and makes every page fault once more. The target is not stopped.
Source: Linux Documentation/admin-guide/mm/soft-dirty.rst, pagemap.rst.
"""

from __future__ import annotations

import errno
import mmap
import os
import time
from itertools import pairwise
from typing import SupportsIndex, cast

import numpy as np
import numpy.typing as npt

from mempattern.errors import ProcessError
from mempattern.interval import Bitmap, Interval, Provenance
from mempattern.regions import PAGE_BYTES, Region
from mempattern.sources.layout import Layout, Placed
from mempattern.sources.process import BLIND_SPOTS, ProcessSource, explained, open_file

_SOFT_DIRTY = np.uint64(1 << 55)
_POPULATED = np.uint64(1 << 63 | 1 << 62)  # present, or swapped
_ENTRY_BYTES = 8
_CHUNK_PAGES = 1 << 19
_IN_BETWEEN = "writes while a collection goes on: between the reading and the clearing of the bits"
_GRANULARITY = (
    "a page, or a whole transparent huge page; in memory mapped since the last collection all "
    "populated pages count"
)


class SoftDirty(ProcessSource):
    """Pages that the process writes, from its mappings as `layout` selects them.

    `attach_s` is 0: the target is never stopped.
    Raises `ProcessError` (with `errno`, and what would help), `UsageError`.
    """

    attach_s: float = 0.0

    def __init__(self, pid: SupportsIndex, layout: Layout | None = None) -> None:
        self._pagemap = self._clear_refs = -1
        super().__init__(
            pid, layout, Provenance("soft-dirty", (*BLIND_SPOTS, _IN_BETWEEN), _GRANULARITY)
        )
        try:
            if not works():
                raise ProcessError(
                    errno.ENOTSUP,
                    "this kernel has no soft-dirty bits (CONFIG_MEM_SOFT_DIRTY); Linux 6.7 and "
                    "later has something better: --source uffd",
                )
            self._pagemap = open_file(self.pid, "pagemap")
            self._clear_refs = open_file(self.pid, "clear_refs", os.O_WRONLY)
            self.follow_mappings()
            self.refuse_nothing()
            self._clear()
        except BaseException:
            self.close()
            raise
        self._end_ns = time.monotonic_ns()

    def _clear(self) -> None:
        try:
            os.write(self._clear_refs, b"4")
        except OSError as error:
            raise explained(self.pid, error.errno or errno.EIO, "clear_refs") from None

    def collect_mapped(self, begin_ns: int) -> Interval:
        bitmaps = self._read_bitmaps()
        self.check_alive()
        self._clear()
        start_ns = self._end_ns
        self._end_ns = max(time.monotonic_ns(), start_ns + 1)  # a clock's ticks may be coarse
        return Interval(
            index=next(self.indices),
            start_ns=start_ns,
            end_ns=self._end_ns,
            regions=self.regions,
            bitmaps=bitmaps,
            provenance=self.provenance,
            collect_ns=self._end_ns - begin_ns,
        )

    def _read_bitmaps(self) -> dict[str, Bitmap]:
        dirty = [np.zeros(region.n_pages, np.bool_) for region in self.regions]
        for part in self.placed:
            pages = _dirty_pages(self._pagemap, part)
            dirty[part.region][part.first_page : part.first_page + len(pages)] |= pages
        return {
            region.name: _packed(flags, region)
            for region, flags in zip(self.regions, dirty, strict=True)
        }

    def let_go(self) -> None:
        fds, self._pagemap, self._clear_refs = (self._pagemap, self._clear_refs), -1, -1
        for fd in fds:
            if fd >= 0:
                os.close(fd)


def works() -> bool:
    """Whether the bits tell the truth here: where they are not built in, all read as zero."""
    with mmap.mmap(-1, 2 * PAGE_BYTES, mmap.MAP_PRIVATE) as memory:
        address = np.frombuffer(memory, np.uint8).ctypes.data
        memory[0] = memory[PAGE_BYTES] = 1
        try:
            pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            with open("/proc/self/clear_refs", "wb", buffering=0) as clear_refs:
                clear_refs.write(b"4")
            memory[PAGE_BYTES] = 2
            part = Placed(address, address + 2 * PAGE_BYTES, 0, 0, PAGE_BYTES, False)
            return bool(_dirty_pages(pagemap, part).tolist() == [False, True])
        except OSError:
            return False
        finally:
            os.close(pagemap)


def _dirty_pages(pagemap: int, part: Placed) -> npt.NDArray[np.bool_]:
    """One flag a page of the part; a huge page is dirty where any of its small pages is."""
    n_small = (part.end - part.start) // PAGE_BYTES
    edges = [*range(0, n_small, _CHUNK_PAGES), n_small]
    flags = np.zeros(n_small, np.bool_)
    for low, high in pairwise(edges):
        offset = (part.start // PAGE_BYTES + low) * _ENTRY_BYTES
        raw = _read_entries(pagemap, high - low, offset)
        flags[low : low + len(raw) // _ENTRY_BYTES] = dirty_entries(raw)
    per_page = part.page_bytes // PAGE_BYTES
    return cast("npt.NDArray[np.bool_]", flags.reshape(-1, per_page).any(axis=1))


def _read_entries(pagemap: int, n: int, offset: int) -> bytes:
    """Up to n whole entries: fewer only where the file ends, which is where memory does."""
    raw = b""
    while missing := n * _ENTRY_BYTES - len(raw):
        chunk = os.pread(pagemap, missing, offset + len(raw))
        if not chunk:
            break
        raw += chunk
    return raw[: len(raw) // _ENTRY_BYTES * _ENTRY_BYTES]


def dirty_entries(raw: bytes) -> npt.NDArray[np.bool_]:
    """Which entries of a pagemap file are of populated, soft-dirty pages."""
    entries = np.frombuffer(raw, np.uint64)
    flags: npt.NDArray[np.bool_] = ((entries & _SOFT_DIRTY) != 0) & ((entries & _POPULATED) != 0)
    return flags


def _packed(flags: npt.NDArray[np.bool_], region: Region) -> Bitmap:
    words = np.zeros(region.n_words, np.uint64)
    octets = np.packbits(flags, bitorder="little")
    words.view(np.uint8)[: len(octets)] = octets
    return words
