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
from mempattern import GroupStats, Interval, Region, errors
from mempattern.errors import TraceError
from mempattern.sources import Replay, Source
from mempattern.trace import TraceReader, TraceWriter


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
