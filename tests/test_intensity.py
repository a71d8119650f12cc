"""Whether a guest is memory intensive, told from D(t): held to sums done by hand and to replays."""

import json

import numpy as np
import pytest
from effort import examples
from hypothesis import given
from hypothesis import strategies as st
from recordings import hot, idle, intervals, record, square_wave, sweep, uniform

from mempattern import DistinctPages, Region, errors
from mempattern.curve import DirtyCurve
from mempattern.migration.forecast import forecast
from mempattern.migration.intensity import intensity
from mempattern.migration.observed import Observed
from mempattern.migration.zeros import META, count_zeros

PAGES = 4000
PAGE_S = 4104 / 8e6  # at 8 MB/s: 2 s for all of them
LIMIT_S = 0.3
WINDOWS_S = 0.1 * 2.0 ** np.arange(9)


def always(n_hot, n_pages=PAGES, page_bytes=4096):
    """So many pages are written in every window, however short the measured ones are."""
    return DirtyCurve(WINDOWS_S, np.full(9, float(n_hot)), 0, 500 // 2 ** np.arange(9), n_pages,
                      page_bytes)  # fmt: skip


def watched(dirty_pages, n=500, n_pages=PAGES, duration_s=0.1, **known):
    numbers = {"touched_pages": dirty_pages, "lost_pages": 0, "n_lossy": 0, "unseen_s": 0.0}
    return Observed(
        np.full(n, duration_s), np.full(n, float(dirty_pages)), n, n * duration_s, n * dirty_pages,
        n_pages=n_pages, page_bytes=4096, **(numbers | known),
    )  # fmt: skip


def judge(curve, observed, bandwidth_Bps=8e6, limit_s=LIMIT_S, **options):
    return intensity(curve, observed, bandwidth_Bps, limit_s, **options)


# ---- sums done by hand -------------------------------------------------------------------------


def test_an_idle_guest_is_sent_once():
    found = judge(always(0), watched(0))
    assert found.memory_intensive is False
    assert found.doubt is found.least_limit_s is None
    assert found.outlook.total_s.low <= PAGES * PAGE_S <= found.outlook.total_s.high
    assert found.outlook.sent_bytes.middle == pytest.approx(PAGES * 4104, rel=0.01)
    assert found.answer == "not memory intensive"
    assert "stock pre-copy ends, in " in found.sentence


def test_pages_that_hold_only_zeros_are_hardly_sent():
    found = judge(always(0), watched(0), zero_pages=3000)
    assert found.outlook.total_s.low <= 1000 * PAGE_S <= found.outlook.total_s.high
    assert "3000 pages taken to hold only zeros" in found.assumption
    assert "no page taken to hold only zeros" in judge(always(0), watched(0)).assumption


def test_pages_that_are_always_dirty_must_fit_the_limit():
    """Whatever the length of the pass, they are what remains: here for 0.513 s."""
    found = judge(always(1000), watched(1000))
    assert found.memory_intensive is True
    assert found.outlook is found.doubt is None
    assert found.least_limit_s.high == pytest.approx(1000 * PAGE_S, rel=0.05)
    assert "does not end; it would with a downtime limit of" in found.sentence
    assert judge(always(1000), watched(1000), limit_s=0.6).memory_intensive is False


@examples(25)
@given(
    n_hot=st.integers(1, 3000),
    bandwidth_Bps=st.floats(1e6, 1e9),
    limit_s=st.floats(0.2, 2.0),
)
def test_it_is_never_wrong_of_pages_that_are_always_dirty(n_hot, bandwidth_Bps, limit_s):
    found = judge(always(n_hot), watched(n_hot), bandwidth_Bps, limit_s)
    share = n_hot * 4104 / bandwidth_Bps / limit_s  # of the limit, to send them
    if share > 1.1:
        assert found.memory_intensive is not False
    if share < 0.9:
        assert found.memory_intensive is not True
    assert (found.memory_intensive is None) == (found.doubt is not None)
    assert (found.memory_intensive is False) == (found.outlook is not None)
    assert (found.memory_intensive is True) == (found.least_limit_s is not None)
    if found.least_limit_s is not None:
        assert found.least_limit_s.high >= limit_s


# ---- held to the very pages --------------------------------------------------------------------

WORKLOADS = {
    "idle": idle(PAGES, 60),
    "hot, a little": hot(PAGES, 60, 100),
    "hot, at the limit": hot(PAGES, 60, 585),
    "hot, too much": hot(PAGES, 60, 1500),
    "sweep, slow": sweep(PAGES, 60, 20),
    "sweep, faster than the link": sweep(PAGES, 60, 300),
    "uniform, slow": uniform(PAGES, 60, 20),
    "uniform, fast": uniform(PAGES, 60, 400),
    "phased": square_wave(PAGES, 60, 10, 1500),
}


@pytest.mark.parametrize("name", WORKLOADS)
@pytest.mark.parametrize("bandwidth_Bps", [4e6, 8e6, 30e6])
def test_a_replay_of_the_pages_does_not_contradict_it(name, bandwidth_Bps):
    rows = WORKLOADS[name]
    counted = DistinctPages([Region("ram", PAGES)])
    for interval in intervals(rows):
        counted.update(interval)
    recording = record(rows)
    found = judge(counted.curve(), recording.observed, bandwidth_Bps)
    stock = forecast(recording, bandwidth_Bps, LIMIT_S, courses=6, patience_s=60.0).stock
    if found.memory_intensive is not None:
        assert stock.converges is not found.memory_intensive
    if name in ("idle", "hot, a little") or (name == "hot, too much" and bandwidth_Bps < 1e7):
        assert found.memory_intensive is name.endswith("too much")


# ---- better no answer than a wrong one ---------------------------------------------------------


@pytest.mark.parametrize(
    ("curve", "observed", "doubt"),
    [
        (always(0), watched(0, n=19), "observe for longer: 19 intervals show too little"),
        (always(1000), watched(1000, n=5), "observe for longer: 5 intervals show too little"),
        (always(0), watched(0, unseen_s=6.0), "observe again: 6 s between its intervals"),
        (always(1000), watched(1000, unseen_s=6.0), "observe again: 6 s between its intervals"),
        (always(0), watched(0, n_lossy=51), "observe again: 51 of 500 intervals lost pages"),
        (always(100), watched(100, lost_pages=600), "observe again: at least 600 dirty pages"),
        (always(500, 10**6), watched(400, 30, 10**6, touched_pages=90_000),
         "observe for longer: its first pass takes"),
        (always(9, 40, 1 << 21), watched(9, n_pages=40), "its pages of 2097152 bytes do not tell"),
        (always(1000), watched(1000, duration_s=0.61), "observe in shorter intervals, of 150 ms"),
    ],
)  # fmt: skip
def test_doubts(curve, observed, doubt):
    found = judge(curve, observed)
    assert found.memory_intensive is found.outlook is found.least_limit_s is None
    assert found.doubt.startswith(doubt)
    assert found.sentence == f"not known whether memory intensive: {found.doubt}"


def test_intervals_of_two_downtimes_are_short_enough():
    assert judge(always(1000), watched(1000, duration_s=0.59)).memory_intensive is True


def test_a_few_lost_pages_do_not_change_it():
    assert judge(always(100), watched(100, lost_pages=400, n_lossy=2)).memory_intensive is False
    assert judge(always(1000), watched(1000, lost_pages=9999)).memory_intensive is True


def test_a_curve_between_whose_bounds_the_limit_lies():
    spread = DirtyCurve(WINDOWS_S, np.full(9, 600.0), 250.0, 500, PAGES)
    found = judge(spread, watched(600))
    assert found.memory_intensive is None
    assert found.doubt.startswith("the guest varies too much: with the least that D(t)")


@pytest.mark.parametrize(("bandwidth_Bps", "limit_s"), [(0, 1), (np.nan, 1), (1e9, 0), (1e9, "1")])
def test_numbers_that_are_none(bandwidth_Bps, limit_s):
    with pytest.raises(errors.UsageError):
        judge(always(0), watched(0), bandwidth_Bps, limit_s)


# ---- zero pages from a trace's facts -----------------------------------------------------------


def said(part_pages, **regions):
    return {META: json.dumps({"part_pages": part_pages, "regions": regions})}


@pytest.mark.parametrize(
    ("facts", "touched", "zero_pages"),
    [
        ({}, [0, 0, 0, 0], None),
        ({META: "nonsense"}, [0, 0, 0, 0], None),
        (said(128, ram=[0, 0], late=[0]), [0, 0, 0, 0], 300),
        (said(128, ram=[100, 3], late=[50]), [0, 0, 0, 0], 147),
        (said(128, ram=[100, 3], late=[50]), [50, 50, 0, 0], 147),  # were not zero anyway
        (said(128, ram=[100, 3], late=[50]), [60, 50, 3, 5], 132),
        (said(128, ram=[0, 0], late=[50]), [64, 9, 3, 8], 300 - 84 - 50),
        (said(128, ram=[0, 0]), [0, 0, 0, 0], 200),  # of a region that came later nothing is known
        (said(128, ram=[128, 128], late=[128]), [0, 0, 0, 0], 0),
        (said(128, ram=[0], late=[0]), [0, 0, 0, 0], 228),  # nor of a part by which one grew
    ],
)
def test_zero_pages_are_counted(facts, touched, zero_pages):
    """In groups of 64 pages, where a part has two of them."""
    regions = (Region("ram", 200), Region("late", 100))
    written = {"ram": np.array(touched), "late": np.zeros(2, np.uint32)}
    assert count_zeros(regions, facts, written, 64) == zero_pages
