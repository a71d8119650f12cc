"""What a process has mapped, and where in the regions of a trace it lands."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from pathlib import Path

from mempattern.errors import ProcessError
from mempattern.regions import Region


@dataclass(frozen=True, slots=True)
class Block:
    """One piece of guest-physical memory backed by one range of the VMM's address space.

    `region.address` is the guest-physical address, `host_start` the virtual one in the VMM.
    """

    region: Region
    host_start: int


@dataclass(frozen=True, slots=True)
class Mapping:
    """One mapping of a process, as /proc/PID/smaps has it (proc(5)); addresses in bytes."""

    start: int
    end: int
    permissions: str
    offset: int
    inode: int
    path: str
    page_bytes: int


_MAPPING = re.compile(
    r"^([0-9a-f]+)-([0-9a-f]+) (\S{4}) ([0-9a-f]+) \S+ (\d+)(?: +(.*))?\n"
    r"(?:(?!KernelPageSize:)\w+:.*\n)*KernelPageSize: +(\d+) kB$",
    re.MULTILINE,
)


def read_mappings(pid: int) -> list[Mapping]:
    """All mappings, by address. Raises `ProcessError` if the process is gone or may not be read."""
    try:
        text = Path(f"/proc/{pid}/smaps").read_text(errors="surrogateescape")
    except OSError as error:
        raise ProcessError(
            error.errno or errno.EIO, f"the memory map of process {pid}: {error.strerror}"
        ) from error
    return [
        Mapping(
            int(start, 16), int(end, 16), permissions, int(offset, 16), int(inode), path or "",
            int(page_kib) * 1024,
        )
        for start, end, permissions, offset, inode, path, page_kib in _MAPPING.findall(text)
    ]  # fmt: skip
