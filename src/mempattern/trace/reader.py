"""Reading a trace file, which may be damaged, or made to do harm."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import SupportsIndex

from mempattern._checks import whole_number
from mempattern._closing import Closing
from mempattern._json import is_list
from mempattern.errors import ClosedError, TraceError
from mempattern.interval import Bitmap, Interval, Provenance
from mempattern.regions import Region
from mempattern.trace import schema
from mempattern.trace.blobs import BlobError, Unpacker, most_bytes
from mempattern.trace.versions import Versions

_MOST_STEPS = 100_000_000
"""In SQLite's own steps: ten times what the longest query of a sound trace takes."""
_DEFENCES = ("trusted_schema = off", "query_only = on", "cell_size_check = on", "mmap_size = 0")
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: schema.MOST_TEXT,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: schema.MOST_TEXT,
    sqlite3.SQLITE_LIMIT_COLUMN: 64,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 64,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 8,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 8,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 64,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
"""Of what our own tables and questions need (https://www.sqlite.org/security.html)."""
_BITMAPS = (
    "select one.interval, one.region, one.dirty_pages, "
    "case when length(one.words) <= ? then one.words end "
    "from bitmap as found cross join bitmap as one on one.rowid = found.rowid "
    "where found.interval = ? order by found.region"
)
"""Of an interval, as the index has it; what each says of itself is read from the table."""
_ROW_BYTES = 64
"""Of a row of `bitmap` beside its blob."""


class TraceReader(Closing):
    """Read a trace file: its facts, `len()`, and its intervals by position, from 0.

    `regions` are those of the first interval, `meta` the facts about the recording by name,
    `dropped` the number of intervals that are missing since the disk was too slow for them. A
    file that is still written shows the intervals it had when it was opened. One thread at a time.

    Raises `TraceError` if the file is no trace or is damaged, `OSError` if it does not open.
    """

    regions: tuple[Region, ...]
    provenance: Provenance
    """Of the source that was recorded."""
    meta: dict[str, str]
    dropped: int

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Path = Path(path)
        """Of the file, as given."""
        self._unpacker = Unpacker()
        try:
            self._database = _open(self.path)
        except sqlite3.Error as error:
            raise TraceError(f"{self.path} cannot be read: {error}") from None
        try:
            self._read_head()
        except (sqlite3.Error, ValueError, TypeError, RecursionError) as error:
            self._database.close()
            raise TraceError(
                f"{self.path} is not a mempattern trace: {error}; name one that "
                "mempattern-trace -o has written"
            ) from None

    def _read_head(self) -> None:
        run = self._database.execute
        run("begin")  # as of one moment: who writes it may commit between two questions
        if run("pragma application_id").fetchone()[0] != schema.APPLICATION_ID:
            is_empty = self.path.stat().st_size == 0
            raise ValueError("it is empty" if is_empty else "it is another kind of SQLite file")
        self._check_schema()
        self._database.set_progress_handler(lambda: 1, _MOST_STEPS)
        self.provenance = self._read_source()
        self._versions = Versions(
            run("select id, first_interval, name, n_pages, page_bytes, address from region "
                "order by id")
        )  # fmt: skip
        self.regions, _ = self._versions.at(0)
        last = run("select max(id) from interval").fetchone()[0]
        if last is not None and whole_number(last, 0, schema.MOST_INTERVALS) is None:
            raise ValueError(f"its last interval has the number {last!r}")
        self._n_intervals = 0 if last is None else last + 1
        self.dropped = self._read_dropped()
        self._longest_blob = max(most_bytes(region) for region in self._versions.newest())
        longest = max(self._longest_blob + _ROW_BYTES, schema.MOST_TEXT)
        self._database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, min(longest, (1 << 31) - 1))
        run("commit")
        self._closed = False

    def _check_schema(self) -> None:
        """Nothing but our own SQL may be in the file: no view or trigger of somebody else's."""
        expected = schema.expected_objects()
        found = schema.objects(self._database)
        if not {kind for kind in expected if kind[1] == "meta"} <= found:
            raise ValueError("it has not the tables of a trace")
        rows = self._database.execute("select key, value from meta").fetchmany(
            schema.MOST_FACTS + 1
        )
        if len(rows) > schema.MOST_FACTS:
            raise ValueError(f"its meta has more than {schema.MOST_FACTS} rows")
        self.meta = dict(rows)
        schema.check_text("its meta", *self.meta, *self.meta.values())
        found_schema = self.meta.get("schema")
        if found_schema != schema.SCHEMA:
            raise ValueError(
                f"its schema is {found_schema}; this version of mempattern reads {schema.SCHEMA}"
            )
        if found != expected:
            raise ValueError("it has not the tables of a trace, or has more than them")

    def _read_source(self) -> Provenance:
        rows = self._database.execute(
            "select name, blind_spots, granularity from source"
        ).fetchmany(2)
        if len(rows) != 1:
            raise ValueError("it has no source, or more than one")
        ((name, blind_spots, granularity),) = rows
        blind = json.loads(blind_spots)
        if not is_list(blind):
            raise ValueError("its blind spots are no list")
        schema.check_text("its source", name, granularity, *blind)
        return Provenance(name, tuple(map(str, blind)), granularity)

    def _read_dropped(self) -> int:
        total, last = 0, -1
        for before, dropped in self._database.execute(
            "select before_interval, intervals from dropped order by before_interval"
        ):
            if (
                whole_number(before, last + 1, self._n_intervals) is None
                or whole_number(dropped, 1, 1 << 62) is None
            ):
                raise ValueError(f"it says that {dropped!r} were dropped before {before!r}")
            total, last = total + dropped, before
        return total

    def __len__(self) -> int:
        return self._n_intervals

    def __getitem__(self, index: SupportsIndex) -> Interval:
        """The interval at that position. Its `index` is the source's: dropped ones count there.

        Raises `IndexError`, `TraceError` for a damaged one, `ClosedError`.
        """
        if self._closed:
            raise ClosedError(f"{self.path}: this trace is closed; open it again")
        position = whole_number(index, 0, self._n_intervals - 1)
        if position is None:
            raise IndexError(f"no interval {index!r}; the trace has {self._n_intervals}")
        try:
            return self._read(position)
        except (sqlite3.Error, BlobError, ValueError, TypeError) as error:
            raise TraceError(f"{self.path}: interval {index} is damaged: {error}") from None

    def __iter__(self) -> Iterator[Interval]:
        return (self[position] for position in range(self._n_intervals))

    def _read(self, position: int) -> Interval:
        rows = self._database.execute(
            "select id, number, start_ns, end_ns, collect_ns, lost_pages, dirty_pages "
            "from interval where id in (?, ?) order by id",
            (position - 1, position),
        ).fetchmany(2)
        if not rows or rows[-1][0] != position:
            raise ValueError("it is missing")
        _, number, start_ns, end_ns, collect_ns, lost_pages, dirty_pages = rows[-1]
        if len(rows) == 2 and not (rows[0][1] < number and rows[0][3] <= start_ns):
            raise ValueError("it begins before the one before it ends, or has not a higher number")
        regions, by_row = self._versions.at(position)
        bitmaps, n_dirty = self._read_bitmaps(position, by_row)
        if n_dirty != dirty_pages:
            raise ValueError(f"it has {n_dirty} dirty pages, and says {dirty_pages!r}")
        return Interval(
            number, start_ns, end_ns, regions, bitmaps, self.provenance, lost_pages, collect_ns
        )

    def _read_bitmaps(
        self, position: int, by_row: dict[int, Region]
    ) -> tuple[dict[str, Bitmap], int]:
        """By name, and the dirty pages of all. The index may be damaged, and lead to others."""
        one_each = f"it has not one bitmap for each of its {len(by_row)} regions"
        rows = self._database.execute(_BITMAPS, (self._longest_blob, position))
        bitmaps: dict[str, Bitmap] = {}
        n_dirty = 0
        for row, region in by_row.items():
            found = rows.fetchone()
            if found is None:
                raise ValueError(one_each)
            interval_is, region_is, dirty, blob = found
            if (interval_is, region_is) != (position, row):
                raise ValueError(f"region {region.name!r} has the bitmap of another")
            if not isinstance(blob, bytes) or len(blob) > most_bytes(region):
                raise ValueError(
                    f"region {region.name!r} has no blob for a bitmap, or one larger than any of "
                    f"{region.n_pages} pages can be"
                )
            bitmaps[region.name], n_pages = self._unpacker.unpack_counted(blob, region)
            if n_pages != dirty:
                raise ValueError(
                    f"region {region.name!r} has not the {dirty!r} dirty pages it says"
                )
            n_dirty += dirty
        if rows.fetchone() is not None:
            raise ValueError(one_each)
        return bitmaps, n_dirty

    def close(self) -> None:
        """May be called twice."""
        self._closed = True
        self._unpacker.close()
        self._database.close()


def _open(path: Path) -> sqlite3.Connection:
    """For reading, with SQLite's own defences up.

    The file itself must not be opened and closed here: that would take away the locks of a writer
    in the same process (fcntl(2)).
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise TraceError(f"{path} is not a mempattern trace: it is no regular file; name "
                         "one that mempattern-trace -o has written")  # fmt: skip
    if not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    file = path.resolve()
    # Alone it is nobody's but ours, and can be read where SQLite may not write a -shm file.
    alone = not any(Path(f"{file}{suffix}").exists() for suffix in ("-wal", "-journal"))
    database = sqlite3.connect(
        f"{file.as_uri()}?mode=ro{'&immutable=1' if alone else ''}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )
    for limit, most in _LIMITS.items():
        database.setlimit(limit, most)
    if sys.version_info >= (3, 12):
        database.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)
        database.setconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_TRIGGER, False)
    # Pages that all lead to the same pages would keep it busy for ever.
    database.set_progress_handler(lambda: 1, schema.HEAD_STEPS)
    for defence in _DEFENCES:
        database.execute(f"pragma {defence}")
    return database
