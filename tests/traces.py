"""What the tests of the trace file share: intervals to write, and how to write, read, compare."""

import dataclasses
import sqlite3

import numpy as np
from model import KINDS, make_pages, to_words

from mempattern import Interval, Provenance, Region
from mempattern.trace import TraceReader, TraceWriter

RAM, VGA = Region("ram", 20_000), Region('vga "0"; drop table interval', 65, 65536)
REGIONS = (RAM, VGA)
HERE = Provenance("kvm-dirty-log", ("Writes by devices.", "Größe, 大きさ"), "a huge page")


def make_intervals(n_intervals, regions=REGIONS, seed=0, kinds=KINDS, growth=None):
    """Of the same regions throughout, or as `growth(regions, rng)` has them from one to the next.

    Bits past a region's end are set as well: they are kept, and never counted.
    """
    rng = np.random.default_rng(seed)
    intervals, now, index = [], 2**62, -1
    for _ in range(n_intervals):
        if growth is not None:
            regions = growth(regions, rng)
        words = {r.name: to_words(make_pages(rng.choice(kinds), r.n_pages, rng)) for r in regions}
        if rng.random() < 0.5:
            for r in regions:
                words[r.name][-1] |= np.uint64(-(1 << (r.n_pages - 1) % 64) & (1 << 64) - 1)
        start, now = now + int(rng.integers(0, 2)), now + int(rng.integers(2, 10**10))
        index += int(rng.integers(1, 4)) if growth is not None else 1
        lost, cost = int(rng.integers(0, 2**40)), int(rng.integers(0, 10**6))
        intervals.append(Interval(index, start, now, regions, words, HERE, lost, cost))
    return intervals


def grow(regions, rng):
    """Each region may grow, at either end; a new one may come."""
    grown = []
    for region in regions:
        in_front = 512 * int(rng.integers(0, 3)) if rng.random() < 0.3 else 0
        in_front = min(in_front, region.address // region.page_bytes // 512 * 512)
        behind = int(rng.integers(0, 200)) if rng.random() < 0.3 else 0
        grown.append(
            dataclasses.replace(
                region,
                address=region.address - in_front * region.page_bytes,
                n_pages=region.n_pages + in_front + behind,
            )
        )
    if rng.random() < 0.3:
        address = int(rng.integers(0, 2**52)) * 4096  # beyond what a signed number holds too
        grown.append(Region(f"new {len(grown)}", int(rng.integers(1, 300)), 4096, address))
    return tuple(grown)


def write(path, intervals, regions=REGIONS, **options):
    with TraceWriter(path, regions, HERE, **options) as trace:
        for interval in intervals:
            trace.write(interval)
    assert (trace.written, trace.dropped) == (len(intervals), 0)
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


def change(path, *statements, values=()):
    """As another tool would change the file."""
    database = sqlite3.connect(path)
    database.execute("pragma synchronous = off")
    for statement in statements:
        database.execute(statement, values)
    database.commit()
    database.close()


def query(path, statement):
    database = sqlite3.connect(path)
    rows = database.execute(statement).fetchall()
    database.close()
    return rows
