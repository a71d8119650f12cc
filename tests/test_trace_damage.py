"""Damaged and hostile trace files: an error that says what is wrong, in bounded memory."""

import os
import random
import re
import sqlite3
import struct
import subprocess
import sys

import pytest
from traces import VGA, assert_same, change, make_intervals, read_all, write

from mempattern import Region
from mempattern.errors import TraceError
from mempattern.sources import Replay
from mempattern.trace import TraceReader

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a trace?mode=memory#%41.mpt"


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return write(tmp_path_factory.mktemp("trace") / "t.mpt", make_intervals(4)).read_bytes()


@pytest.fixture
def recorded(path, content):
    path.write_bytes(content)
    return path


def assert_refused(path, message=None):
    """By the reader and by the replay, with the path in the message."""
    for open_it in (read_all, lambda path: list(Replay(path).intervals())):
        with pytest.raises(TraceError, match=message) as caught:
            open_it(path)
        assert str(path) in str(caught.value)


def test_a_missing_file(path):
    for open_it in (TraceReader, Replay):
        with pytest.raises(FileNotFoundError) as caught:
            open_it(path)
        assert str(path) in str(caught.value)
    assert not path.exists()


def test_a_file_that_cannot_be_read_from():
    with pytest.raises(TraceError, match="/proc/self/mem cannot be read: disk I/O error"):
        TraceReader("/proc/self/mem")


def test_a_directory(tmp_path):
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        TraceReader(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 4096, b"not a trace", b"SQLite format 3\0", os.urandom(10_000)]
)
def test_what_is_no_trace(path, content):
    path.write_bytes(content)
    assert_refused(path, "is not a mempattern trace")
    assert path.read_bytes() == content


def test_another_kind_of_sqlite_file(path):
    change(path, "create table meta (key, value)")
    assert_refused(path, "is not a mempattern trace: it is another kind of SQLite file")


@pytest.mark.parametrize("schema", ["3", "0", "", "one"])
def test_another_schema(recorded, schema):
    change(recorded, f"update meta set value = '{schema}' where key = 'schema'")
    assert_refused(recorded, f"its schema is {schema}; this version of mempattern reads 2")


def test_a_file_of_schema_1(path):
    change(
        path,
        f"pragma application_id = {0x4D50_4154}",
        "create table meta (key text primary key, value text not null)",
        "create table region (id integer primary key, name text not null unique)",
        "insert into meta values ('schema', '1')",
    )
    assert_refused(path, "its schema is 1; this version of mempattern reads 2")


ENDLESS = "with recursive n(i) as (select 1 union all select i + 1 from n) select i from n"


@pytest.mark.parametrize(
    "statement",
    [
        "create table more (a)",
        "create index more on interval (number)",
        "create trigger more after insert on meta begin delete from meta; end",
        f"create view more as {ENDLESS}",
        f"drop view timeline; create view timeline as {ENDLESS}",
        f"drop table source; create view source as {ENDLESS}",
        "drop table dropped; create table dropped (before_interval, intervals)",
        "drop table dropped; create table dropped (before_interval integer primary key, intervals "
        "integer as (zeroblob(1000000000)))",
    ],
)
def test_sql_that_is_not_ours_is_refused(recorded, statement):
    change(recorded, *statement.split("; ") if "trigger" not in statement else [statement])
    assert_refused(recorded, "it has not the tables of a trace, or has more")


@pytest.mark.parametrize(
    "statement",
    [
        "delete from meta",
        "delete from region",
        "delete from source",
        "drop table interval",
        "update region set n_pages = 0",
        "update region set n_pages = -1",
        "update region set n_pages = 'many'",
        "update region set n_pages = 9223372036854775807",
        "update region set page_bytes = 3",
        "update region set name = '' where id = 0",
        "update region set name = x'00ff' where id = 0",
        "update source set blind_spots = '['",
        "update source set blind_spots = '5'",
        "update source set name = cast(x'ff' as text)",
        "update source set blind_spots = printf('%.*c', 60000, '[')",
        "update source set blind_spots = '\"text\"'",
        "update source set blind_spots = '[5]'",
        "update source set granularity = char(27)",
        "insert into source values ('another', '[]', 'a page')",
        "update meta set value = zeroblob(8) where key = 'kernel'",
        "update meta set value = char(27) where key = 'kernel'",
        "update meta set value = printf('%.*c', 200000, 'a') where key = 'kernel'",
        "insert into meta select 'more ' || value, '' from generate_series(1, 300)",
        "update region set n_pages = (1 << 36) + 1",
        "update region set n_pages = 1 << 52",
        "update region set n_pages = (1 << 35) + 1",
        "update region set address = 4097",
        "update region set address = 'high'",
        "update region set address = '%c'",
        "update region set address = '%d'",
        "update region set address = x'2563'",
        "update region set address = 1e300",
        "update region set first_interval = -1 where id = 0",
        "update region set first_interval = 9 where id = 0",
        "update region set first_interval = 'soon' where id = 1",
        "update region set id = 7 where id = 1",
        "update interval set id = (1 << 40) + 1 where id = 3",
        "insert into dropped values (9, 1)",
        "insert into dropped values (-1, 1)",
        "insert into dropped values (1, 0)",
        "insert into dropped values (1, 'some')",
    ],
)
def test_a_head_that_makes_no_sense(recorded, statement):
    series = "(with recursive n(value) as (select 1 union all select value + 1 from n limit 300)"
    change(recorded, statement.replace("generate_series(1, 300)", f"{series} select value from n)"))
    assert_refused(recorded, "is not a mempattern trace")


@pytest.mark.parametrize(
    "statement",
    [
        "delete from bitmap where interval = 2 and region = 1",
        "insert into bitmap select 2, 2, dirty_pages, words from bitmap where interval = 1 limit 1",
        "update bitmap set region = 5 where interval = 2 and region = 0",
        "update bitmap set dirty_pages = dirty_pages + 1 where interval = 2",
        "update bitmap set dirty_pages = 'many' where interval = 2",
        "update bitmap set words = printf('%.*c', 3000000, 'a') where interval = 2",
        "update bitmap set words = zeroblob(100000) where interval = 2",
        "update bitmap set words = zeroblob(3000) where interval = 2 and region = 1",
        "update interval set dirty_pages = dirty_pages + 1 where id = 2",
        "update interval set number = 1 where id = 2",
        "update interval set number = 'two' where id = 2",
        "update interval set start_ns = start_ns - 100000000000 where id = 2",
        "delete from interval where id = 2",
        "update interval set end_ns = start_ns where id = 2",
        "update interval set end_ns = 'late' where id = 2",
        "update interval set id = 7 where id = 2",
        "update bitmap set words = 'text' where interval = 2",
        "update bitmap set words = 5 where interval = 2",
        "update bitmap set words = x'' where interval = 2",
        "update bitmap set words = x'28b52ffd' where interval = 2",
        "update bitmap set words = randomblob(500) where interval = 2",
        "update bitmap set words = substr(words, 1, length(words) - 1) where interval = 2",
        "update bitmap set words = (select words from bitmap where interval = 2 and region = 0) "
        "where interval = 2 and region = 1",
    ],
)
def test_a_damaged_interval_is_named_and_those_before_it_are_read(recorded, statement):
    intervals = make_intervals(4)
    change(recorded, statement)
    with TraceReader(recorded) as trace:
        for index in (0, 1):
            assert_same(trace[index], intervals[index])
        with pytest.raises(TraceError, match="interval 2 is damaged") as caught:
            trace[2]
    assert str(recorded) in str(caught.value)


def test_a_blob_is_bounded_by_its_own_region(recorded):
    """One that a larger region's may be is not inflated for a small one."""
    statement = "update bitmap set words = zeroblob(2000) where interval = 2 and region = 1"
    change(recorded, statement)
    assert_refused(recorded, "no blob for a bitmap, or one larger than any of 65 pages can be")


WITH_CHECKSUM = {zstd.CompressionParameter.checksum_flag: 1}


def test_a_bitmap_without_a_checksum_is_refused(recorded):
    """It could be damaged without a sign."""
    blob = zstd.compress(bytes(8 * 313))
    change(recorded, "update bitmap set words = ? where interval = 1 and region = 0", values=[blob])
    assert_refused(recorded, "interval 1 is damaged.*'ram'.*without a checksum")


@pytest.mark.parametrize(
    "change_it",
    [
        "update interval set start_ns = 'soon' where id = 1",
        "update interval set end_ns = 9e999 where id = 1",
        "update interval set collect_ns = x'00' where id = 1",
        "update interval set lost_pages = -5 where id = 1",
    ],
)
def test_numbers_of_an_interval_that_are_none(recorded, change_it):
    change(recorded, change_it)
    assert_refused(recorded, "interval 1 is damaged")


def test_sqlites_own_defences_are_up(recorded):
    with TraceReader(recorded) as trace:
        database = trace._database
        for pragma, value in (
            ("trusted_schema", 0), ("query_only", 1), ("cell_size_check", 1), ("mmap_size", 0),
        ):  # fmt: skip
            assert database.execute(f"pragma {pragma}").fetchall() in ([(value,)], [])
        with pytest.raises(sqlite3.OperationalError, match="too many attached databases"):
            database.execute("attach ':memory:' as another")
        with pytest.raises(sqlite3.OperationalError, match=r"readonly|not authorized"):
            database.execute("delete from meta")
        with pytest.raises(sqlite3.OperationalError):
            database.execute("select " + "(" * 100 + "1" + ")" * 100 + "+1" * 100)
        assert database.getlimit(sqlite3.SQLITE_LIMIT_LENGTH) < 1 << 20
        if sys.version_info >= (3, 12):
            assert database.getconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE)


def test_a_view_in_place_of_a_table_never_runs(recorded):
    change(recorded, "drop table meta", f"create view meta (key) as {ENDLESS}")
    assert_refused(recorded, "has not the tables of a trace")


def test_pages_that_all_lead_to_the_same_pages(recorded):
    """Nine levels of 300 children each, all the same, over the one page of definitions."""
    content = bytearray(recorded.read_bytes())
    n_pages, first = len(content) // 4096, bytearray(content[:4096])
    (n_cells,) = struct.unpack(">H", first[103:105])
    head_bytes = 8 + 2 * n_cells
    leaf = first[100 : 100 + head_bytes] + first[head_bytes:]
    content += leaf
    for level in range(9):
        child = struct.pack(">I", n_pages + 1 + level)
        root = level == 8  # of all tables, which is page 1, after the header of the file
        page = bytearray(first[: 100 if root else 0])
        page += struct.pack(">BHHHB", 5, 0, 300, 4096 - 300 * 5, 0) + child
        page += b"".join(struct.pack(">H", 4096 - 5 * number) for number in range(300, 0, -1))
        page = page.ljust(4096 - 300 * 5, b"\0") + 300 * (child + b"\1")
        content[:4096] = page if root else content[:4096]
        content += page if not root else b""
    content[28:32] = struct.pack(">I", len(content) // 4096)
    content[92:96] = content[24:28]
    recorded.write_bytes(content)
    assert_refused(recorded, "is not a mempattern trace")


GROWN = "insert into region select 2, 2, name, {}, page_bytes, {} from region where id = 0"


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (GROWN.format("n_pages - 1", "address"), "'ram' may only grow"),
        (GROWN.format("n_pages", "address + 4096"), "'ram' may only grow"),
        (GROWN.format("1 << 36", "address"), "pages in all"),
        (GROWN.format("n_pages", "address").replace("page_bytes,", "8192,"), "keep its pages"),
        (GROWN.format("n_pages", "address").replace("2, 2", "2, 0"), "from interval 0 on"),
        (GROWN.format("n_pages", "address").replace("2, 2", "2, -1"), "from interval -1 on"),
        (GROWN.format("n_pages", "address").replace("name", "''"), "non-empty string"),
    ],
)
def test_regions_that_shrink_overlap_or_do_not_follow(recorded, statement, message):
    change(recorded, statement)
    assert_refused(recorded, message)


def test_a_region_that_grew_counts_once_among_all_pages(recorded):
    """Both rows together would be more pages than any host has."""
    change(recorded, "update region set n_pages = 1 << 35 where id = 0")
    change(recorded, GROWN.format("(1 << 35) + 1", "address"))
    with TraceReader(recorded) as trace:
        assert trace.regions[0].n_pages == 1 << 35


def test_a_damaged_index_does_not_give_one_interval_the_bitmap_of_another(path):
    write(path, make_intervals(3, (VGA,), kinds=["zero"]), (VGA,))
    database = sqlite3.connect(path)
    database.execute("pragma writable_schema = on")
    root = "select rootpage from sqlite_master where name = 'sqlite_autoindex_bitmap_1'"
    ((page,),) = database.execute(root).fetchall()
    ((page_bytes,),) = database.execute("pragma page_size").fetchall()
    database.close()
    content = bytearray(path.read_bytes())
    # The last cell of the index, (interval 2, region 0) -> row 3, comes first on the page: header
    # of 4 bytes with the types integer, 0, integer; then 2 and 3.
    place = content.index(bytes([4, 1, 8, 1, 2, 3]), (page - 1) * page_bytes, page * page_bytes)
    content[place + 5] = 1
    path.write_bytes(content)
    assert_refused(path, "interval 2 is damaged: region .* has the bitmap of another")


def test_a_fifo_is_refused_and_not_waited_for(path):
    os.mkfifo(path)
    assert_refused(path, "no regular file")


@pytest.mark.parametrize("n_words", [0, 1, 312, 314, 10_000])
def test_a_bitmap_of_another_size(recorded, n_words):
    blob = zstd.compress(bytes(8 * n_words), options=WITH_CHECKSUM)
    change(recorded, "update bitmap set words = ? where interval = 1 and region = 0", values=[blob])
    assert_refused(recorded, "interval 1 is damaged.*'ram'.* 2504 ")


_READ_A_BOMB = """
import resource, sys
from mempattern.errors import TraceError
from mempattern.trace import TraceReader
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
try:
    TraceReader(sys.argv[1])[0]
except TraceError as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, "KiB more:", error)
"""


def bomb(n_mebibytes, size=-1):
    """Zeros as zstd has them, with or without their size in the frame."""
    options = WITH_CHECKSUM | {zstd.CompressionParameter.window_log: 27}
    deflater = zstd.ZstdCompressor(options=options)
    if size >= 0:
        deflater.set_pledged_input_size(size)
    parts = [deflater.compress(bytes(1 << 20)) for _ in range(n_mebibytes)]
    return b"".join(parts) + deflater.flush()


def put(blob):
    return f"update bitmap set words = x'{blob.hex()}' where interval = 0 and region = 0"


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (put(bomb(128)), "interval 0 is damaged: region 'ram' has no blob .* or one larger"),
        (put(bomb(40)), "interval 0 is damaged: region 'ram' has not the 2504 bytes"),
        (put(bomb(40, 40 << 20)), "interval 0 is damaged: region 'ram' has not the 2504 bytes"),
        (
            "update bitmap set words = zeroblob(64 << 20) where interval = 0",
            "interval 0 is damaged: region 'ram' has",
        ),
        (
            "update bitmap set words = cast(zeroblob(64 << 20) as text) where interval = 0",
            "interval 0 is damaged: ",
        ),
        ("update region set n_pages = 1 << 52 where id = 0", "not a mempattern trace: .*2\\*\\*36"),
        ("update region set n_pages = (1 << 36) - 65 where id = 0", "interval 0 is damaged: "),
        (
            "update meta set value = zeroblob(64 << 20) where key = 'kernel'",
            "not a mempattern trace: .* too big",
        ),
        ("update source set name = zeroblob(64 << 20)", "not a mempattern trace: .* too big"),
    ],
    ids=range(9),
)
def test_what_claims_or_inflates_to_more_takes_no_more_memory(recorded, statement, message):
    change(recorded, statement)
    done = subprocess.run(
        [sys.executable, "-c", _READ_A_BOMB, recorded], capture_output=True, text=True, check=True
    )
    assert re.search(message, done.stdout), done
    assert int(done.stdout.split()[0]) < 16 << 10


def test_no_flipped_bit_of_a_bitmap_goes_unnoticed(path):
    """Dirty pages at random, which a compressor stores as they are: any bit may be a page's."""
    region = (Region("ram", 4000),)
    write(path, make_intervals(1, region, kinds=["dense"]), region)
    database = sqlite3.connect(path)
    ((blob,),) = database.execute("select words from bitmap").fetchall()
    expected = read_all(path)[0].bitmaps["ram"].tobytes()
    unnoticed = []
    for place in random.Random(1).sample(range(len(blob) * 8), 100):
        flipped = bytearray(blob)
        flipped[place // 8] ^= 1 << place % 8
        database.execute("update bitmap set words = ?", (bytes(flipped),))
        database.commit()
        try:
            if read_all(path)[0].bitmaps["ram"].tobytes() != expected:
                unnoticed.append(place)
        except TraceError:
            pass
    database.close()
    assert not unnoticed


@pytest.mark.parametrize("part", [0.0, 0.01, 0.05, 0.3, 0.6, 0.9])
def test_a_truncated_file(path, part):
    content = write(path, make_intervals(10, kinds=["dense"])).read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    assert_refused(path)


def test_a_file_that_lacks_its_last_bytes(path):
    """What SQLite then reads as zeros is noticed, or was of no importance."""
    intervals = make_intervals(3, kinds=["dense"])
    content = write(path, intervals).read_bytes()
    refused = 0
    for n_bytes in (1, 2, 3, 10, 50, 100, 500, 1000, 2000, 4000, 4095):
        path.write_bytes(content[:-n_bytes])
        try:
            found = read_all(path)
        except TraceError:
            refused += 1
        else:
            for interval, expected in zip(found, intervals, strict=True):
                assert_same(interval, expected)
    assert refused > 0


def test_bytes_overwritten_anywhere(path):
    """Never another error than ours, never a crash, and no bitmap but those that were written."""
    intervals = make_intervals(3, (VGA,))
    content = write(path, intervals, (VGA,)).read_bytes()
    written = {interval.bitmaps[VGA.name].tobytes() for interval in intervals}
    choose = random.Random(2)
    messages = []
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(choose.choice([1, 1, 8])):
            damaged[choose.randrange(len(content) if choose.random() < 0.7 else 200)] ^= (
                choose.randrange(1, 256)
            )
        path.write_bytes(damaged)
        try:
            found = [words for interval in read_all(path) for words in interval.bitmaps.values()]
        except TraceError as error:
            messages.append(str(error))
        else:
            assert {words.tobytes() for words in found} <= written
    assert len(messages) >= 10
    assert all(str(path) in message for message in messages)
