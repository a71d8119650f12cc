"""The trace file: what is written comes back to the bit."""

import dataclasses
import os
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from traces import (
    HERE,
    RAM,
    REGIONS,
    VGA,
    assert_same,
    change,
    grow,
    make_intervals,
    query,
    read_all,
    write,
)

import mempattern
from mempattern import GroupStats, Interval, Provenance, Region, errors
from mempattern.errors import TraceError
from mempattern.sources import Replay, Source
from mempattern.trace import TraceReader, TraceWriter, commits


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a trace?mode=memory#%41.mpt"


@pytest.fixture
def recorded(path):
    return write(path, make_intervals(4))


def test_facts_that_are_known_later(path):
    with TraceWriter(path, REGIONS, HERE, {"begun": "1"}) as writer:
        intervals = make_intervals(2)
        writer.write(intervals[0])
        writer.add_facts({"half": "2"})
        writer.write(intervals[1])
        writer.add_facts({"end": "x" * 65_000})
        for bad in ({"half": "3"}, {"schema": "9"}, {"a": "\n"}, {"b": "x" * 65_536}, {"c": 3}):
            with pytest.raises(TraceError):
                writer.add_facts(bad)
        with pytest.raises(TraceError, match="256 facts"):
            writer.add_facts({f"{n}": "" for n in range(250)})
    with TraceReader(path) as trace:
        assert len(trace) == 2
        assert {key: trace.meta[key] for key in ("begun", "half")} == {"begun": "1", "half": "2"}
        assert len(trace.meta["end"]) == 65_000
    with pytest.raises(errors.ClosedError):
        writer.add_facts({"late": "1"})


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


@given(n_intervals=st.integers(1, 12), seed=st.integers(0, 2**32))
def test_regions_that_come_and_grow_come_back(tmp_path_factory, n_intervals, seed):
    regions = (Region("stack", 100, 4096, 0x7FFF_FFFF_F000), Region("heap", 700))
    intervals = make_intervals(n_intervals, regions, seed, growth=grow)
    path = write(tmp_path_factory.mktemp("trace") / "t.mpt", intervals, regions)
    with TraceReader(path) as trace, Replay(path) as source:
        assert trace.regions == source.regions == intervals[0].regions
        for interval, expected in zip(trace, intervals, strict=True):
            assert_same(interval, expected)
        for position in np.random.default_rng(seed).permutation(n_intervals):
            assert_same(trace[position], intervals[position])
        for interval, expected in zip(source.intervals(), intervals, strict=True):
            assert_same(interval, expected)
            assert source.regions == expected.regions
    assert query(path, "select dirty_pages from interval order by id") == [
        (sum(len(interval.pages(region.name)) for region in interval.regions),)
        for interval in intervals
    ]
    assert query(path, "select region, dirty_pages from activity order by interval, region") == [
        (name, len(interval.pages(name)))
        for interval in intervals
        for name in sorted(region.name for region in interval.regions)
    ]


def test_regions_that_do_not_change_are_the_same_object(path):
    """So that a consumer sees at once that there is nothing to follow."""
    first = make_intervals(4)
    grown = (dataclasses.replace(RAM, n_pages=20_001), VGA)
    words = {"ram": np.zeros(313, np.uint64), VGA.name: np.zeros(2, np.uint64)}
    first[2:] = [dataclasses.replace(i, regions=grown, bitmaps=words) for i in first[2:]]
    with TraceReader(write(path, first)) as trace:
        zero, one, two, three = (interval.regions for interval in trace)
        assert zero is one is trace.regions
        assert two is three
        assert (zero, two) == (REGIONS, grown)


def test_the_views_say_what_the_intervals_hold(path):
    intervals = make_intervals(3)
    write(path, intervals)
    rows = query(path, "select * from timeline order by id")
    for position, (row, interval) in enumerate(zip(rows, intervals, strict=True)):
        in_region = {region: len(interval.pages(region.name)) for region in REGIONS}
        n_bytes = sum(n_pages * region.page_bytes for region, n_pages in in_region.items())
        assert row == (
            position,
            pytest.approx((interval.end_ns - intervals[0].start_ns) / 1e9),
            pytest.approx(interval.duration_s),
            sum(in_region.values()),
            pytest.approx(n_bytes / 2**20 / interval.duration_s),
            interval.lost_pages,
            pytest.approx(interval.collect_ns / 1e6),
            0,
        )


def test_the_planners_statistics_may_be_in_the_file(recorded):
    change(recorded, "analyze")
    assert len(read_all(recorded)) == 4


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


def test_a_replay_of_growing_regions_says_what_was_seen_live(path):
    regions = (Region("stack", 100, 4096, 0x7FFF_FFFF_F000), Region("heap", 700))
    live, replayed = (GroupStats(regions, 64) for _ in range(2))
    seen_live, seen = [], []
    with TraceWriter(path, regions, HERE) as trace:
        for interval in make_intervals(12, regions, growth=grow):
            live.follow(interval.regions)
            seen_live.append(live.update(interval))
            trace.write(interval)
    with Replay(path) as source:
        for interval in source.intervals():
            replayed.follow(source.regions)
            seen.append(replayed.update(interval))
    assert seen == seen_live
    for region in source.regions:
        ours, theirs = live.groups(region.name), replayed.groups(region.name)
        assert ours.dirty_total.tobytes() == theirs.dirty_total.tobytes()
        assert ours.write_rate.tobytes() == theirs.write_rate.tobytes()


def test_a_replay_in_parts(recorded):
    with Replay(recorded) as source:
        assert [i.index for i in source.intervals(count=0)] == []
        assert [i.index for i in source.intervals(count=2)] == [0, 1]
        assert source.collect().index == 2
        assert [i.index for i in source.intervals(period_s=60.0)] == [3]
        assert list(source.intervals()) == []
        with pytest.raises(EOFError, match="all its 4 intervals were replayed"):
            source.collect()


class Ending(Source):
    """A process that ends, say."""

    regions, provenance = REGIONS, HERE

    def __init__(self, intervals):
        self.left = list(intervals)

    def collect(self):
        if not self.left:
            raise EOFError
        return self.left.pop(0)

    def close(self):
        pass


def test_a_source_that_ends_ends_its_intervals():
    with Ending(make_intervals(3)) as source:
        assert [interval.index for interval in source.intervals(0.001)] == [0, 1, 2]
        assert list(source.intervals(0.001, 5)) == []


def test_the_meta_facts(path):
    write(path, [], meta={"host": "größer", "tool": "test"})
    with TraceReader(path) as trace:
        assert len(trace) == 0
        assert trace.meta["schema"] == "2"
        assert trace.meta["mempattern"] == mempattern.__version__
        assert trace.meta["hostname"] == os.uname().nodename
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
            while writer.written < number:
                time.sleep(0.001)
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
    with pytest.raises(TraceError, match=r"exists; name another .* --force \(force=True") as caught:
        TraceWriter(path, REGIONS, HERE)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"precious"


def test_force_replaces_a_file_and_what_lies_beside_it(path):
    for suffix in ("-wal", "-shm", "-journal", ""):
        path.with_name(path.name + suffix).write_bytes(b"stale" * 1000)
    intervals = make_intervals(2)
    write(path, intervals, force=True)
    for ours, expected in zip(read_all(path), intervals, strict=True):
        assert_same(ours, expected)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_stale_files_of_a_removed_trace_are_not_taken_for_ours(path):
    path.with_name(path.name + "-wal").write_bytes(b"stale" * 1000)
    assert len(read_all(write(path, make_intervals(2)))) == 2


def test_force_without_a_file_and_through_a_link(path):
    write(path, make_intervals(1), force=True)
    link = path.with_name("link.mpt")
    link.symlink_to(path)
    write(link, make_intervals(3), force=True)
    assert link.is_symlink()
    assert len(read_all(path)) == len(read_all(link)) == 3


def test_force_keeps_the_old_file_when_the_new_one_cannot_be_made(path):
    write(path, make_intervals(2))
    content = path.read_bytes()
    for options in ({"meta": {"a": "b" * 100_000}}, {"meta": {"schema": ""}}):
        with pytest.raises(TraceError):
            TraceWriter(path, REGIONS, HERE, force=True, **options)
    assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_force_does_not_replace_a_recording_that_goes_on(path):
    intervals = make_intervals(3)
    with TraceWriter(path, REGIONS, HERE) as trace:
        trace.write(intervals[0])
        with pytest.raises(TraceError, match="another recording or program has it open"):
            TraceWriter(path, REGIONS, HERE, force=True)
        trace.write(intervals[1])
    assert len(read_all(path)) == 2
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_force_does_not_replace_a_recording_before_its_first_interval(path):
    with TraceWriter(path, REGIONS, HERE) as trace:
        with pytest.raises(TraceError, match="another recording or program has it open"):
            TraceWriter(path, REGIONS, HERE, force=True)
        trace.write(make_intervals(1)[0])
    assert len(read_all(path)) == 1


def test_force_does_not_replace_a_directory(tmp_path):
    with pytest.raises(TraceError, match="no regular file"):
        TraceWriter(tmp_path, REGIONS, HERE, force=True)


def test_a_directory_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.t\.mpt"):
        TraceWriter(tmp_path / "nowhere" / "t.mpt", REGIONS, HERE)


def test_regions_that_make_no_sense_leave_no_file(path):
    with pytest.raises(errors.RegionError, match="named twice"):
        TraceWriter(path, (RAM, RAM), HERE)
    assert not path.exists()


HEAP = Region("heap", 1024, 4096, 1 << 30)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ((RAM,), "lack .'heap'."),
        ((HEAP, RAM), "must keep their order"),
        ((RAM, VGA, HEAP), "must keep their order"),
        ((RAM, HEAP, RAM), "named twice"),
        ((RAM, dataclasses.replace(HEAP, n_pages=1023)), "only grow"),
        ((RAM, dataclasses.replace(HEAP, address=2 << 30)), "only grow"),
        (
            (RAM, dataclasses.replace(HEAP, address=(1 << 30) - 4096, n_pages=2000)),
            "multiples of 512 pages",
        ),
        ((RAM, dataclasses.replace(HEAP, page_bytes=8192)), "keep its pages of 4096 bytes"),
    ],
)
def test_regions_that_do_not_follow_are_refused_and_the_rest_kept(path, others, message):
    first, second = make_intervals(2, (RAM, HEAP))
    words = {region.name: np.zeros(region.n_words, np.uint64) for region in others}
    other = dataclasses.replace(second, regions=others, bitmaps=words)
    with TraceWriter(path, (RAM, HEAP), HERE) as trace:
        trace.write(first)
        with pytest.raises(TraceError, match=f"interval 1 has other regions: .*{message}"):
            trace.write(other)
        trace.write(second)
    for ours, expected in zip(read_all(path), (first, second), strict=True):
        assert_same(ours, expected)


def test_more_pages_than_any_host_has_are_refused(path):
    huge = Region("ram", (1 << 36) - 65)
    with pytest.raises(errors.RegionError, match=r"2\*\*36"):
        TraceWriter(path, (huge, Region("vga", 66)), HERE)
    assert not path.exists()
    TraceWriter(path, (huge, Region("vga", 65)), HERE).close()
    with TraceReader(path) as trace:
        assert trace.regions[0] == huge


def test_regions_that_grow_more_often_than_a_trace_holds_end_it(path, monkeypatch):
    """Readably: the reader has the same limit."""
    monkeypatch.setattr(commits, "MOST_VERSIONS", 3)
    sizes = iter([Region("heap", 512 * n, address=1 << 30) for n in (1, 2, 3, 4, 5)])
    intervals = make_intervals(5, growth=lambda _regions, _rng: (next(sizes),))
    trace = TraceWriter(path, intervals[0].regions, HERE)
    for number, interval in enumerate(intervals[:3]):
        trace.write(interval)
        while trace.written <= number:
            time.sleep(0.001)
    trace.write(intervals[3])
    with pytest.raises(TraceError, match="more than 3 times; its first 3 intervals are safe"):
        trace.close()
    assert len(read_all(path)) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"index": 0}, "interval 0 starts at .* in order"),
        ({"start_ns": 2**62}, "interval 1 starts at .* ends at .* in order"),
        ({"provenance": Provenance("another")}, "of another source"),
    ],
)
def test_what_is_not_the_sources_next_interval_is_refused(path, changes, message):
    first, second = make_intervals(2)
    with TraceWriter(path, REGIONS, HERE) as trace:
        trace.write(first)
        with pytest.raises(TraceError, match=message):
            trace.write(dataclasses.replace(second, **changes))
        trace.write(second)
    assert len(read_all(path)) == 2


def test_a_source_that_would_garble_a_terminal_is_refused(path):
    with pytest.raises(TraceError, match="a source must be printable text"):
        TraceWriter(path, REGIONS, Provenance("kvm", ("\x1b[2J",)))
    assert not path.exists()


def test_a_bitmap_of_the_wrong_size_is_refused_before_it_is_on_disk(path):
    def write_short():
        words = {"ram": np.zeros(5, np.uint64), VGA.name: np.zeros(2, np.uint64)}
        trace.write(Interval(0, 0, 1, REGIONS, words, HERE))

    with TraceWriter(path, REGIONS, HERE) as trace:
        with pytest.raises(errors.MempatternError, match="'ram'"):
            write_short()
        trace.write(make_intervals(1)[0])
    assert_same(read_all(path)[0], make_intervals(1)[0])


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"schema": "9"}, "meta takes names other than schema, mempattern"),
        ({"a": None}, "meta must be printable text, not None"),
        ({3: "a"}, "meta must be printable text, not 3"),
        ({"a": "\x1b[2J"}, r"meta must be printable text, not '\\x1b"),
        ({"a": "b" * 100_000}, "too big"),
        ({str(number): "" for number in range(300)}, "up to 256"),
    ],
)
def test_meta_that_is_ours_or_no_text_leaves_no_file(path, meta, message):
    with pytest.raises(TraceError, match=message):
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
