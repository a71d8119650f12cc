"""What QEMU's monitor says of guest-physical memory, as values.

The texts are for people, so a line in doubt is an error and never a guess. Formats:
`mtree_print_flatview` (memory.c) and `hmp_gpa2hva` (monitor), alike from QEMU 2.10 on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mempattern.errors import QMPError

_RANGE = re.compile(
    r"  (?P<first>[0-9a-f]{8,16})-(?P<last>[0-9a-f]{8,16}) "
    r"\(prio -?\d+, (?P<kind>[a-z/-]+)\): (?P<name>.+?)"
    r"(?: @(?P<offset>[0-9a-f]{8,16}))?(?: KVM)*"  # KVM: the accelerator has it as a memslot
)
_HOST = re.compile(r"Host virtual address for 0x[0-9a-f]+ \((.+)\) is (?:0x)?([0-9a-f]{1,16})\s*")


@dataclass(frozen=True, slots=True)
class Piece:
    """One range of guest-physical memory, `n_bytes` from `start`, and what is seen there.

    `kind` is "ram", "rom", "i/o" and so on; `name` the memory region's, seen from its `offset` on.
    """

    name: str
    kind: str
    start: int
    n_bytes: int
    offset: int


def parse_flat_view(text: str) -> list[Piece]:
    """The pieces of the address space "memory" from `info mtree -f`, as printed: by address.

    Raises `QMPError` if it is not there or a line of it makes no sense.
    """
    for view in text.replace("\r\n", "\n").split("\n\n"):
        lines = view.strip("\n").split("\n")
        if any(line.startswith(' AS "memory", root: ') for line in lines):
            ranges = [line for line in lines if line.startswith("  ")]
            return [_piece(line) for line in ranges if line != "  No rendered FlatView"]
    raise QMPError(f"`info mtree -f` shows no address space 'memory'; QEMU said {text[:80]!r}")


def _piece(line: str) -> Piece:
    found = _RANGE.fullmatch(line)
    if found is None:
        raise QMPError(f"`info mtree -f` has a line of unknown form: {line[:200]!r}")
    first, last = int(found["first"], 16), int(found["last"], 16)
    if last < first:
        raise QMPError(f"`info mtree -f` has a range that ends before it starts: {line[:200]!r}")
    offset = int(found["offset"] or "0", 16)
    return Piece(found["name"], found["kind"], first, last - first + 1, offset)


def parse_host_address(text: str, name: str) -> int:
    """The address in QEMU from `gpa2hva`, which must be one in the memory region `name`.

    Raises `QMPError` if it is another's, or none.
    """
    found = _HOST.fullmatch(text)
    if found is None or found[1] != name:
        raise QMPError(f"`gpa2hva` gives no address in {name!r}; QEMU said {text[:200]!r}")
    return int(found[2], 16)
