"""The thread that compresses and commits intervals, and its bounded queue."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from queue import SimpleQueue

from mempattern.errors import TraceError
from mempattern.interval import Interval
from mempattern.regions import Region
from mempattern.trace.blobs import Packer, count_dirty
from mempattern.trace.create import is_busy
from mempattern.trace.schema import MOST_VERSIONS, put_region

_QUEUE_BYTES = 256 << 20
"""Of bitmaps that wait or are being written; one interval may always wait."""
Facts = dict[str, str]
_GATHER_S = 0.1
"""What the thread has put in that time goes into one commit, if more waits."""
_FLUSH_S = 30.0
_LAST_S = 10.0


class Commits:
    """Takes intervals and returns at once; a thread of its own puts them into the file.

    The database is made by that thread and never leaves it, so that a forked child, which lacks
    the thread, has nothing that it could close or write to.
    """

    def __init__(
        self, path: Path, regions: tuple[Region, ...], make: Callable[[], sqlite3.Connection]
    ) -> None:
        self.path = path
        self.dropped: int = 0
        self.written: int = 0
        self.failure: str = ""
        self._dropped_before = 0
        self._offered_bytes = 0  # counted by the caller only
        self._done_bytes = 0  # counted by the thread only, when they are on the disk
        self._put_bytes = 0  # in the transaction under way
        self._hurry = False
        self._n_put = 0  # intervals in the transaction under way
        self._packer = Packer()
        self._versions = {r.name: (number, 0, r) for number, r in enumerate(regions)}
        self._n_versions = len(regions)
        self._queue: SimpleQueue[tuple[Interval | Facts | None, int]] = SimpleQueue()
        self._finished = threading.Event()
        self._pid = os.getpid()
        made: SimpleQueue[BaseException | None] = SimpleQueue()
        self._thread = threading.Thread(
            target=self._run, args=(make, made), name="mempattern-trace", daemon=True
        )
        self._thread.start()
        try:
            error = made.get()
        except BaseException:  # Ctrl-C: the thread must not wait for intervals for ever
            self._queue.put((None, 0))
            raise
        if error is not None:
            raise error

    @property
    def here(self) -> bool:
        """False in a forked child."""
        return os.getpid() == self._pid

    def offer(self, interval: Interval) -> None:
        """Queues the interval, or drops it if too much waits already."""
        n_bytes = _n_bytes(interval)
        waiting = self._offered_bytes - self._done_bytes
        if waiting and waiting + n_bytes > _QUEUE_BYTES:
            self.dropped += 1
            self._dropped_before += 1
            return
        self._offered_bytes += n_bytes
        self._queue.put((interval, self._dropped_before))
        self._dropped_before = 0

    def add_facts(self, facts: Facts) -> None:
        """Queues them behind the intervals."""
        self._queue.put((facts, 0))

    def end(self) -> None:
        """Commits what is queued and closes the file, within `_FLUSH_S` and `_LAST_S`.

        What the disk does not take in `_FLUSH_S`, or until Ctrl-C, is dropped.
        """
        if not self.here or self._finished.is_set():
            return
        self._queue.put((None, self._dropped_before))
        if threading.current_thread() is self._thread:
            return  # the garbage collector calls from anywhere
        try:
            self._finished.wait(_FLUSH_S)
        finally:
            self._hurry = True
            if not self._finished.wait(_LAST_S):
                self.failure = (
                    f"{self.path}: the disk does not answer; the first {self.written} intervals "
                    "are safe, as long as the -wal file stays beside it"
                )

    # ---- in the thread -------------------------------------------------------------------------

    def _run(
        self, make: Callable[[], sqlite3.Connection], made: SimpleQueue[BaseException | None]
    ) -> None:
        try:
            database = make()
        except BaseException as error:
            made.put(error)
            return
        made.put(None)
        try:
            with closing(database):
                self._commit_and_seal(database)
        finally:
            self._finished.set()

    def _commit_and_seal(self, database: sqlite3.Connection) -> None:
        try:
            self._commit_all(database)
        except Exception as error:  # whatever it is, the caller must hear of it and go on
            self.failure = (
                f"{self.path} cannot be written: {error}; its first {self.written} intervals are "
                "safe, and none after them is in it"
            )
            with suppress(sqlite3.Error):
                if database.in_transaction:
                    database.execute("rollback")
        try:
            _make_one_file(database)
        except sqlite3.Error as error:
            said = self.failure or f"{self.path}: {error}"
            self.failure = f"{said}; it is complete only with its -wal file"

    def _commit_all(self, database: sqlite3.Connection) -> None:
        """As many intervals in one transaction as wait, and come within `_GATHER_S`: that a commit
        waits for the disk twice takes longer than all the rest.
        """
        dropped, due_s = 0, 0.0
        while True:
            if self._queue.empty() or time.monotonic() >= due_s:
                self._commit(database)
            interval, dropped_before = self._queue.get()
            dropped += dropped_before
            if interval is None:
                break
            if isinstance(interval, dict):
                database.executemany("insert into meta values (?, ?)", interval.items())
                continue
            if self._hurry:
                self.dropped += 1
                dropped += 1
                self._done_bytes += _n_bytes(interval)
            else:
                if not self._n_put:
                    database.execute("begin")
                    due_s = time.monotonic() + _GATHER_S
                self._put(database, interval, dropped)
                dropped = 0
            del interval  # its bitmaps go back to the source's pool
        self._commit(database)
        _record_dropped(database, self.written, dropped)

    def _put(self, database: sqlite3.Connection, interval: Interval, dropped: int) -> None:
        position, run = self.written + self._n_put, database.execute
        _record_dropped(database, position, dropped)
        dirty_pages = 0
        for region in interval.regions:
            words = interval.bitmaps[region.name]
            dirty = count_dirty(words, region)
            version = self._version(database, region, position)
            run("insert into bitmap values (?, ?, ?, ?)",
                (position, version, dirty, self._packer.pack_counted(words, dirty)))  # fmt: skip
            dirty_pages += dirty
        run("insert into interval values (?, ?, ?, ?, ?, ?, ?)",
            (position, interval.index, interval.start_ns, interval.end_ns,
             interval.collect_ns, interval.lost_pages, dirty_pages))  # fmt: skip
        self._n_put += 1
        self._put_bytes += _n_bytes(interval)

    def _commit(self, database: sqlite3.Connection) -> None:
        if self._n_put:
            database.execute("commit")
            self.written += self._n_put
            self._done_bytes += self._put_bytes
            self._n_put = self._put_bytes = 0

    def _version(self, database: sqlite3.Connection, region: Region, position: int) -> int:
        """The row of the region as it is now, added if it came or grew since."""
        number, first_interval, was = self._versions.get(region.name, (0, -1, None))
        if was is not region and was != region:
            if first_interval != position:  # or it grew before there was any interval
                number = self._n_versions
                if number >= MOST_VERSIONS:
                    raise TraceError(f"its regions came or grew more than {MOST_VERSIONS} times")
                self._n_versions += 1
            put_region(database, number, position, region)
            self._versions[region.name] = (number, position, region)
        return number


def _n_bytes(interval: Interval) -> int:
    return sum(region.n_words for region in interval.regions) * 8


def _record_dropped(database: sqlite3.Connection, before: int, dropped: int) -> None:
    if dropped:
        database.execute("insert into dropped values (?, ?)", (before, dropped))


def _make_one_file(database: sqlite3.Connection) -> None:
    """Nothing stays in the -wal file, and that goes away unless somebody reads."""
    busy, _, _ = database.execute("pragma wal_checkpoint(truncate)").fetchone()
    if busy:
        raise sqlite3.OperationalError("another program keeps reading it")
    database.execute("pragma busy_timeout = 0")
    try:
        database.execute("pragma journal_mode = delete")
    except sqlite3.Error as error:
        if not is_busy(error):
            raise
