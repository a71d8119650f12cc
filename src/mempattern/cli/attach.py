"""From what the user named to a source: which process, which of its memory."""

from __future__ import annotations

import argparse
import re
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from errno import EIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mempattern._terminal import printable
from mempattern.analysis.target import Target
from mempattern.cli.exits import UsageFault
from mempattern.errors import ProcessError, UsageError
from mempattern.report.units import format_bytes
from mempattern.sources import Source

if TYPE_CHECKING:
    from mempattern.sources.auto import Choice
    from mempattern.sources.process import ProcessSource

_ADDRESSES = re.compile(r"(?:0x)?([0-9a-f]{1,16})-(?:0x)?([0-9a-f]{1,16})", re.IGNORECASE)
_SPAN = re.compile(r"[^/]*@([0-9a-f]{1,16})'*")
_GUEST_COMES_WITHIN_S = 10.0
_PF_EXITING = 4


def prepare() -> None:
    """Import what is needed then, so that a command is attached to as soon as it runs, and its
    first interval is no longer than others."""
    import mempattern.classify.patterns  # noqa: PLC0415
    import mempattern.qemu.ram  # noqa: PLC0415
    import mempattern.sources  # noqa: F401, PLC0415


def exit_code(process: subprocess.Popen[bytes]) -> int | None:
    """Of a command that has ended, or is about to."""
    with suppress(subprocess.TimeoutExpired):
        return process.wait(0.05)
    return None


def start(command: list[str], stdout: IO[str] | None) -> subprocess.Popen[bytes]:
    """The command, past its exec. Its stdin and stderr are ours, and so is stdout if that is None.

    It is our child, so Yama's ptrace_scope 1 lets us trace it without its consent.
    Raises `ProcessError`.
    """
    try:
        return subprocess.Popen(command, stdout=stdout)
    except OSError as error:
        raise ProcessError(
            error.errno or EIO,
            f"cannot start {command[0]!r}: {error.strerror}; name a program in PATH, or its file",
        ) from None


def open_source(
    pid: int, options: argparse.Namespace, wait: Callable[[float], object]
) -> tuple[Source, Target]:
    """Attach to the process, as the options say. The seam where tests put a source of their own.

    Raises `ProcessError`, `QMPError`, and `UsageFault` for options that do not suit this process.
    """
    try:
        layout, found_by = choose_layout(pid, options, wait)
    except UsageError as error:
        raise UsageFault(str(error)) from None
    from mempattern.sources import open_process  # noqa: PLC0415
    from mempattern.sources.layout import Blocks  # noqa: PLC0415

    source: Source = open_process(pid, options.source, layout, split_thp=options.split_thp)
    is_guest = isinstance(layout, Blocks) and options.region == "auto"
    return source, describe(source, process_name(pid), pid, found_by, is_guest=is_guest)


def content_of(source: Source) -> dict[str, str]:
    """For the trace file: which parts of a guest's RAM are not zero. Nothing for other targets."""
    from mempattern.qemu.ram import is_qemu  # noqa: PLC0415
    from mempattern.sources.content import sample_content  # noqa: PLC0415
    from mempattern.sources.layout import Blocks  # noqa: PLC0415

    pid, layout = getattr(source, "pid", None), getattr(source, "layout", None)
    try:
        if pid is None or not isinstance(layout, Blocks) or not is_qemu(pid):
            return {}
        return sample_content(pid, layout.blocks).to_meta()
    except OSError:  # it has ended, or its memory may not be read: a forecast then says so
        return {}


def open_again(before: ProcessSource, *, split_thp: bool) -> Source:
    """The program that the process executes now, in the same way and the same regions.

    Raises `ProcessError`.
    """
    from mempattern.sources import ProcessWrites, open_process  # noqa: PLC0415

    source: Choice = "uffd" if isinstance(before, ProcessWrites) else "soft-dirty"
    return open_process(before.pid, source, before.layout, split_thp=split_thp)


def describe(
    source: Source, name: str | None, pid: int, found_by: str, *, is_guest: bool = False
) -> Target:
    """What was attached to, in words and with its cost."""
    return Target(name, pid, found_by, getattr(source, "attach_s", None), is_guest)


def size_of(source: Source) -> str:
    """Of all it follows at the moment, in words."""
    n_bytes = sum(region.n_pages * region.page_bytes for region in source.regions)
    n = len(source.regions)
    return f"{n} region{'s' if n != 1 else ''}, {format_bytes(n_bytes)}"


def choose_layout(
    pid: int, options: argparse.Namespace, wait: Callable[[float], object]
) -> tuple[Any, str]:
    """The layout that --region names, and in words what it is and how it was found."""
    from mempattern.qemu import ram  # noqa: PLC0415
    from mempattern.sources import layout  # noqa: PLC0415

    region: str = options.region
    group_pages: int = options.group_pages
    is_guest = ram.is_qemu(pid)
    if options.qmp is not None and not is_guest:
        raise UsageFault(f"--qmp is for a QEMU guest, and process {pid} is no QEMU")
    if region == "all":
        return layout.everything(group_pages), "all of its memory"
    if (addresses := parse_addresses(region)) is not None:
        return layout.address_range(*addresses), f"addresses {region}"
    if is_guest and (region == "auto" or options.qmp is not None):
        guest = _guest_ram(ram.guest_ram_blocks, pid, options, wait)
        blocks = [b for b in guest.blocks if region in ("auto", b.region.name)]
        if not blocks:
            names = ", ".join(block.region.name for block in guest.blocks)
            raise UsageFault(f"the guest has no RAM block {region!r}; it has {names}")
        words = f"guest RAM, found by {guest.found_by}"
        if guest.left_out:
            words += f"; left out: {', '.join(guest.left_out)}"
        return layout.guest_ram(blocks), words
    if region == "auto":
        return layout.writable_memory(group_pages), "all writable memory, by its memory map"
    if (span := _SPAN.fullmatch(region)) is not None:  # as a region of --region auto is called
        within = layout.writable_memory(group_pages)
        return layout.SpanAt(within, int(span[1], 16)), f"the region {region}"
    return layout.named(region, group_pages), f"mappings named {region!r}"


def _guest_ram(
    find: Callable[..., Any], pid: int, options: argparse.Namespace, wait: Callable[[float], object]
) -> Any:
    """A QEMU that we have just started takes its time until it has the guest's RAM."""
    deadline = time.monotonic() + (_GUEST_COMES_WITHIN_S if options.command else 0)
    while True:
        try:
            return find(pid, options.qmp)
        except OSError:
            if time.monotonic() >= deadline:
                raise
        try:
            wait(0.05)
        except EOFError:
            raise KeyboardInterrupt from None


def parse_addresses(region: str) -> tuple[int, int] | None:
    """START-END in hexadecimal, or None for what is a name."""
    match = _ADDRESSES.fullmatch(region)
    return (int(match[1], 16), int(match[2], 16)) if match else None


def process_name(pid: int) -> str | None:
    """As ps(1) shows it; None if it has ended meanwhile."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return None
    return printable(name)


def is_ending(pid: int) -> bool:
    """Whether it has begun to exit: some GiB of memory take it a second, and it has none by then.

    Source: proc_pid_stat(5), flags; PF_EXITING in Linux include/linux/sched.h.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return True
    flags = int(stat.rpartition(b")")[2].split()[6])
    return bool(flags & _PF_EXITING)


def end(process: subprocess.Popen[bytes]) -> None:
    """A command that could not be traced: it was started for nothing else."""
    with suppress(ProcessLookupError):
        process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(2.0)
