"""The guest's dirty pages while it migrates: every tenth of a second, and at once at each pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from mempattern.errors import MempatternError
from mempattern.interval import Interval
from mempattern.sources import Source
from mempattern.trace import TraceWriter

PERIOD_S = 0.1


def merged(before: Interval, last: Interval) -> Interval:
    """Two successive intervals as one, in the regions of the last: these only grow."""
    bitmaps = {}
    for region in last.regions:
        words = last.bitmaps[region.name].copy()
        part = before.bitmaps.get(region.name)
        if part is not None:
            words[: part.size] |= part
        bitmaps[region.name] = words
    return replace(
        last, start_ns=before.start_ns, bitmaps=bitmaps,
        lost_pages=before.lost_pages + last.lost_pages,
        collect_ns=before.collect_ns + last.collect_ns,
    )  # fmt: skip


class Tracer:
    """Collects from a source, in a thread, until that ends or fails; writes a trace of it.

    `told` is called with each interval, in the event loop.
    """

    def __init__(
        self,
        source: Source | None,
        writer: TraceWriter | None,
        told: Callable[[Interval], None],
    ) -> None:
        self.source, self._writer, self._told = source, writer, told
        self.failure: str | None = None
        """Why nothing more is seen, or written."""
        self._lock = asyncio.Lock()
        self._since: Interval | None = None

    @property
    def sees(self) -> bool:
        return self.source is not None

    async def run(self) -> None:
        """For ever; to be cancelled."""
        tick = time.monotonic()
        while True:
            tick = max(tick + PERIOD_S, time.monotonic())
            await asyncio.sleep(tick - time.monotonic())
            await self.collect()

    async def collect(self) -> None:
        """Now."""
        async with self._lock:
            if self.source is None:
                return
            try:
                interval = await asyncio.to_thread(self.source.collect)
            except (MempatternError, OSError, EOFError) as error:
                self.failure = f"the guest's writes are not seen any more: {error}"
                self.source = None
                return
            self._since = interval if self._since is None else merged(self._since, interval)
            self._write(interval)
            self._told(interval)

    async def iteration(self) -> Interval | None:
        """What was written since the last call, until now."""
        await self.collect()
        iteration, self._since = self._since, None
        return iteration if self.sees else None

    def _write(self, interval: Interval) -> None:
        if self._writer is None:
            return
        try:
            self._writer.write(interval)
        except (MempatternError, OSError) as error:
            self.failure, self._writer = f"the trace goes no further: {error}", None
