"""A trace without end takes no more memory than one of some minutes: what Python holds."""

import gc
import time
import tracemalloc

import numpy as np
import pytest

from mempattern import Interval, Provenance, Region
from mempattern.analysis import reservoir
from mempattern.analysis.reservoir import Reservoir
from mempattern.analysis.watch import Watch
from mempattern.sources.layout import writable_memory
from mempattern.sources.maps import MapsParser
from mempattern.trace import TraceWriter

HERE = Provenance("test")
FLAT_BYTES = 40 << 10  # sqlite3 keeps up to 200 weak references to cursors that are gone
N_WARM, N_MORE = 600, 3000  # more than the detector's series remembers


def held(step, n_warm=N_WARM, n_more=N_MORE):
    """Bytes that Python holds after the steps of which it held nothing new when they began."""
    for number in range(n_warm):
        step(number)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(n_warm, n_warm + n_more):
            step(number)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def intervals():
    """Of a region that is written to at random, as often as one asks."""
    region = Region("ram", 5000, address=1 << 30)
    words = np.random.default_rng(1).integers(0, 2**64, (16, region.n_words), dtype=np.uint64)

    def interval(number):
        return Interval(number, number * 1000, number * 1000 + 900, (region,),
                        {"ram": words[number % 16]}, HERE, collect_ns=number)  # fmt: skip

    return (region,), interval


def test_what_is_shown_of_a_trace(monkeypatch):
    monkeypatch.setattr(reservoir, "MOST", 64)
    regions, interval = intervals()
    watch = Watch(regions, HERE)
    assert held(lambda number: watch.observe(interval(number))) < FLAT_BYTES
    summary = watch.summary()
    assert summary.n_intervals == N_WARM + N_MORE
    assert summary.duration_s == pytest.approx(summary.n_intervals * 900e-9)
    assert summary.collect_max_s == pytest.approx((summary.n_intervals - 1) / 1e9)
    assert summary.collect_median_s == pytest.approx(summary.collect_max_s / 2, rel=0.3)
    observed = summary.findings.observed
    assert len(observed) == summary.n_intervals
    assert observed.dirtied_pages == summary.total.dirty_pages
    assert observed.usual_s == pytest.approx(900e-9)


def test_a_trace_file(tmp_path):
    regions, interval = intervals()
    with TraceWriter(tmp_path / "long.mpt", regions, HERE) as writer:

        def write(number):
            writer.write(interval(number))
            n_wait = 0 if number + 1 in (N_WARM, N_WARM + N_MORE) else 20
            while writer.written <= number - n_wait:
                time.sleep(0.001)

        assert held(write) < FLAT_BYTES


def test_mappings_that_come_and_go():
    """At ever the same addresses, as the kernel gives them."""
    parser, layout = MapsParser(dict), writable_memory()
    lines = [f"{0x7F0000000000 + (n << 22):x}-{0x7F0000100000 + (n << 22):x} rw-p 0 00:00 0 \n"
             for n in range(12)]  # fmt: skip

    def place(number):
        here = [line for n, line in enumerate(lines) if (number >> n % 5) & 1]
        regions, placed = layout.place(parser.parse("".join(here)))
        assert len(regions) <= 1
        assert len(placed) == len(here)

    assert held(place) < FLAT_BYTES


def test_a_reservoir_has_all_rows_while_they_are_few(monkeypatch):
    monkeypatch.setattr(reservoir, "MOST", 10)
    some = Reservoir(2)
    assert some.columns().shape == (2, 0)
    for number in range(10):
        some.put(number, -number)
        assert some.columns().tolist() == [[*range(number + 1)], [-n for n in range(number + 1)]]


def test_a_reservoir_has_a_fair_sample_of_many(monkeypatch):
    """Of ten equal parts of the rows, each is a tenth of the sample: to five standard errors."""
    monkeypatch.setattr(reservoir, "MOST", 1000)
    some = Reservoir(1)
    for number in range(20_000):
        some.put(number)
    (kept,) = some.columns()
    assert some.n_rows == 20_000
    assert len(set(kept)) == 1000
    parts = np.bincount((kept // 2000).astype(int), minlength=10)
    assert np.abs(parts - 100).max() < 5 * np.sqrt(90)
