"""DirtyCurve on curves that are known, and its promises on any."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mempattern import DirtyCurve, DistinctPages, Estimate, Region, errors

LENGTHS = np.array(sorted([2**j for j in range(11)] + [3 * 2**j for j in range(10)]), float)
MEMORY = 100_000


def measured(d, n=None, interval_s=0.1, std=0.0, n_pages=MEMORY):
    """The curve of windows of 1, 2, 3, ... intervals, the longest of which was seen once."""
    lengths = LENGTHS[:n]
    pages = np.array([d(t) for t in lengths * interval_s])
    return DirtyCurve(
        window_s=lengths * interval_s,
        pages=pages,
        std=pages * std,
        n_windows=np.maximum(lengths[-1] // lengths, 1),
        n_pages=n_pages,
    )


def sweep(t, rate=2000, size=10_000):
    return min(rate * t, size)


def uniform(t, rate=5000, size=10_000):
    return size * -math.expm1(rate * t * math.log1p(-1 / size))


def hot_and_cold(t):
    return uniform(t, 20_000, 1000) + uniform(t, 200, 9000)


def idle(t):
    return 0.0


WORKLOADS = [sweep, uniform, hot_and_cold]


# ---- between measured windows ------------------------------------------------------------------


@pytest.mark.parametrize("workload", WORKLOADS)
def test_between_two_lengths_it_is_near_the_truth(workload):
    curve = measured(workload)
    for t in np.geomspace(0.1, curve.window_s[-1], 500):
        assert curve.at(t).pages == pytest.approx(workload(t), rel=0.04)


def test_a_power_law_is_met_exactly():
    curve = measured(lambda t: 300 * t**0.7)
    for t in (0.001, 0.1, 0.123, 5.0, 102.0):
        assert curve.at(t).pages == pytest.approx(300 * t**0.7)


def test_bounds_are_two_standard_deviations():
    curve = DirtyCurve([1.0, 2.0, 4.0], [100, 200, 300], [10, 15, 20], [40, 20, 10], n_pages=1000)
    assert curve.at(1.0) == Estimate(100, 80, 120)
    assert curve.at(2) == Estimate(200, 170, 230)
    assert curve.at(4) == Estimate(300, 260, 340)
    assert curve.at(math.sqrt(2)).pages == pytest.approx(100 * math.sqrt(2))


def test_few_windows_take_the_spread_of_the_length_before_if_it_is_larger():
    curve = DirtyCurve([1.0, 2, 3, 4], [100, 200, 250, 300], [10, 2, 40, 0], [40, 7, 7, 1], 1000)
    assert curve.at(2).high == 240  # 10 % as before, not the 1 % of seven windows
    assert curve.at(3).low == pytest.approx(170)
    assert curve.at(4).high == pytest.approx(300 * 1.32)  # of one window nothing is known itself
    assert curve.at(4).low == pytest.approx(300 * 0.68)


def test_what_bounds_a_longer_window_bounds_a_shorter_one():
    curve = DirtyCurve([1.0, 2, 3], [100, 120, 150], [30, 2, 20], 50, 1000)
    assert curve.at(1) == Estimate(100, 40, 124)
    assert curve.at(2) == Estimate(120, 116, 124)
    assert curve.at(3) == Estimate(150, 116, 190)


def test_from_zero_pages_on_it_is_linear():
    curve = DirtyCurve([1.0, 2, 3], [0, 0, 10], 0, 50, 1000)
    assert [curve.at(t).pages for t in (0.5, 1.5, 2.0, 2.5, 3)] == [0, 0, 0, 5, 10]


# ---- outside -----------------------------------------------------------------------------------


def test_nothing_is_written_in_no_time():
    for workload in (*WORKLOADS, idle):
        assert measured(workload).at(0) == Estimate(0, 0, 0)


def test_below_the_shortest_the_exponent_goes_on_between_its_bounds():
    for exponent, expected in ((0.5, 0.5), (1.0, 1.0), (1.5, 1.0), (0.0, 0.0)):
        curve = DirtyCurve([1.0, 4.0], [100, 100 * 4**exponent], 0, 50, 10_000)
        estimate = curve.at(0.25)
        assert estimate.pages == pytest.approx(100 * 0.25**expected)
        assert estimate.low == pytest.approx(25)
        assert estimate.high == 100
    assert DirtyCurve([1.0], [100], 0, 50, 10_000).at(0.25) == Estimate(50, 25, 100)


@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("n", range(4, len(LENGTHS), 2))
@pytest.mark.parametrize("std", [0, 0.02])
def test_the_truth_lies_between_the_bounds_beyond_the_longest(workload, n, std):
    curve = measured(workload, n, std=std)
    for factor in (1.01, 1.5, 3, 10, 100):
        t = float(curve.window_s[-1]) * factor
        estimate = curve.at(t)
        assert estimate.low * (1 - 1e-9) <= workload(t) <= estimate.high * (1 + 1e-9)
        if factor <= 1.5 and workload is not sweep:  # which ends without a sign
            assert estimate.pages == pytest.approx(workload(t), rel=0.1)


def test_beyond_the_longest_by_hand():
    """A straight line: it goes on so, or not at all; but never beyond the memory."""
    curve = DirtyCurve([1.0, 2, 3, 4], [100, 200, 300, 400], 0, 50, 1000)
    assert curve.at(5).low == 400
    assert curve.at(5).high == pytest.approx(500)
    assert curve.at(50).high == 1000
    flat = DirtyCurve([1.0, 2, 3, 4], [400] * 4, 0, 50, 1000)
    assert (flat.at(5).low, flat.at(5).high) == (400, 400.75)  # three pages a longest window


def test_the_errors_of_either_end_are_in_the_slope_beyond_the_longest():
    """3 pages at 2 s and 4 at 4 s are 5 of the difference: a slope of (220 - 150 + 2 * 5) / 2."""
    curve = DirtyCurve([1.0, 2, 3, 4], [100, 150, 190, 220], [0, 30, 0, 40], 100, 1000)
    assert curve.at(5).high == pytest.approx(220 + 2 * 40 + 40)


# ---- the working set ---------------------------------------------------------------------------


@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("n", range(4, len(LENGTHS) + 1))
@pytest.mark.parametrize("std", [0, 0.02])
def test_the_working_set_lies_between_the_bounds(workload, n, std):
    estimate = measured(workload, n, std=std).working_set()
    assert estimate.low * (1 - 1e-9) <= 10_000 <= estimate.high


@pytest.mark.parametrize("workload", [sweep, uniform])
def test_a_curve_that_saturated_says_where(workload):
    estimate = measured(workload).working_set()
    assert estimate.pages == pytest.approx(10_000, rel=0.02)
    assert estimate.low >= 0.99 * 10_000
    assert estimate.high <= 1.03 * 10_000


@pytest.mark.parametrize("n", [4, 8, 12])
def test_a_curve_that_does_not_bend_may_go_on_to_all_of_memory(n):
    curve = measured(lambda t: 50 * t, n)
    estimate = curve.working_set()
    assert estimate.high == MEMORY
    assert estimate.low == pytest.approx(curve.pages[-1])


def test_a_set_that_saturates_does_not_hide_what_grows_beside_it():
    curve = measured(lambda t: uniform(t, 50_000, 1000) + 100 * t, n=12)
    assert curve.working_set().high == MEMORY


def test_too_few_lengths_say_nothing():
    assert measured(uniform, 3).working_set() == Estimate(uniform(0.3), uniform(0.3), MEMORY)


def test_memory_that_is_all_written():
    curve = DirtyCurve([1.0, 2], [900, 1000], 0, 50, 1000)
    assert curve.working_set() == Estimate(1000, 1000, 1000)
    assert curve.at(1e9) == Estimate(1000, 1000, 1000)


def test_an_idle_vm():
    curve = measured(idle)
    assert curve.at(1.0) == Estimate(0, 0, 0)
    assert curve.at(2 * curve.window_s[-1]) == Estimate(0, 0, 3)  # the rule of three
    assert curve.working_set() == Estimate(0, 0, 3)
    assert measured(idle, n_pages=2).working_set() == Estimate(0, 0, 2)


@pytest.mark.parametrize("pages", [0, 100])
def test_a_single_window_is_no_certainty(pages):
    curve = DirtyCurve([0.5], [pages], 0, 1, 1000)
    for t in (0.1, 0.5, 0.6, 100):
        estimate = curve.at(t)
        assert (estimate.low, estimate.high) == (0, 1000)
    assert curve.at(0.5).pages == pages
    assert curve.working_set() == Estimate(pages, pages, 1000)


# ---- any curve ---------------------------------------------------------------------------------

FLOATS = st.floats(0, 1e6) | st.sampled_from([0.0, 1e-310, 1e-300, 1.0, 1000.0])


@st.composite
def curves(draw):
    steps = draw(st.lists(st.floats(1e-9, 1e6), min_size=1, max_size=12))
    window_s = np.unique(np.cumsum(steps))
    n = window_s.size
    pages = draw(st.lists(FLOATS, min_size=n, max_size=n))
    if draw(st.booleans()):
        pages.sort()
    std = draw(st.lists(FLOATS, min_size=n, max_size=n))
    n_windows = draw(st.lists(st.integers(1, 20), min_size=n, max_size=n))
    most = math.ceil(max(*pages, *std, 1)) * draw(st.sampled_from([1, 2, 10**6]))
    return DirtyCurve(window_s, pages, std, n_windows, most)


@pytest.mark.filterwarnings("error")
@given(
    curve=curves(),
    times=st.lists(st.floats(0, 1e9) | st.floats(0, 1) | st.floats(0, 10), min_size=2, max_size=10),
)
def test_at_is_monotone_and_within_its_bounds(curve, times):
    times = sorted([*times, *curve.window_s[:3].tolist(), float(curve.window_s[-1])])
    estimates = [curve.at(t) for t in times]
    for estimate in (*estimates, curve.working_set()):
        assert 0 <= estimate.low <= estimate.pages <= estimate.high <= curve.n_pages
    for name in ("low", "pages", "high"):
        values = np.array([getattr(estimate, name) for estimate in estimates])
        assert (np.diff(values) >= -1e-9 * values[1:]).all(), name
    assert curve.working_set().low >= curve.pages[-1] * (1 - 1e-12)
    for t, pages in zip(curve.window_s.tolist(), curve.pages.tolist(), strict=True):
        assert curve.at(t).pages == pages


def test_between_means_of_which_one_is_tiny():
    """So small a mean comes of no recording; what is between goes by a power law all the same."""
    curve = DirtyCurve([1.0, 4.0], [1e-310, 1000.0], 0, [50, 50], 2000)
    assert curve.at(2.0).pages == pytest.approx(math.sqrt(1e-310 * 1000.0), rel=1e-9)


@pytest.mark.filterwarnings("error")
@given(curve=curves())
def test_it_does_not_depend_on_the_unit_of_time(curve):
    slow = DirtyCurve(curve.window_s * 1024, curve.pages, curve.std, curve.n_windows, curve.n_pages)
    for t in (0.5, 3.0, 1e4):
        one, other = curve.at(t), slow.at(t * 1024)
        assert other.pages == pytest.approx(one.pages, rel=1e-6)
        assert other.high == pytest.approx(one.high, rel=1e-6)


@given(
    values=st.lists(st.tuples(st.floats(0, 1000), st.integers(1, 9)), min_size=1, max_size=8),
)
def test_the_repair_is_isotonic_regression(values):
    """By its max-min formula: max over a <= i of min over b >= i of the mean of a to b."""
    pages, weights = np.array(values).T
    expected = [
        max(
            min(np.average(pages[a:b], weights=weights[a:b]) for b in range(i + 1, pages.size + 1))
            for a in range(i + 1)
        )
        for i in range(pages.size)
    ]
    curve = DirtyCurve(np.arange(1.0, pages.size + 1), pages, 0, weights, 1000)
    np.testing.assert_allclose(curve.pages, expected, atol=1e-9)


def test_what_measured_pages_give():
    """From bitmaps to the working set: 3000 of 60000 pages, written at random, uniformly."""
    region = Region("ram", 60_000)
    distinct = DistinctPages([region])
    rng = np.random.default_rng(5)
    for _ in range(200):
        bits = np.zeros(region.n_words * 64, bool)
        bits[rng.integers(0, 3000, 300)] = True
        distinct.update({"ram": np.packbits(bits, bitorder="little")}, 0.1)
    curve = distinct.curve()
    assert curve.working_set().low * 0.999 <= 3000 <= curve.working_set().high < 3200
    inside = [
        curve.at(t).low <= uniform(t, 3000, 3000) <= curve.at(t).high
        for t in np.geomspace(0.01, 15, 100)
    ]
    assert np.mean(inside) > 0.9


# ---- what is refused ---------------------------------------------------------------------------

GOOD = {"window_s": [1.0, 2.0], "pages": [1, 2], "std": [0, 0], "n_windows": [2, 1], "n_pages": 9}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window_s": []}, "window_s must have one dimension and some lengths"),
        ({"window_s": [[1.0, 2.0]]}, "window_s must have one dimension"),
        ({"window_s": 1.0}, "window_s must have one dimension"),
        ({"window_s": [0.0, 1.0]}, "window_s must be positive and ascending"),
        ({"window_s": [1.0, 1.0]}, "window_s must be positive and ascending"),
        ({"window_s": [2.0, 1.0]}, "window_s must be positive and ascending"),
        ({"window_s": [1.0, math.inf]}, "window_s must be finite"),
        ({"window_s": ["a", "b"]}, "window_s must be an array of numbers"),
        ({"pages": [1]}, "pages must have a number for each window length"),
        ({"pages": 1}, "pages must have a number for each window length"),
        ({"pages": [1, -1]}, "pages must be finite and not negative"),
        ({"pages": [1, math.nan]}, "pages must be finite and not negative"),
        ({"pages": [1, 10]}, "pages must be at most the memory's n_pages 9, not 10"),
        ({"std": [1]}, "std must have a number for each"),
        ({"std": [1, 10]}, "std cannot be above the memory's n_pages 9"),
        ({"std": -1}, "std must be finite and not negative"),
        ({"n_windows": 0}, "n_windows must be whole numbers from 1 on"),
        ({"n_windows": [1.5, 1]}, "n_windows must be whole numbers from 1 on"),
        ({"n_pages": 0}, "n_pages must be a positive whole number"),
        ({"n_pages": 9.5}, "n_pages must be a positive whole number"),
        ({"page_bytes": 0}, "page_bytes must be a positive whole number"),
    ],
)
def test_what_makes_no_curve(change, message):
    with pytest.raises(errors.UsageError, match=message):
        DirtyCurve(**(GOOD | change))


@pytest.mark.parametrize("window_s", [-1, math.nan, math.inf, "1", None, True])
def test_no_such_window(window_s):
    with pytest.raises(errors.UsageError, match="window_s must be a positive, finite number"):
        DirtyCurve(**GOOD).at(window_s)


def test_arrays_are_the_curves_own():
    pages = np.array([1.0, 2.0])
    curve = DirtyCurve(**(GOOD | {"pages": pages}))
    pages[:] = 7
    assert curve.pages.tolist() == [1, 2]
    for array in (curve.window_s, curve.pages, curve.std, curve.n_windows):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    assert curve.n_windows.dtype == np.int64
    assert curve.page_bytes == 4096


def test_numpy_numbers_will_do():
    curve = DirtyCurve(**(GOOD | {"n_pages": np.int64(9)}))
    for zero, one in itertools.product((0, 0.0, np.float32(0)), (1, np.float32(1), np.int8(1))):
        assert (curve.at(zero).pages, curve.at(one).pages) == (0, 1)
