"""The list of a process's mappings, read again and again."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from mempattern.errors import ProcessError
from mempattern.regions import PAGE_BYTES

_LINE = re.compile(
    r"([0-9a-f]+)-([0-9a-f]+) ([-r][-w][-x][ps]) ([0-9a-f]+) [0-9a-f]+:[0-9a-f]+ (\d+) *(.*)"
)
_SMALLEST_HUGE_PAGE = 2 << 20

Place = tuple[int, int, int, str]
"""What a mapping keeps while its permissions change: start, end, inode, path."""


@dataclass(frozen=True, slots=True)
class Mapping:
    """One line of /proc/PID/maps; see proc_pid_maps(5)."""

    start: int
    """Of its first byte, the virtual address in the process."""
    end: int
    """The first address after it."""
    permissions: str
    """As "rw-p"."""
    offset: int
    """In the file, where the mapping begins; in bytes."""
    inode: int
    """The file's; 0 where there is no file behind it."""
    path: str
    """A file's path, "[heap]", "[stack]", or "" for anonymous memory."""
    page_bytes: int = PAGE_BYTES
    """More than 4096 for memory of hugetlbfs."""

    @property
    def place(self) -> Place:
        """What it keeps while its permissions change: start, end, inode, path."""
        return self.start, self.end, self.inode, self.path

    @property
    def is_private_file(self) -> bool:
        """Whether it maps a file privately: a write makes a copy of the page."""
        return self.permissions[3] == "p" and self.inode != 0

    @property
    def name(self) -> str:
        """ "heap", "stack", a file's name, "memfd:name"; "anon" where there is none."""
        path = self.path.removesuffix(" (deleted)")
        if path.startswith("["):
            return path.strip("[]")
        return path.rsplit("/", 1)[-1] or "anon"


@dataclass(slots=True)
class MapsParser:
    """Reads one process's lists of mappings; lines that were in the list before are not read again.

    `page_sizes` gives page sizes by place. It is slow, so it is asked only when there is a mapping
    in a new place that hugetlbfs could have made.
    """

    page_sizes: Callable[[], dict[Place, int]]
    _known: dict[str, Mapping] = field(default_factory=dict)

    def parse(self, text: str) -> list[Mapping]:
        """The mappings of a maps file, ascending."""
        known: dict[str, Mapping] = {}
        new: list[str] = []
        for line in text.split("\n"):  # the only character that the kernel escapes in a path
            mapping = self._known.get(line)
            if mapping is None:
                mapping = _parse(line)
                if mapping is None:
                    continue
                if _may_be_huge(mapping):
                    new.append(line)
            known[line] = mapping
        if new:
            sizes = self._page_sizes_of([known[line] for line in new])
            for line in new:
                size = sizes.get(known[line].place, PAGE_BYTES)
                known[line] = replace(known[line], page_bytes=size)
        self._known = known
        return list(known.values())

    def _page_sizes_of(self, new: list[Mapping]) -> dict[Place, int]:
        before = {m.place: m.page_bytes for m in self._known.values() if _may_be_huge(m)}
        return before if all(m.place in before for m in new) else self.page_sizes()


def _may_be_huge(mapping: Mapping) -> bool:
    return mapping.inode != 0 and not (mapping.start | mapping.end) % _SMALLEST_HUGE_PAGE


def _parse(line: str) -> Mapping | None:
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    start, end, permissions, offset, inode, path = match.groups()
    address = int(start, 16)
    if address >> 63:  # [vsyscall]: the kernel's, in every process's list
        return None
    return Mapping(address, int(end, 16), permissions, int(offset, 16), int(inode), path)


def read_mappings(pid: int) -> list[Mapping]:
    """The process's mappings now. Raises `ProcessError` if it is gone or may not be looked at."""
    try:
        return MapsParser(lambda: page_sizes(pid)).parse(_read(f"/proc/{pid}/maps"))
    except OSError as error:
        number = error.errno or errno.EIO
        raise ProcessError(number, f"the mappings of process {pid}: {error.strerror}") from error


def page_sizes(pid: int) -> dict[Place, int]:
    """Page sizes by place, from /proc/PID/smaps; {} where all are small. Raises `OSError`."""
    sizes: dict[Place, int] = {}
    if not machine_has_hugetlb():
        return sizes
    place = None
    for line in _read(f"/proc/{pid}/smaps").split("\n"):
        if line.startswith("KernelPageSize:") and place is not None:
            sizes[place] = int(line.split()[1]) * 1024
        elif mapping := _parse(line):
            place = mapping.place
    return sizes


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


def _read(path: str) -> str:
    """As it is: in the name of a file, text mode would take a \\r for the end of the line."""
    return Path(path).read_bytes().decode(errors="replace")
