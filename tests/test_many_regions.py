"""What thousands of regions cost, of which few are written to: counted, not timed."""

import sys

import numpy as np
import pytest

from mempattern import Interval, Provenance, Region
from mempattern.analysis.watch import Watch
from mempattern.trace import TraceReader, TraceWriter, blobs

FEW, MANY = 100, 500
PROVENANCE = Provenance("test")
N_DIRTY = 3


def regions_of(n):
    return tuple(Region(f"r{i}", 600, address=i << 30) for i in range(n))


def interval(regions, index):
    """The same few regions are dirty, however many there are."""
    bitmaps = {region.name: np.zeros(region.n_words, np.uint64) for region in regions}
    for number in range(N_DIRTY):
        bitmaps[f"r{number}"][index % 8] = 1 + index
    start_ns = index * 10**8
    return Interval(index, start_ns, start_ns + 10**8, regions, bitmaps, PROVENANCE)


def calls(function, *arguments):
    """Of Python functions and of C's by Python; and what it returns."""
    counted = 0

    def count(_frame, event, _argument):
        nonlocal counted
        counted += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        result = function(*arguments)
    finally:
        sys.setprofile(None)
    return counted, result


def calls_a_region(count):
    return (count(MANY) - count(FEW)) / (MANY - FEW)


def observed(n):
    """Calls of a watch that has seen the regions before, and knows what is written."""
    watch = Watch(regions_of(n), PROVENANCE)
    for index in range(3):
        watch.observe(interval(watch.regions, index))
    counted, row = calls(watch.observe, interval(watch.regions, 3))
    assert len(row.active) == N_DIRTY
    return counted


def followed(n):
    """The same of an interval with which one more region comes."""
    watch = Watch(regions_of(n), PROVENANCE)
    for index in range(3):
        watch.observe(interval(watch.regions, index))
    return calls(watch.observe, interval(regions_of(n + 1), 3))[0]


def test_observing_a_clean_region_takes_few_calls():
    assert calls_a_region(observed) < 20


def test_following_a_new_region_takes_few_calls_for_each_old_one():
    assert calls_a_region(followed) < 60


@pytest.fixture
def recorded(tmp_path):
    def record(n):
        path = tmp_path / f"{n}.mpt"
        regions = regions_of(n)
        with TraceWriter(path, regions, PROVENANCE) as writer:
            for index in range(3):
                writer.write(interval(regions, index))
        return path

    return record


def test_reading_a_clean_region_takes_few_calls(recorded):
    def read(n):
        with TraceReader(recorded(n)) as trace:
            _ = trace[0]
            return calls(trace.__getitem__, 1)[0]

    assert calls_a_region(read) < 20


def test_an_interval_is_read_by_the_same_statements_however_many_regions(recorded):
    def read(n):
        statements = []
        with TraceReader(recorded(n)) as trace:
            trace._database.set_trace_callback(statements.append)
            _ = trace[1]
        return len(statements)

    assert read(FEW) == read(MANY) <= 2


def test_clean_bitmaps_are_compressed_and_inflated_once(recorded, monkeypatch):
    done = []
    pack, unpack = blobs.Packer.pack, blobs.Unpacker.unpack
    monkeypatch.setattr(blobs.Packer, "pack", lambda *a: done.append("pack") or pack(*a))
    monkeypatch.setattr(blobs.Unpacker, "unpack", lambda *a: done.append("unpack") or unpack(*a))
    with TraceReader(recorded(FEW)) as trace:
        for index, read in enumerate(trace):
            expected = interval(trace.regions, index).bitmaps
            assert all(np.array_equal(read.bitmaps[name], expected[name]) for name in expected)
    assert done.count("pack") == done.count("unpack") == 3 * N_DIRTY + 1
