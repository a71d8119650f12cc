"""What a trace file holds, schema 2: its tables, its limits, and the facts in its head."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from functools import cache

from mempattern.errors import TraceError
from mempattern.interval import Provenance
from mempattern.regions import Region

SCHEMA = "2"
APPLICATION_ID = 0x4D50_4154  # "MPAT", so that file(1) and we know our own

MOST_TEXT = 1 << 16
"""Bytes of a row of the head: a name, a fact, the blind spots."""
MOST_FACTS = 256
MOST_VERSIONS = 1 << 20
"""Rows of `region`: one at each of ten intervals a second is more than a day of growth."""
MOST_INTERVALS = 1 << 40
HEAD_STEPS = 100_000
"""In SQLite's own steps: enough to read the tables' definitions, and a thousand times more."""

# Each schema has this same table, so that any version can tell which one it was given.
META = "create table meta (key text primary key, value text not null);"
TABLES = f"""
{META}
create table source (name text not null, blind_spots text not null, granularity text not null);
create table region (
    id integer primary key, first_interval integer not null, name text not null,
    n_pages integer not null, page_bytes integer not null, address integer not null);
create table interval (
    id integer primary key, number integer not null, start_ns integer not null,
    end_ns integer not null, collect_ns integer not null, lost_pages integer not null,
    dirty_pages integer not null);
create table bitmap (
    interval integer not null references interval, region integer not null references region,
    dirty_pages integer not null, words blob not null, unique (interval, region));
create table dropped (before_interval integer primary key, intervals integer not null);
create view activity as
    select interval, name as region, bitmap.dirty_pages, bitmap.dirty_pages * page_bytes as
        dirty_bytes, n_pages, page_bytes, address
    from bitmap join region on region.id = bitmap.region;
create view timeline as
    select id, (end_ns - (select start_ns from interval where id = 0)) / 1e9 as t_s,
        (end_ns - start_ns) / 1e9 as duration_s, dirty_pages,
        (select sum(dirty_bytes) from activity where interval = interval.id) / 1048576.0
            / ((end_ns - start_ns) / 1e9) as dirty_mib_per_s,
        lost_pages, collect_ns / 1e6 as collect_ms,
        coalesce((select intervals from dropped where before_interval = id), 0) as dropped_before
    from interval;
"""


def make_head(
    database: sqlite3.Connection,
    regions: tuple[Region, ...],
    provenance: Provenance,
    facts: Mapping[str, str],
) -> None:
    """All that is known before the first interval, in the transaction under way."""
    database.execute(f"pragma application_id = {APPLICATION_ID}")
    for statement in TABLES.split(";"):
        database.execute(statement)
    database.executemany("insert into meta values (?, ?)", facts.items())
    blind_spots = json.dumps(provenance.blind_spots, ensure_ascii=False)
    source = (provenance.source, blind_spots, provenance.granularity)
    database.execute("insert into source values (?, ?, ?)", source)
    for number, region in enumerate(regions):
        put_region(database, number, 0, region)


def put_region(
    database: sqlite3.Connection, number: int, first_interval: int, region: Region
) -> None:
    """The region as it is from that interval on, as row `number`."""
    address = region.address
    if address >= 1 << 63:  # SQLite's integers are signed: the same 64 bits
        address -= 1 << 64
    database.execute(
        "insert or replace into region values (?, ?, ?, ?, ?, ?)",
        (number, first_interval, region.name, region.n_pages, region.page_bytes, address),
    )


def objects(database: sqlite3.Connection) -> set[tuple[str, str, str | None]]:
    """Type, name and SQL of all there is in the file but the query planner's statistics."""
    return set(
        database.execute(
            "select type, name, sql from sqlite_master where name not glob 'sqlite_stat[14]'"
        )
    )


@cache
def expected_objects() -> frozenset[tuple[str, str, str | None]]:
    """What `objects` is of a sound trace."""
    database = sqlite3.connect(":memory:")
    database.executescript(TABLES)
    found = frozenset(objects(database))
    database.close()
    return found


def check_text(what: str, *texts: object) -> None:
    """Raises `TraceError` for what would not show, or show something else, on a terminal."""
    for text in texts:
        if not isinstance(text, str) or not text.isprintable():
            raise TraceError(f"{what} must be printable text, not {text!r:.100}")
