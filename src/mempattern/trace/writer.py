"""Writing a trace file while intervals are collected."""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import mempattern
from mempattern._closing import Closing
from mempattern._results import busy
from mempattern.errors import ClosedError, RegionError, TraceError
from mempattern.interval import Interval, Provenance
from mempattern.regions import Region, check_regions
from mempattern.trace.commits import Commits
from mempattern.trace.create import create
from mempattern.trace.schema import MOST_FACTS, MOST_TEXT, SCHEMA, check_text, make_head
from mempattern.trace.versions import check_following, check_total

_WRITE_S = 1.0
"""More than a write takes, which never waits."""
_ROW_BYTES = 256
"""Of a fact's row, what is neither its name nor its value: more than that."""


class TraceWriter(Closing):
    """Write the intervals of one source to a new trace file. A context manager.

    `write` never waits: intervals are queued, up to 256 MiB of bitmaps, and a thread compresses and
    commits those that wait together. When the disk cannot keep up, intervals are dropped whole; the
    file says how many and where. One thread at a time: a second one gets `BusyError`, and nothing
    of it is written. Not for a forked child.

    `regions` are those of the source as it starts, and of the last interval written from then on;
    `meta` are facts to keep, printable text by name. With `force` an existing file is replaced,
    once the new one is made.

    Raises `TraceError` if the file exists or is in use, or for what a trace does not hold;
    `OSError` where the file cannot be made, `RegionError`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        regions: tuple[Region, ...],
        provenance: Provenance,
        meta: Mapping[str, str] | None = None,
        *,
        force: bool = False,
    ) -> None:
        self.path: Path = Path(path)
        """Of the file, as given."""
        self.regions: tuple[Region, ...] = check_regions(regions)
        check_total(self.regions)
        self.provenance = provenance
        self._lock = threading.Lock()
        self._closed = False
        self._last_index = -1
        self._last_end_ns: int | None = None
        check_text("a source", provenance.source, provenance.granularity, *provenance.blind_spots)

        # The thread keeps this for as long as it runs; it must not keep the writer.
        facts = _facts(meta)
        self._fact_names = set(facts)
        head = partial(make_head, regions=self.regions, provenance=provenance, facts=facts)
        make = partial(create, self.path, head, force)
        try:
            self._commits = Commits(self.path, self.regions, make)
        except sqlite3.Error as error:
            raise TraceError(f"{self.path} cannot be written: {error}") from None
        # A writer that nobody closed ends with its last reference, or with the interpreter.
        self._end = weakref.finalize(self, self._commits.end)

    @property
    def written(self) -> int:
        """Intervals committed so far: these are safe, whatever happens."""
        return self._commits.written

    @property
    def dropped(self) -> int:
        """Intervals that the disk was too slow for."""
        return self._commits.dropped

    def write(self, interval: Interval) -> None:
        """Append one interval, whole or not at all, without waiting for the disk.

        Its bitmaps must not change any more. Raises `TraceError` for an interval that is not the
        source's next, or if an earlier one could not be written; `ClosedError`, `BusyError`.
        """
        with self._alone():
            self._check_open()
            self._check_next(interval)
            self._commits.offer(interval)
            self.regions = interval.regions
            self._last_index, self._last_end_ns = interval.index, interval.end_ns

    def add_facts(self, meta: Mapping[str, str]) -> None:
        """Facts that are known only later, under names not used yet.

        Raises `TraceError` for what a trace does not hold, or if an earlier interval could not be
        written; `ClosedError`, `BusyError`.
        """
        with self._alone():
            self._add_facts(dict(meta))

    def _add_facts(self, facts: dict[str, str]) -> None:
        self._check_open()
        for key, value in facts.items():
            check_text("meta", key, value)
            if key in self._fact_names:
                raise TraceError(f"{self.path}: {key!r} is known already, and facts do not change")
            if max(len(key.encode()), len(value.encode())) > MOST_TEXT - _ROW_BYTES:
                raise TraceError(f"{self.path}: {key!r} is longer than a trace holds")
        if len(self._fact_names) + len(facts) > MOST_FACTS:
            raise TraceError(f"{self.path}: a trace holds up to {MOST_FACTS} facts")
        self._fact_names |= set(facts)
        self._commits.add_facts(facts)

    @contextmanager
    def _alone(self) -> Generator[None]:
        """What is checked must still hold when it is queued: the file keeps the order."""
        if not self._lock.acquire(blocking=False):
            raise busy("this TraceWriter")
        try:
            yield
        finally:
            self._lock.release()

    def _check_open(self) -> None:
        if self._closed or not self._end.alive:
            raise ClosedError(f"{self.path}: this TraceWriter is closed")
        if not self._commits.here:
            raise ClosedError(
                f"{self.path} is written by the process that opened it, not by a fork"
            )
        self._raise_failure()

    def _check_next(self, interval: Interval) -> None:
        which = f"{self.path}: interval {interval.index}"
        if interval.provenance != self.provenance:
            raise TraceError(f"{which} is of another source than the trace")
        if interval.regions is not self.regions and interval.regions != self.regions:
            try:
                check_following(self.regions, interval.regions)
            except RegionError as error:
                raise TraceError(f"{which} has other regions: {error}") from None
        if self._last_end_ns is None:
            return
        if interval.index <= self._last_index or interval.start_ns < self._last_end_ns:
            raise TraceError(
                f"{which} starts at {interval.start_ns} ns, and interval {self._last_index}, which "
                f"was written before it, ends at {self._last_end_ns} ns; write them in order"
            )

    def close(self) -> None:
        """Commit what is queued and leave one self-contained file. May be called twice.

        Takes 40 seconds at most: what the disk does not take in 30, or until Ctrl-C, is dropped.
        Raises `TraceError` if not all that was written is safe in the one file.
        """
        # What another thread is just writing goes first, or it would be queued behind the end. A
        # signal handler may have interrupted the write that it waits for.
        is_alone = self._lock.acquire(timeout=_WRITE_S)
        self._closed = True
        if is_alone:
            self._lock.release()
        if self._end.alive:
            self._end()
            if self._commits.here:
                self._raise_failure()

    def _raise_failure(self) -> None:
        if self._commits.failure:
            raise TraceError(self._commits.failure)


def _facts(meta: Mapping[str, str] | None) -> dict[str, str]:
    host = os.uname()
    facts = {
        "schema": SCHEMA,
        "mempattern": mempattern.__version__,
        "hostname": host.nodename,
        "kernel": host.release,
        "machine": host.machine,
    }
    ours = ", ".join(facts)
    for key, value in (meta or {}).items():
        check_text("meta", key, value)
        if key in facts:
            raise TraceError(f"meta takes names other than {ours}")
        facts[key] = value
    if len(facts) > MOST_FACTS:
        raise TraceError(f"meta has {len(facts)} facts; a trace holds up to {MOST_FACTS}")
    return facts
