"""What a trace file refuses to take or to replace: nothing that was there is lost."""

import dataclasses
import time

import numpy as np
import pytest
from traces import (
    HERE,
    RAM,
    REGIONS,
    VGA,
    assert_same,
    make_intervals,
    read_all,
    write,
)

from mempattern import Interval, Provenance, Region, errors
from mempattern.errors import TraceError
from mempattern.sources import Replay
from mempattern.trace import TraceReader, TraceWriter, commits


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a trace?mode=memory#%41.mpt"


@pytest.fixture
def recorded(path):
    return write(path, make_intervals(4))


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


def test_a_link_that_leads_to_itself_is_no_file(path):
    path.symlink_to(path.name)
    for force in (False, True):
        with pytest.raises(FileExistsError):
            write(path, make_intervals(1), force=force)
    assert path.is_symlink()


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
