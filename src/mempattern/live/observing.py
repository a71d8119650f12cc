"""The guest before its migration: traced for a while, and its zero pages counted."""

from __future__ import annotations

import asyncio
import errno
import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass

import numpy as np

from mempattern.errors import ProcessError, TraceError, UsageError
from mempattern.interval import Interval
from mempattern.live.decisions import Result
from mempattern.live.migrator import Guest
from mempattern.live.record import to_meta
from mempattern.live.tracer import Tracer, merged
from mempattern.migration.recording import Recording
from mempattern.migration.zeros import count_zeros
from mempattern.qemu.ram import GuestRam
from mempattern.regions import GROUP_PAGES, Region
from mempattern.sources.content import Content, sample_content
from mempattern.trace import TraceWriter

_KEPT = 1200
"""Intervals of an observation: two minutes."""
_REMEDY = (
    "root may trace it (mempattern doctor PID says what is missing), and a policy that goes by "
    "QEMU's figures steers without tracing (--no-trace)"
)


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """A guest's memory, and who goes on watching it."""

    tracer: Tracer
    n_pages: int
    """0 if nobody looked."""
    page_bytes: int
    zero_pages: int
    intervals: tuple[Interval, ...]
    writer: TraceWriter | None

    def recording(self) -> Recording | None:
        """Of the observation; None without one."""
        return Recording(self.intervals) if self.intervals else None

    def keep(self, result: Result) -> str | None:
        """Into the trace, beside the bitmaps, and close that; returns what went wrong."""
        if self.writer is None:
            return None
        try:
            try:
                self.writer.add_facts(to_meta(result))
            finally:
                self.writer.close()
        except TraceError as error:
            return str(error)
        return None


async def observe(
    stack: AsyncExitStack,
    guest: Guest,
    duration_s: float | None,
    *,
    output: str | os.PathLike[str] | None,
    force: bool,
    facts: Mapping[str, str],
    saw: Callable[[Interval], None],
    said: Callable[[str], None],
) -> Observation:
    """Trace the guest for so long, and go on; None: not at all. The stack closes it all.

    Raises `MonitorError`, `ProcessError`, and for the output `TraceError`.
    """
    if duration_s is None:
        if output is not None:
            raise UsageError("without tracing there is no trace to write")
        return Observation(Tracer(None, None, saw), 0, 4096, 0, (), None)
    from mempattern.sources import ProcessWrites  # noqa: PLC0415 - only here, and only on Linux
    from mempattern.sources.layout import guest_ram  # noqa: PLC0415

    try:
        pid, ram = await asyncio.to_thread(guest.ram)
        source = await asyncio.to_thread(ProcessWrites, pid, guest_ram(ram.blocks))
    except ProcessError as error:
        if error.errno not in (errno.EACCES, errno.EPERM):
            raise
        raise ProcessError(error.errno, f"{error}; {_REMEDY}") from error
    stack.callback(source.close)
    content = await asyncio.to_thread(_content, pid, ram)
    meta = {**facts, "guest": "1", **({} if content is None else content.to_meta())}
    writer = None
    if output is not None:
        try:
            writer = TraceWriter(output, source.regions, source.provenance, meta, force=force)
        except OSError as error:
            raise TraceError(f"{output} cannot be written: {error.strerror}") from error
        stack.callback(_close, writer)
    kept: deque[Interval] = deque(maxlen=_KEPT)

    def see(interval: Interval) -> None:
        if not is_over:
            kept.append(interval)
        saw(interval)

    is_over = False
    tracer = Tracer(source, writer, see)
    await tracer.collect()  # what was written since attaching, so that ticks are even
    if duration_s:
        said(f"observing the guest for {duration_s:g} s")
        with suppress(TimeoutError):
            await asyncio.wait_for(tracer.run(), duration_s)
    await tracer.collect()
    is_over = True
    return Observation(
        tracer, sum(region.n_pages for region in source.regions), source.regions[0].page_bytes,
        _zero_pages(content, source.regions, kept), tuple(kept) if duration_s else (), writer,
    )  # fmt: skip


def _close(writer: TraceWriter) -> None:
    with suppress(TraceError):  # said by `keep`, or there are worse news
        writer.close()


def _content(pid: int, ram: GuestRam) -> Content | None:
    try:
        return sample_content(pid, ram.blocks)
    except OSError:  # its memory may not be read: no page is taken to hold only zeros
        return None


def _zero_pages(
    content: Content | None, regions: tuple[Region, ...], kept: Iterable[Interval]
) -> int:
    """Of the guest's, that held only zeros and were not written since."""
    if content is None:
        return 0
    written = None
    for interval in kept:
        written = interval if written is None else merged(written, interval)
    touched = {region.name: np.zeros(region.n_groups(GROUP_PAGES), np.int64) for region in regions}
    if written is not None:
        for region in regions:
            groups = written.pages(region.name) // GROUP_PAGES
            np.add.at(touched[region.name], groups, 1)
    return count_zeros(regions, content.to_meta(), touched) or 0
