"""A trace file that is damaged or made to do harm: read, or refused with a `TraceError`.

The fuzzer's bytes are what is done to a small recorded trace: bytes overwritten anywhere in the
file or in the log of one that is still written, values and bitmaps put into its tables.
"""

import sqlite3
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["mempattern"]):
    from mempattern.errors import TraceError
    from mempattern.trace import TraceReader
    from mempattern.trace.blobs import zstd

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
    "with recursive n(i) as (select 1 union all select i + 1 from n limit 300) "
    "insert into meta select i, i from n",
)

CHECKED = zstd.CompressionParameter.checksum_flag
SIZED = zstd.CompressionParameter.content_size_flag

SCRATCH = Path(tempfile.mkdtemp())  # run.py takes care of it
FILE = SCRATCH / "fuzzed.mpt"
LOG = SCRATCH / "fuzzed.mpt-wal"
WRITTEN, LOGGED, WHOLE = seeds.small_trace(SCRATCH / "seed.mpt")


def bitmap(data: atheris.FuzzedDataProvider) -> bytes:
    """A frame of words, nearly as the writer makes them."""
    words = data.ConsumeBytes(data.ConsumeIntInRange(0, 40))
    sizes = (seeds.RAM_BYTES, seeds.MORE_BYTES, len(words))
    words = words.ljust(sizes[data.ConsumeIntInRange(0, 2)], b"\0")
    options: dict[int, int] = {
        CHECKED: int(data.ConsumeIntInRange(0, 7) > 0),
        SIZED: int(data.ConsumeIntInRange(0, 7) > 0),
    }
    return zstd.compress(words, options=options)


def put_into_tables(data: atheris.FuzzedDataProvider, content: bytes) -> bytes:
    database = sqlite3.connect(":memory:")
    database.deserialize(content)
    for _ in range(data.ConsumeIntInRange(1, 4)):
        table, column = COLUMNS[data.ConsumeIntInRange(0, len(COLUMNS) - 1)]
        row = data.ConsumeIntInRange(0, 6)
        kind = data.ConsumeIntInRange(0, 5)
        value: object
        if kind == 0:
            value = NUMBERS[data.ConsumeIntInRange(0, len(NUMBERS) - 1)]
        elif kind == 1:
            value = TEXTS[data.ConsumeIntInRange(0, len(TEXTS) - 1)]
        elif kind == 2:
            value = data.ConsumeIntInRange(-2, 600)
        elif kind == 3:
            value = data.ConsumeBytes(data.ConsumeIntInRange(0, 200))
        elif kind == 4:
            value, table, column = bitmap(data), "bitmap", "words"
        with suppress(sqlite3.Error, ValueError):
            if kind == 5:
                statement = SQL[data.ConsumeIntInRange(0, len(SQL) - 1)]
                database.execute(statement.format(table=table, column=column, row=row))
            else:
                database.execute(f"update {table} set {column} = ? where rowid = ?", (value, row))
    database.commit()
    changed = database.serialize()
    database.close()
    return changed


def overwrite(data: atheris.FuzzedDataProvider, before: bytes) -> bytes:
    content = bytearray(before)
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
    return bytes(content)


def one_input(given: bytes) -> None:
    data = atheris.FuzzedDataProvider(given)
    how = data.ConsumeIntInRange(0, 7)
    if how == 7:
        FILE.write_bytes(WRITTEN)
        LOG.write_bytes(overwrite(data, LOGGED))
    else:
        LOG.unlink(missing_ok=True)
        content = put_into_tables(data, WHOLE) if how < 5 else WHOLE
        FILE.write_bytes(overwrite(data, content) if how > 3 else content)
    step = 1 if data.ConsumeBool() else -1
    with suppress(TraceError), TraceReader(FILE) as trace:
        for position in range(min(len(trace), 5))[::step]:
            with suppress(TraceError):
                interval = trace[position]
                for region in interval.regions:
                    assert len(interval.bitmaps[region.name]) == region.n_words


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
