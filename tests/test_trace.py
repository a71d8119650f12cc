"""The trace file: what is written comes back to the bit, and no damage goes unnoticed."""

import dataclasses
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model import KINDS, make_pages, to_words

from mempattern import GroupStats, Interval, Provenance, Region, errors
from mempattern.errors import TraceError
from mempattern.sources import Replay
from mempattern.trace import TraceReader, TraceWriter

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

RAM, VGA = Region("ram", 20_000), Region('vga "0"; drop table interval', 65, 65536)
REGIONS = (RAM, VGA)
HERE = Provenance("kvm-dirty-log", ("Writes by devices.", "Größe, 大きさ"))


def make_intervals(n_intervals, regions=REGIONS, seed=0, kinds=KINDS):
    rng = np.random.default_rng(seed)
    intervals, now = [], 2**62
    for index in range(n_intervals):
        words = {r.name: to_words(make_pages(rng.choice(kinds), r.n_pages, rng)) for r in regions}
        start, now = now, now + int(rng.integers(1, 10**10))
        lost, cost = int(rng.integers(0, 2**40)), int(rng.integers(0, 10**6))
        intervals.append(Interval(index, start, now, regions, words, HERE, lost, cost))
    return intervals


def write(path, intervals, regions=REGIONS, **options):
    with TraceWriter(path, regions, HERE, **options) as trace:
        for interval in intervals:
            trace.write(interval)
    return path


def assert_same(interval, expected):
    for field in dataclasses.fields(Interval):
        if field.name == "bitmaps":
            continue
        assert getattr(interval, field.name) == getattr(expected, field.name), field.name
    assert list(interval.bitmaps) == list(expected.bitmaps)
    for name, words in expected.bitmaps.items():
        assert interval.bitmaps[name].dtype == np.uint64
        assert interval.bitmaps[name].tobytes() == words.tobytes()


def read_all(path):
    with TraceReader(path) as trace:
        return list(trace)


def change(path, statement, *values):
    """As another tool would change the file."""
    database = sqlite3.connect(path)
    database.execute(statement, values)
    database.commit()
    database.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a trace?mode=memory#%41.mpt"


@pytest.fixture
def recorded(path):
    return write(path, make_intervals(4))


# ---- round trip --------------------------------------------------------------------------------


@given(
    sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=3),
    n_intervals=st.integers(0, 6),
    seed=st.integers(0, 2**32),
)
def test_what_is_written_comes_back(tmp_path_factory, sizes, n_intervals, seed):
    regions = tuple(Region(f"slot {number}", size) for number, size in enumerate(sizes))
    intervals = make_intervals(n_intervals, regions, seed)
    path = write(tmp_path_factory.mktemp("trace") / "t.mpt", intervals, regions)
    with TraceReader(path) as trace:
        assert trace.regions == regions
        assert trace.provenance == HERE
        assert len(trace) == n_intervals
        for interval, expected in zip(trace, intervals, strict=True):
            assert_same(interval, expected)


def test_intervals_by_index(recorded):
    intervals = make_intervals(4)
    with TraceReader(recorded) as trace:
        for index in (3, 0, 2, 2, 1):
            assert_same(trace[index], intervals[index])
        for index in (4, -1, 2**70):
            with pytest.raises(IndexError, match=rf"no interval {index}; the trace has 4"):
                trace[index]


def test_bitmaps_from_a_trace_are_read_only_and_stay(recorded):
    with TraceReader(recorded) as trace:
        words = trace[0].bitmaps["ram"]
    np.testing.assert_array_equal(words, make_intervals(1)[0].bitmaps["ram"])
    with pytest.raises(ValueError, match="read-only"):
        words[0] = 1


def test_a_replay_says_what_was_seen_live(path):
    live, replayed = (GroupStats(REGIONS, 64, half_life_s=0.7) for _ in range(2))
    seen_live = []
    with TraceWriter(path, REGIONS, HERE) as trace:
        for interval in make_intervals(12, kinds=("hot spot", "sparse", "clustered", "zero")):
            seen_live.append(live.update(interval))
            trace.write(interval)
    with Replay(path) as source:
        assert source.regions == REGIONS
        assert source.provenance == HERE
        assert len(source) == 12
        assert [replayed.update(interval) for interval in source.intervals()] == seen_live
    for region in REGIONS:
        ours, theirs = live.groups(region.name), replayed.groups(region.name)
        for field in ("dirty", "redirtied", "fresh", "touched", "active_intervals", "streak"):
            assert getattr(ours, field).tobytes() == getattr(theirs, field).tobytes()
        for field in ("last_active", "dirty_total", "write_rate"):
            assert getattr(ours, field).tobytes() == getattr(theirs, field).tobytes()
        assert ours.dirty_total.sum() > 0


def test_a_replay_in_parts(recorded):
    with Replay(recorded) as source:
        assert [i.index for i in source.intervals(count=0)] == []
        assert [i.index for i in source.intervals(count=2)] == [0, 1]
        assert source.collect().index == 2
        assert [i.index for i in source.intervals(period_s=60.0)] == [3]
        assert list(source.intervals()) == []
        with pytest.raises(EOFError, match="no interval after 3"):
            source.collect()


def test_the_meta_facts(path):
    write(path, [], meta={"host": "größer", "tool": "test"})
    with TraceReader(path) as trace:
        assert len(trace) == 0
        assert trace.meta["schema"] == "1"
        assert trace.meta["kernel"] == os.uname().release
        assert trace.meta["machine"] == os.uname().machine
        assert (trace.meta["host"], trace.meta["tool"]) == ("größer", "test")


def test_a_closed_file_is_one_file(recorded):
    assert [file.name for file in recorded.parent.iterdir()] == [recorded.name]
    assert recorded.read_bytes()[68:72] == b"MPAT"  # application_id, for file(1)


def test_a_trace_can_be_read_while_it_is_written(path):
    intervals = make_intervals(3)
    with TraceWriter(path, REGIONS, HERE) as writer:
        for number, interval in enumerate(intervals, 1):
            writer.write(interval)
            for ours, expected in zip(read_all(path), intervals[:number], strict=True):
                assert_same(ours, expected)


def test_numpy_numbers_come_back_as_numbers(path):
    regions = (Region("ram", np.int64(64), np.int64(4096)),)
    words = {"ram": np.array([7], np.uint64)}
    times = np.array([10, 20], np.int64)
    interval = Interval(0, times[0], times[1], regions, words, HERE, np.uint64(3), np.int64(4))
    (back,) = read_all(write(path, [interval], regions))
    assert back.regions == (Region("ram", 64),)
    assert (back.start_ns, back.end_ns, back.lost_pages, back.collect_ns) == (10, 20, 3, 4)


# ---- refused when written ----------------------------------------------------------------------


def test_an_existing_file_is_left_alone(path):
    path.write_bytes(b"precious")
    with pytest.raises(TraceError, match=r"exists; name another file") as caught:
        TraceWriter(path, REGIONS, HERE)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"precious"


def test_a_directory_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.t\.mpt"):
        TraceWriter(tmp_path / "nowhere" / "t.mpt", REGIONS, HERE)


def test_regions_that_make_no_sense_leave_no_file(path):
    with pytest.raises(errors.RegionError, match="named twice"):
        TraceWriter(path, (RAM, RAM), HERE)
    assert not path.exists()


def test_an_interval_of_other_regions_is_refused_and_the_rest_kept(path):
    other = make_intervals(1, (RAM,))[0]
    with TraceWriter(path, REGIONS, HERE) as trace:
        trace.write(make_intervals(1)[0])
        with pytest.raises(TraceError, match="other regions"):
            trace.write(other)
    assert len(read_all(path)) == 1


def test_a_bitmap_of_the_wrong_size_is_refused_before_it_is_on_disk(path):
    def write_short():
        words = {"ram": np.zeros(5, np.uint64), VGA.name: np.zeros(2, np.uint64)}
        trace.write(Interval(0, 0, 1, REGIONS, words, HERE))

    with TraceWriter(path, REGIONS, HERE) as trace:
        with pytest.raises(errors.MempatternError, match="'ram'"):
            write_short()
        trace.write(make_intervals(1)[0])
    assert_same(read_all(path)[0], make_intervals(1)[0])


@pytest.mark.parametrize("meta", [{"schema": "9"}, {"a": None}, {3: "a"}])
def test_meta_that_is_ours_or_no_string_leaves_no_file(path, meta):
    with pytest.raises(TraceError, match="meta takes strings"):
        TraceWriter(path, REGIONS, HERE, meta)
    assert not path.exists()


def test_an_index_may_be_numpys(recorded):
    with TraceReader(recorded) as trace:
        assert trace[np.int64(1)].index == 1
        for index in (-1, len(trace), "0", None):
            with pytest.raises(IndexError, match="no interval"):
                trace[index]


def test_closing_twice(path):
    trace = TraceWriter(path, REGIONS, HERE)
    trace.close()
    trace.close()
    reader = TraceReader(path)
    reader.close()
    reader.close()
    source = Replay(path)
    source.close()
    source.close()


def test_use_after_close_says_so(recorded, path):
    trace = TraceWriter(path.with_name("b.mpt"), REGIONS, HERE)
    trace.close()
    reader, source = TraceReader(recorded), Replay(recorded)
    reader.close()
    source.close()
    for use in (lambda: trace.write(make_intervals(1)[0]), lambda: reader[0], source.collect):
        with pytest.raises(errors.ClosedError, match="closed"):
            use()


# ---- refused when read -------------------------------------------------------------------------


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


@pytest.mark.parametrize("schema", ["2", "0", "", "one"])
def test_another_schema(recorded, schema):
    change(recorded, "update meta set value = ? where key = 'schema'", schema)
    assert_refused(recorded, f"not a mempattern trace: its schema is {schema}; this version reads")


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
        "update source set blind_spots = printf('%.*c', 200000, '[')",
    ],
)
def test_a_head_that_makes_no_sense(recorded, statement):
    change(recorded, statement)
    assert_refused(recorded, "is not a mempattern trace")


@pytest.mark.parametrize(
    "statement",
    [
        "delete from bitmap where interval = 2 and region = 1",
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


WITH_CHECKSUM = {zstd.CompressionParameter.checksum_flag: 1}


def test_a_bitmap_without_a_checksum_is_refused(recorded):
    """It could be damaged without a sign."""
    blob = zstd.compress(bytes(8 * 313))
    change(recorded, "update bitmap set words = ? where interval = 1 and region = 0", blob)
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


def test_a_view_in_place_of_a_table_never_runs(recorded):
    change(recorded, "drop table meta")
    endless = "with recursive n(i) as (select 1 union all select i + 1 from n)"
    change(recorded, f"create view meta as {endless} select i as key, i as value from n")
    assert_refused(recorded, "has not the tables of a trace")


def test_a_fifo_is_refused_and_not_waited_for(path):
    os.mkfifo(path)
    assert_refused(path, "no regular file")


@pytest.mark.parametrize("n_words", [0, 1, 312, 314, 10_000])
def test_a_bitmap_of_another_size(recorded, n_words):
    blob = zstd.compress(bytes(8 * n_words), options=WITH_CHECKSUM)
    change(recorded, "update bitmap set words = ? where interval = 1 and region = 0", blob)
    assert_refused(recorded, "interval 1 is damaged.*'ram'.* 2504 ")


_READ_A_BOMB = """
import resource, sys
from mempattern.errors import TraceError
from mempattern.trace import TraceReader
trace = TraceReader(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    trace[0]
except TraceError as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, "KiB more:", error)
"""


def test_a_blob_that_inflates_to_more_takes_no_more_memory(recorded):
    deflater = zstd.ZstdCompressor(options=WITH_CHECKSUM)
    bomb = b"".join(deflater.compress(bytes(1 << 24)) for _ in range(32)) + deflater.flush()
    assert len(bomb) < 1 << 20  # of 512 MiB
    change(recorded, "update bitmap set words = ? where interval = 0 and region = 0", bomb)
    done = subprocess.run(
        [sys.executable, "-c", _READ_A_BOMB, recorded], capture_output=True, text=True, check=True
    )
    assert "interval 0 is damaged: region 'ram'" in done.stdout
    assert int(done.stdout.split()[0]) < 32 << 10


def test_no_flipped_bit_of_a_bitmap_goes_unnoticed(path):
    """Dirty pages at random, which a compressor stores as they are: any bit may be a page's."""
    region = (Region("ram", 4000),)
    write(path, make_intervals(1, region, kinds=["dense"]), region)
    database = sqlite3.connect(path)
    ((blob,),) = database.execute("select words from bitmap").fetchall()
    expected = read_all(path)[0].bitmaps["ram"].tobytes()
    unnoticed = []
    for place in random.Random(1).sample(range(len(blob) * 8), 200):
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


# ---- killed ------------------------------------------------------------------------------------

_WRITE_FOREVER = """
import sys
sys.path.insert(0, sys.argv[2])
from test_trace import HERE, LARGE, TraceWriter, large_intervals
intervals = large_intervals()
trace = TraceWriter(sys.argv[1], LARGE, HERE)
for number in range(10**6):
    trace.write(intervals[number % len(intervals)])
    print(number, flush=True)
"""
LARGE = (Region("ram", 1 << 22), Region("vga", 1 << 20))  # half a megabyte, so that writing lasts


def large_intervals():
    return make_intervals(3, LARGE, seed=5, kinds=["dense"])


@pytest.mark.parametrize("after", [0, 1, 2, 5, 9, 14])
def test_a_killed_writer_leaves_what_it_committed(path, after):
    """It hardly does anything but write, so it is killed in the middle of an interval."""
    with subprocess.Popen(
        [sys.executable, "-c", _WRITE_FOREVER, path, os.path.dirname(__file__)],
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        committed = 0
        for line in writer.stdout:
            committed = int(line) + 1
            if committed > after:
                time.sleep(0.001 * after)
                writer.send_signal(signal.SIGKILL)
                break
        committed = max([committed, *(int(line) + 1 for line in writer.stdout)])
    assert writer.returncode == -signal.SIGKILL
    found, expected = read_all(path), large_intervals()
    assert committed <= len(found) <= committed + 1
    for number, interval in enumerate(found):
        assert_same(interval, dataclasses.replace(expected[number % 3], index=number))
