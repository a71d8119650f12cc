"""The trace file (`.mpt`): SQLite, with one zstd blob per interval and region.

Schema version 1:

    meta      key, value                        "schema" = "1", host, tool, ...
    region    id, name, n_pages, page_bytes
    source    id, name, blind_spots (JSON)
    interval  id (from 0), source, start_ns, end_ns, collect_ns, lost_pages
    bitmap    interval, region, words (zstd of little-endian 64-bit words)

Each interval is one transaction: killed at any moment, the file holds whole intervals only.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from mempattern._checks import whole_number
from mempattern._closing import Closing
from mempattern.errors import ClosedError, TraceError
from mempattern.interval import Bitmap, Interval, Provenance
from mempattern.regions import Region, check_regions

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SCHEMA = "1"
_APPLICATION_ID = 0x4D50_4154  # "MPAT", so that file(1) and we know our own
# The checksum makes any flipped bit of a bitmap an error on reading.
_ZSTD: dict[int, int] = {
    zstd.CompressionParameter.compression_level: 3,
    zstd.CompressionParameter.checksum_flag: 1,
}

_TABLES = """
create table meta (key text primary key, value text not null);
create table region (
    id integer primary key, name text not null unique,
    n_pages integer not null, page_bytes integer not null);
create table source (id integer primary key, name text not null, blind_spots text not null);
create table interval (
    id integer primary key, source integer not null references source,
    start_ns integer not null, end_ns integer not null,
    collect_ns integer not null, lost_pages integer not null);
create table bitmap (
    interval integer not null references interval, region integer not null references region,
    words blob not null, primary key (interval, region)) without rowid;
"""


_TABLE_NAMES = ("meta", "region", "source", "interval", "bitmap")


class TraceWriter(Closing):
    """Write intervals to a new trace file. A context manager.

    Raises `TraceError` if the file exists, `OSError` where it cannot be made.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        regions: tuple[Region, ...],
        provenance: Provenance,
        meta: Mapping[str, str] | None = None,
    ) -> None:
        self.path = Path(path)
        self.regions = check_regions(regions)
        facts = {"schema": SCHEMA, "kernel": platform.release(), "machine": platform.machine()}
        for key, value in (meta or {}).items():
            if key in facts or not (isinstance(key, str) and isinstance(value, str)):
                raise TraceError(
                    f"meta takes strings by names other than {', '.join(facts)}; "
                    f"{key!r}: {value!r} is not"
                )
            facts[key] = value
        if self.path.exists():
            raise TraceError(f"{self.path} exists; name another file or remove it first")
        self.path.touch(exist_ok=False)  # an OSError that names the path, before SQLite's does not
        self._database = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        self._next = 0
        self._closed = False
        try:
            self._write_head(provenance, facts)
        except sqlite3.Error as error:
            self._database.close()
            self.path.unlink()
            raise TraceError(f"{self.path} cannot be written: {error}") from None

    def _write_head(self, provenance: Provenance, facts: Mapping[str, str]) -> None:
        run = self._database.execute
        run(f"pragma application_id = {_APPLICATION_ID}")
        run("pragma journal_mode = wal")
        run("pragma synchronous = normal")
        run("pragma wal_autocheckpoint = 1")  # the file itself has every committed interval
        run("begin")
        for statement in _TABLES.split(";"):
            run(statement)
        self._database.executemany("insert into meta values (?, ?)", facts.items())
        self._database.executemany(
            "insert into region values (?, ?, ?, ?)",
            [(i, r.name, r.n_pages, r.page_bytes) for i, r in enumerate(self.regions)],
        )
        run(
            "insert into source values (0, ?, ?)",
            (provenance.source, json.dumps(provenance.blind_spots)),
        )
        run("commit")

    def write(self, interval: Interval) -> None:
        """Append one interval, whole or not at all.

        Raises `TraceError` for an interval of other regions or on a full disk, `ClosedError`.
        """
        if interval.regions != self.regions:
            raise TraceError("the interval has other regions than the trace file")
        if self._closed:
            raise ClosedError(f"{self.path}: this TraceWriter is closed")
        try:
            self._write(interval)
        except sqlite3.Error as error:
            raise TraceError(f"{self.path}: interval {self._next} is not in it: {error}") from None
        finally:
            if self._database.in_transaction:
                self._database.execute("rollback")
        self._next += 1

    def _write(self, interval: Interval) -> None:
        run = self._database.execute
        times = (interval.start_ns, interval.end_ns, interval.collect_ns, interval.lost_pages)
        run("begin")
        run("insert into interval values (?, 0, ?, ?, ?, ?)", (self._next, *times))
        for number, region in enumerate(self.regions):
            words = np.ascontiguousarray(interval.bitmaps[region.name])
            blob = zstd.compress(words.data, options=_ZSTD)
            run("insert into bitmap values (?, ?, ?)", (self._next, number, blob))
        run("commit")

    def close(self) -> None:
        """Leave one self-contained file. May be called twice. Raises `TraceError`."""
        if self._closed:
            return
        self._closed = True
        try:
            self._database.execute("pragma journal_mode = delete")
        except sqlite3.Error as error:
            raise TraceError(f"{self.path} is complete only with its -wal file: {error}") from None
        finally:
            self._database.close()


class TraceReader(Closing):
    """Read a trace file: `regions`, `provenance`, `meta`, `len()`, and its intervals by index.

    Raises `TraceError` if the file is no trace or is damaged, `OSError` if it does not open.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        mode = self.path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # open() below names a directory
            raise TraceError(f"{self.path} is not a mempattern trace: it is no regular file")
        with self.path.open("rb"):
            pass  # an OSError that names the path
        self._database = sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=ro", uri=True)
        self._database.execute("pragma trusted_schema = off")
        try:
            self._read_head()
        except (sqlite3.Error, ValueError, TypeError, RecursionError) as error:
            self._database.close()
            raise TraceError(f"{self.path} is not a mempattern trace: {error}") from None

    def _read_head(self) -> None:
        run = self._database.execute
        if run("pragma application_id").fetchone()[0] != _APPLICATION_ID:
            raise ValueError("it is another kind of SQLite file")
        kinds = dict(run("select name, type from sqlite_master where name not like 'sqlite_%'"))
        if kinds != dict.fromkeys(_TABLE_NAMES, "table"):
            raise ValueError("it has not the tables of a trace, or has more than them")
        self.meta: dict[str, str] = dict(run("select key, value from meta"))
        if not all(isinstance(text, str) for pair in self.meta.items() for text in pair):
            raise ValueError("its meta holds something that is no text")
        if self.meta.get("schema") != SCHEMA:
            schema = self.meta.get("schema")
            raise ValueError(f"its schema is {schema}; this version reads {SCHEMA}")
        self.regions = check_regions(
            Region(*row) for row in run("select name, n_pages, page_bytes from region order by id")
        )
        name, blind_spots = run("select name, blind_spots from source").fetchone()
        self.provenance = Provenance(name, tuple(json.loads(blind_spots)))
        for text in (name, *self.provenance.blind_spots):
            if not isinstance(text, str) or not text.isprintable():
                raise ValueError("its source is described by something that is no printable text")
        self._n_intervals = int(run("select count(*) from interval").fetchone()[0])
        self._closed = False

    def __len__(self) -> int:
        return self._n_intervals

    def __getitem__(self, index: int) -> Interval:
        """The interval of that index, from 0. Raises `IndexError`, `TraceError`."""
        if self._closed:
            raise ClosedError(f"{self.path}: this trace is closed; open it again")
        number = whole_number(index, 0, self._n_intervals - 1)
        if number is None:
            raise IndexError(f"no interval {index!r}; the trace has {self._n_intervals}")
        try:
            return self._read(number)
        except (sqlite3.Error, zstd.ZstdError, ValueError, TypeError) as error:
            raise TraceError(f"{self.path}: interval {index} is damaged: {error}") from None

    def __iter__(self) -> Iterator[Interval]:
        return (self[index] for index in range(self._n_intervals))

    def _read(self, index: int) -> Interval:
        run = self._database.execute
        start_ns, end_ns, collect_ns, lost_pages = run(
            "select start_ns, end_ns, collect_ns, lost_pages from interval where id = ?", (index,)
        ).fetchone()
        rows = dict(run("select region, words from bitmap where interval = ?", (index,)))
        bitmaps = {
            region.name: _words(rows[number], region)
            for number, region in enumerate(self.regions)
            if number in rows
        }
        return Interval(
            index, start_ns, end_ns, self.regions, bitmaps, self.provenance, lost_pages, collect_ns
        )

    def close(self) -> None:
        """May be called twice."""
        self._closed = True
        self._database.close()


_FRAME_HEADER = 5  # bytes up to and with the frame header descriptor, RFC 8878, 3.1.1.1
_HAS_CHECKSUM = 4


def _words(blob: bytes, region: Region) -> Bitmap:
    """Never inflates more than the region's size, whatever the blob claims."""
    n_bytes = region.n_words * 8
    if len(blob) < _FRAME_HEADER or not blob[_FRAME_HEADER - 1] & _HAS_CHECKSUM:
        raise ValueError(f"region {region.name!r} has a bitmap without a checksum")
    inflater = zstd.ZstdDecompressor()
    raw = inflater.decompress(blob, max_length=n_bytes + 1)
    if len(raw) != n_bytes or not inflater.eof or inflater.unused_data:
        raise ValueError(f"region {region.name!r} has not the {n_bytes} bytes that belong there")
    return np.frombuffer(raw, np.uint64)
