"""A trace file that is damaged or made to do harm: read, or refused with a `TraceError`.

The fuzzer's bytes are what is done to a small recorded trace: bytes overwritten anywhere in the
file, and values put into its tables.
"""

import os
import sqlite3
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["mempattern"]):
    from mempattern.errors import TraceError
    from mempattern.trace import TraceReader

import seeds

NUMBERS = (-1, 0, 1, 2, 63, 64, 1 << 31, 1 << 36, 1 << 40, (1 << 63) - 1, -(1 << 63), 1e300, 0.5)
TEXTS = (
    None,
    "",
    "x",
    "\0",
    "\x1b[2J",
    b"",
    b"\xff\xfe",
    "[]",
    "{}",
    "[" * 40000,
    "\ud7ff",
    "9" * 99,
)
COLUMNS = [
    (table, column)
    for table, columns in {
        "meta": "key value",
        "source": "name blind_spots granularity",
        "region": "id first_interval name n_pages page_bytes address",
        "interval": "id number start_ns end_ns collect_ns lost_pages dirty_pages",
        "bitmap": "interval region dirty_pages words",
        "dropped": "before_interval intervals",
    }.items()
    for column in columns.split()
]
SQL = (
    "insert into {table} select * from {table} limit 2",
    "delete from {table} where rowid = {row}",
    "drop table {table}",
    "create view more as select * from {table}",
    "create trigger more after insert on {table} begin delete from {table}; end",
    "alter table {table} add column more as (zeroblob(1000000000))",
    "alter table {table} drop column {column}",
    "insert into dropped values ({row}, {row})",
)

SCRATCH = Path(tempfile.mkdtemp(prefix="mempattern-fuzz-", dir="/dev/shm"))
FILE = SCRATCH / "fuzzed.mpt"
seeds.small_trace(SCRATCH / "seed.mpt")
SEED = (SCRATCH / "seed.mpt").read_bytes()


def put_into_tables(data: atheris.FuzzedDataProvider) -> None:
    with suppress(sqlite3.Error, ValueError):
        database = sqlite3.connect(FILE)
        try:
            for _ in range(data.ConsumeIntInRange(1, 4)):
                table, column = COLUMNS[data.ConsumeIntInRange(0, len(COLUMNS) - 1)]
                row = data.ConsumeIntInRange(0, 6)
                kind = data.ConsumeIntInRange(0, 3)
                if kind == 3:
                    statement = SQL[data.ConsumeIntInRange(0, len(SQL) - 1)]
                    with suppress(sqlite3.Error):
                        database.execute(statement.format(table=table, column=column, row=row))
                    continue
                value: object = data.ConsumeBytes(data.ConsumeIntInRange(0, 200))
                if kind == 0:
                    value = NUMBERS[data.ConsumeIntInRange(0, len(NUMBERS) - 1)]
                elif kind == 1:
                    value = TEXTS[data.ConsumeIntInRange(0, len(TEXTS) - 1)]
                with suppress(sqlite3.Error):
                    database.execute(
                        f"update {table} set {column} = ? where rowid = ?", (value, row)
                    )
            database.commit()
        finally:
            database.close()


def overwrite(data: atheris.FuzzedDataProvider) -> None:
    content = bytearray(FILE.read_bytes())
    for _ in range(data.ConsumeIntInRange(1, 8)):
        if not content:
            break
        # Most of it in the first hundred bytes of a page, where its cells are told.
        at = data.ConsumeIntInRange(0, len(content) - 1)
        if data.ConsumeBool():
            at = at // 4096 * 4096 + at % 100
        some = data.ConsumeBytes(data.ConsumeIntInRange(1, 8))
        content[at : at + len(some)] = some
        if data.ConsumeIntInRange(0, 30) == 0:
            del content[at:]
    FILE.write_bytes(content)


def one_input(given: bytes) -> None:
    data = atheris.FuzzedDataProvider(given)
    FILE.write_bytes(SEED)
    how = data.ConsumeIntInRange(0, 2)
    if how != 1:
        put_into_tables(data)
    if how != 0:
        overwrite(data)
    with suppress(TraceError), TraceReader(FILE) as trace:
        for position in range(min(len(trace), 5)):
            with suppress(TraceError):
                interval = trace[position]
                for region in interval.regions:
                    assert len(interval.bitmaps[region.name]) == region.n_words


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    try:
        atheris.Fuzz()
    finally:
        os.system(f"rm -rf {SCRATCH}")
