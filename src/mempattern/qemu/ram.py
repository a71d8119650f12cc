"""Where a running QEMU keeps its guest's RAM, and which guest-physical addresses it has there."""

from __future__ import annotations

import errno
import os
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from mempattern._json import is_list, is_object
from mempattern.errors import ProcessError, QMPError, RegionError
from mempattern.monitor.qmp import QMP
from mempattern.qemu.command_line import backend_bytes, ram_bytes
from mempattern.qemu.mtree import Piece, parse_flat_view, parse_host_address
from mempattern.regions import Region
from mempattern.sources.layout import Block
from mempattern.sources.maps import Mapping, read_mappings

_QEMU = re.compile(r"qemu-(system-|kvm)|^kvm$")
_RAM = ("ram", "nv-ram")


@dataclass(frozen=True, slots=True)
class GuestRam:
    """A guest's RAM, and how it was found.

    `blocks` have disjoint ranges in QEMU, and are ordered by guest-physical address if that is
    known. `found_by` is a sentence for people. `left_out` names memory that the guest can write
    and that is not in `blocks`, such as the video RAM of a VGA card; empty also if nobody knows.
    """

    blocks: tuple[Block, ...]
    found_by: str
    left_out: tuple[str, ...] = ()


def is_qemu(pid: int) -> bool:
    """Whether the process is a QEMU that runs a machine: qemu-system-*, or qemu-kvm.

    By the name of its program (a wrapper's ".qemu-system-x86_64-wrapped" counts too) or, where
    that may not be read, by the process's own name. qemu-user is none.
    Raises `ProcessError` if there is no such process.
    """
    try:
        return _QEMU.search(Path(os.readlink(f"/proc/{pid}/exe")).name) is not None
    except OSError:  # another user's, a kernel thread, or gone
        pass
    try:
        comm = Path(f"/proc/{pid}/comm").read_text(errors="replace")
    except OSError as error:
        raise ProcessError(errno.ESRCH, f"there is no process {pid}") from error
    return _QEMU.search(comm.strip()) is not None


def guest_ram_blocks(pid: int, qmp: str | os.PathLike[str] | None = None) -> GuestRam:
    """The guest RAM of the QEMU that runs as `pid`.

    With `qmp`, the path of a UNIX socket that QEMU serves QMP on, QEMU itself is asked for its
    memory backends, where the guest has them and where they lie (`query-memdev`, `info mtree -f`,
    `gpa2hva`): region addresses are guest-physical. Memory below and above the PCI hole is two
    blocks. Nothing is changed in QEMU, and the session is over within seconds.
    Without, it is the mapping of the size that -m gives, or those of -object memory-backend-*:
    region addresses are offsets in the RAM block, and hot-plugged memory is not seen.
    Raises `QMPError` for the socket and what comes out of it, `ProcessError` for the process, or
    if its mappings do not tell.
    """
    return _by_mappings(pid) if qmp is None else _by_qmp(pid, qmp)


def qemu_of_uuid(uuid: str) -> int:
    """The process of the QEMU whose guest has this UUID (its -uuid, as libvirt always gives it).

    Of two, as there are while a guest migrates within one machine, it is the older one: the source.
    Raises `ProcessError` if there is none.
    """
    found: list[tuple[int, int]] = []
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ProcessError):  # it has ended meanwhile
            pid = int(directory.name)
            arguments = (directory / "cmdline").read_text(errors="surrogateescape").split("\0")
            if ("-uuid", uuid) in pairwise(arguments) and is_qemu(pid):
                stat = (directory / "stat").read_text().rpartition(")")[2].split()
                found.append((int(stat[19]), pid))  # proc(5): starttime
    if not found:
        raise ProcessError(
            errno.ESRCH,
            f"no QEMU with -uuid {uuid} is seen on this machine, or in this container: run it "
            f"where the guest runs, or do without tracing (--no-trace)",
        )
    return min(found)[1]


# ---- over QMP -----------------------------------------------------------------------------------


def _by_qmp(pid: int, path: str | os.PathLike[str]) -> GuestRam:
    with QMP(path, pid) as session:
        names = _backend_names(session.execute("query-memdev"))
        pieces = parse_flat_view(session.monitor("info mtree -f"))
        hosts: dict[Piece, int] = {}
        spans = _spans(pieces, names)
        for span, anchor in spans.items():
            said = session.monitor(f"gpa2hva {anchor.start:#x}")
            hosts[span] = parse_host_address(said, span.name) - (anchor.start - span.start)
    mappings = read_mappings(pid)
    whole: list[Piece] = []  # the board may show the same memory twice
    for span in sorted(hosts, key=lambda span: (-span.n_bytes, span.start)):
        if not any(_overlap(hosts[span], span, hosts[other], other) for other in whole):
            whole.append(span)
    n_blocks = Counter(span.name for span in whole)
    blocks: list[Block] = []
    for span in sorted(whole, key=lambda span: span.start):
        name = span.name.removeprefix("/objects/")
        if n_blocks[span.name] > 1:
            name += f"@{span.start:#x}"
        page_bytes = _page_bytes(mappings, hosts[span], span.n_bytes)
        if page_bytes is None:
            raise QMPError(
                f"QEMU says that {name} is at {hosts[span]:#x}, but process {pid} has no writable "
                f"memory of {span.n_bytes} bytes there"
            )
        blocks.append(_block(name, span.start, span.n_bytes, page_bytes, hosts[span]))
    if not blocks:
        raise QMPError(
            f"QEMU (process {pid}) shows its guest no memory backend; choose with --region"
        )
    found = {span.name for span in spans}
    left_out = {piece.name for piece in pieces if piece.kind in _RAM} - found
    return GuestRam(
        tuple(blocks),
        "QMP (query-memdev, info mtree -f, gpa2hva); addresses are guest-physical",
        tuple(sorted(left_out)),
    )


def _backend_names(memdevs: object) -> set[str]:
    """The memory regions of QEMU's memory backends; before 4.0 they have the object's path."""
    if not is_list(memdevs):
        raise QMPError(f"`query-memdev` returned {type(memdevs).__name__}, not a list")
    ids = [memdev.get("id") for memdev in memdevs if is_object(memdev)]
    names = {name for name in ids if isinstance(name, str)}
    return names | {f"/objects/{name}" for name in names}


def _spans(pieces: list[Piece], names: set[str]) -> dict[Piece, Piece]:
    """Each backend's stretches in guest-physical memory, and of each its largest piece of RAM.

    What hides a part of one for now (the VGA window, shadowed ROMs, SMRAM) does not divide it: the
    memory lies behind it all the same, and comes and goes as the firmware says.
    """
    shown: dict[tuple[str, int], list[Piece]] = {}
    for piece in pieces:
        if piece.name in names and piece.kind in (*_RAM, "rom"):
            shown.setdefault((piece.name, piece.start - piece.offset), []).append(piece)
    spans: dict[Piece, Piece] = {}
    for (name, base), parts in shown.items():
        writable = [part for part in parts if part.kind in _RAM]
        if writable:
            start = min(part.start for part in parts)
            end = max(part.start + part.n_bytes for part in parts)
            span = Piece(name, "ram", start, end - start, start - base)
            spans[span] = max(writable, key=lambda part: part.n_bytes)
    return spans


def _overlap(host: int, span: Piece, other_host: int, other: Piece) -> bool:
    return host < other_host + other.n_bytes and other_host < host + span.n_bytes


def _block(name: str, address: int, n_bytes: int, page_bytes: int, host_start: int) -> Block:
    if n_bytes % page_bytes or host_start % page_bytes:
        raise QMPError(
            f"{name}: {n_bytes} bytes at {host_start:#x} are not whole pages of {page_bytes} bytes"
        )
    try:
        return Block(Region(name, n_bytes // page_bytes, page_bytes, address), host_start)
    except RegionError as error:
        raise QMPError(f"QEMU's {name!r} makes no region: {error}") from error


# ---- from the mappings --------------------------------------------------------------------------


def _by_mappings(pid: int) -> GuestRam:
    mappings = read_mappings(pid)
    arguments = _arguments(pid)
    total = ram_bytes(arguments)
    backends = backend_bytes(arguments)
    choices = [[total]] if total else []
    if len(backends) > 1 and sum(backends) == total:
        choices.append(backends)
    for sizes in choices:
        found = {size: _places(mappings, size) for size in sizes}
        if all(len(found[size]) == n for size, n in Counter(sizes).items()):
            places = sorted((start, size) for size, starts in found.items() for start in starts)
            break
    else:
        raise ProcessError(
            errno.ENXIO,
            f"process {pid} has not just one writable mapping of the {total} bytes that -m gives, "
            f"nor its memory backends' mappings: give QEMU's QMP socket with --qmp, "
            f"or choose with --region",
        )
    blocks: list[Block] = []
    for i, (start, size) in enumerate(places):
        page_bytes = _page_bytes(mappings, start, size) or 4096
        name = "ram" if len(places) == 1 else f"ram.{i}"
        blocks.append(_block(name, 0, size, page_bytes, start))
    which = "of -m" if len(blocks) == 1 else "of the memory backends, by their address in QEMU"
    return GuestRam(
        tuple(blocks),
        f"mappings of the size {which}; addresses are offsets in the RAM block, and guest-physical "
        f"only below the PCI hole: --qmp tells",
    )


def _arguments(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/cmdline").read_text(errors="surrogateescape")
    except OSError as error:
        raise ProcessError(error.errno or errno.ESRCH, f"there is no process {pid}") from error
    return text.split("\0")


def _places(mappings: list[Mapping], n_bytes: int) -> list[int]:
    """Where runs of adjoining mappings of one file, or of none, have exactly this size."""
    places: list[int] = []
    for i, first in enumerate(mappings):
        end = first.start
        for mapping in mappings[i:]:
            if not _is_data(mapping) or not _continues(first, mapping, end):
                break
            end = mapping.end
            if end - first.start >= n_bytes:
                break
        if end - first.start == n_bytes:
            places.append(first.start)
    return places


def _is_data(mapping: Mapping) -> bool:
    return mapping.permissions.startswith("rw-")  # not the code that TCG makes


def _continues(first: Mapping, mapping: Mapping, end: int) -> bool:
    same_file = (mapping.path, mapping.inode) == (first.path, first.inode)
    in_step = not first.inode or mapping.offset - first.offset == mapping.start - first.start
    return mapping.start == end and same_file and in_step


def _page_bytes(mappings: list[Mapping], start: int, n_bytes: int) -> int | None:
    """The page size of the writable mappings that cover the range, or None if they do not."""
    inside = [m for m in mappings if m.start < start + n_bytes and m.end > start and _is_data(m)]
    covered = sum(min(m.end, start + n_bytes) - max(m.start, start) for m in inside)
    return max(m.page_bytes for m in inside) if inside and covered == n_bytes else None
