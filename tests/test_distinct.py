"""DistinctPages on every kernel, against the model and against numbers worked out by hand."""

import threading

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from model import (
    EDGE_SIZES,
    GROUP_PAGES,
    KINDS,
    ModelDistinct,
    make_pages,
    per_group,
    per_line,
    to_words,
)

from mempattern import DistinctPages, GroupStats, Interval, Provenance, Region, errors

pytestmark = pytest.mark.usefixtures("kernel")


def deviation(values):
    return np.std(values, axis=0, ddof=1) if len(values) > 1 else np.zeros_like(values[0])


def check_curve(curve, expected, regions):
    """`expected`: of each window length the durations and the counts."""
    by_duration = {float(np.mean(seconds)): counts for seconds, counts in expected}
    assert curve.n_pages == sum(region.n_pages for region in regions)
    assert curve.page_bytes == regions[0].page_bytes
    means_s = sorted(np.mean(seconds) for seconds, _ in expected)
    if np.any(np.diff(means_s) < 1e-9):  # which of them is kept: by hand, below
        return
    np.testing.assert_allclose(curve.window_s, sorted(by_duration), rtol=1e-12)
    counts = [by_duration[seconds] for seconds in sorted(by_duration)]
    means = np.array([np.mean(each) for each in counts])
    if (np.diff(means) >= 0).all():  # else it was repaired: a matter of the curve's own tests
        np.testing.assert_allclose(curve.pages, means, rtol=1e-12)
    assert curve.n_windows.tolist() == [len(each) for each in counts]
    np.testing.assert_allclose(
        curve.std, [deviation(np.array(each, float)) for each in counts], rtol=1e-9, atol=1e-6
    )


def check_all(distinct, model):
    lengths = model.lengths()
    assert distinct.regions == model.regions
    if not lengths:
        assert distinct.windows() == ()
        with pytest.raises(errors.UsageError, match="no interval was counted yet"):
            distinct.curve()
        return
    windows = [model.windows(n) for n in lengths]
    for counted, (seconds, pages) in zip(distinct.windows(), windows, strict=True):
        of_all = [sum(int(region.sum()) for region in each.values()) for each in pages]
        assert counted.n_windows == len(seconds)
        assert counted.window_s == pytest.approx(np.mean(seconds), rel=1e-12)
        assert counted.pages == pytest.approx(np.mean(of_all), rel=1e-12)
    for region in model.regions:
        counts = [
            (seconds, [int(each[region.name].sum()) for each in pages])
            for seconds, pages in windows
        ]
        check_curve(distinct.curve(region.name), counts, [region])
        groups = distinct.groups(region.name)
        assert groups.pages.shape == (len(lengths), region.n_groups(model.group_pages))
        assert groups.n_windows.tolist() == [len(seconds) for seconds, _ in windows]
        np.testing.assert_allclose(
            groups.window_s, [np.mean(seconds) for seconds, _ in windows], rtol=1e-12
        )
        for row, (_, pages) in enumerate(windows):
            by_group = np.array([per_group(each[region.name], model.group_pages) for each in pages])
            np.testing.assert_allclose(groups.pages[row], by_group.mean(axis=0), rtol=1e-12)
            np.testing.assert_allclose(
                groups.std[row], deviation(by_group), rtol=1e-6, atol=1e-6 * model.group_pages
            )
    in_all = [
        (seconds, [sum(int(bits.sum()) for bits in each.values()) for each in pages])
        for seconds, pages in windows
    ]
    check_curve(distinct.curve(), in_all, model.regions)


N_PAGES = st.sampled_from(EDGE_SIZES) | st.integers(1, 3000) | st.integers(1, 80_000)


@given(
    sizes=st.lists(N_PAGES, min_size=1, max_size=3),
    group_pages=st.just(512) | st.just(2**32 - 64) | st.sampled_from(GROUP_PAGES),
    seeds=st.lists(st.integers(0, 2**32), min_size=1, max_size=14),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, unique=True),
    breaks=st.sets(st.integers(0, 14), max_size=2),
)
@example([32769], 512, list(range(13)), ["dense", "zero", "sparse"], set())
@example([70_000, 1], 512, list(range(13)), ["full"], {1})
@example([70_000], 192, list(range(9)), ["one", "edges"], set())
@example([98_304], 512, list(range(9)), ["full", "zero", "clustered"], set())
def test_every_number_equals_the_model(sizes, group_pages, seeds, kinds, breaks):
    regions = tuple(Region(f"slot {number}", n_pages) for number, n_pages in enumerate(sizes))
    distinct, model = DistinctPages(regions, group_pages), ModelDistinct(regions, group_pages)
    for number, seed in enumerate(seeds):
        rng = np.random.default_rng(seed)
        if number in breaks:
            distinct.break_off()
            model.break_off()
        pages = {r.name: make_pages(rng.choice(kinds), r.n_pages, rng) for r in regions}
        duration_s = float(rng.integers(1, 1000)) / 250
        distinct.update(
            {name: to_words(bits, garbage=rng) for name, bits in pages.items()}, duration_s
        )
        model.update(pages, duration_s)
    assert distinct.n_intervals == len(seeds)
    check_all(distinct, model)


def test_long_chains():
    """Up to 256 intervals in a window, some lines of which are dirty in a few intervals only."""
    regions = (Region("ram", 5000),)
    distinct, model = DistinctPages(regions), ModelDistinct(regions, 512)
    rng = np.random.default_rng(7)
    for number in range(300):
        pages = {"ram": np.zeros(5000, bool)}
        at = rng.integers(5000)
        pages["ram"][at : at + rng.integers(20)] = number % 5 == 0
        distinct.update({"ram": to_words(pages["ram"])}, 0.5)
        model.update(pages, 0.5)
        if number in (62, 63, 64, 191, 192, 255):
            check_all(distinct, model)
    check_all(distinct, model)
    assert distinct.curve().window_s.tolist()[:7] == [0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]


@pytest.mark.parametrize("group_words", range(1, 26))
def test_every_group_size(group_words):
    """Groups of every number of words, however they lie on lines of 8 words."""
    regions = (Region("ram", 6000),)
    distinct = DistinctPages(regions, 64 * group_words)
    model = ModelDistinct(regions, 64 * group_words)
    rng = np.random.default_rng(group_words)
    for kind in ("dense", "clustered", "zero", "hot spot", "edges", "one", "full", "sparse"):
        pages = {"ram": make_pages(kind, 6000, rng)}
        distinct.update({"ram": to_words(pages["ram"], garbage=rng)}, 1.0)
        model.update(pages, 1.0)
    check_all(distinct, model)


@pytest.mark.parametrize("group_pages", [512, 1024, 192])
def test_many_blocks_that_come_and_go(group_pages):
    n_pages = 7 * 32768 + 1234
    regions = (Region("ram", n_pages),)
    distinct, model = DistinctPages(regions, group_pages), ModelDistinct(regions, group_pages)
    rng = np.random.default_rng(group_pages)
    for kinds in rng.choice(KINDS, (13, 8)):
        pages = {"ram": np.concatenate([make_pages(k, 32768, rng) for k in kinds])[:n_pages]}
        distinct.update({"ram": to_words(pages["ram"], garbage=rng)}, 1.0)
        model.update(pages, 1.0)
    check_all(distinct, model)


def test_a_region_of_128_gib():
    """From 4 MiB a bitmap on, open windows are written around the cache."""
    n_pages = (1 << 25) + 1000
    region = Region("ram", n_pages)
    distinct = DistinctPages([region])
    rng = np.random.default_rng(25)
    some_lines = np.repeat(rng.random(region.n_words // 8 + 1) < 0.02, 8)[: region.n_words]
    bitmaps = []
    for clean in ([], slice(0, region.n_words // 2), some_lines, ~some_lines, [], [], []):
        words = rng.integers(0, 2**64, region.n_words, dtype=np.uint64)
        words[clean] = 0
        distinct.update({"ram": words}, 1.0)
        words[-1] &= np.uint64(2 ** (n_pages % 64) - 1)
        bitmaps.append(words)
    groups = distinct.groups("ram")
    for row, n in enumerate((1, 2, 3, 4, 6)):
        counts = [per_line(np.bitwise_or.reduce(bitmaps[at : at + n])) for at in range(0, 8 - n, n)]
        np.testing.assert_allclose(groups.pages[row], np.mean(counts, axis=0))
    assert distinct.curve().n_windows.tolist() == [7, 3, 2, 1, 1]


# ---- by hand -----------------------------------------------------------------------------------


def test_four_intervals_by_hand():
    distinct = DistinctPages([Region("ram", 70)], group_pages=64)
    for words, seconds in (([1, 0], 1.0), ([3, 1], 2.0), ([0, 0], 3.0), ([4, 1], 2.0)):
        distinct.update({"ram": np.array(words, np.uint64)}, seconds)
    curve = distinct.curve()
    assert curve.n_windows.tolist() == [4, 2, 1, 1]
    assert curve.window_s.tolist() == [2.0, 4.0, 6.0, 8.0]
    assert curve.pages.tolist() == [6 / 4, 5 / 2, 3, 4]
    np.testing.assert_allclose(curve.std[:2], [np.std([1, 3, 0, 2], ddof=1), np.sqrt(0.5)])
    groups = distinct.groups("ram")
    assert groups.pages.tolist() == [[1, 0.5], [1.5, 1], [2, 1], [3, 1]]
    np.testing.assert_allclose(groups.std[1], [np.sqrt(0.5), 0])


def interval(index, start_ns, end_ns, word, lost_pages=0):
    region = Region("ram", 64)
    bitmaps = {"ram": np.array([word], np.uint64)}
    return Interval(index, start_ns, end_ns, (region,), bitmaps, Provenance("test"), lost_pages)


def counted(*intervals):
    distinct = DistinctPages([Region("ram", 64)])
    for each in intervals:
        distinct.update(each)
    return distinct.curve()


def test_intervals_that_follow_one_another_are_joined():
    curve = counted(interval(0, 0, 1000, 1), interval(1, 1100, 2100, 2))
    assert curve.n_windows.tolist() == [2, 1]  # a gap of a tenth passes
    np.testing.assert_allclose(curve.window_s, [1e-6, 2e-6])


@pytest.mark.parametrize("start_ns", [1101, 5000, 899, 0])
def test_a_gap_and_an_overlap_drop_the_open_windows(start_ns):
    second = interval(1, start_ns, start_ns + 1000, 2)
    third = interval(2, start_ns + 1000, start_ns + 2000, 4)
    curve = counted(interval(0, 0, 1000, 1), second)
    assert curve.n_windows.tolist() == [2]
    curve = counted(interval(0, 0, 1000, 1), second, third)
    assert curve.n_windows.tolist() == [3, 1]
    assert curve.pages.tolist() == [1, 2]


def test_an_interval_with_lost_pages_is_not_counted():
    good = [interval(n, n * 1000, n * 1000 + 1000, 1 << n) for n in range(6)]
    curve = counted(*good[:3], interval(3, 3000, 4000, 8, lost_pages=1), *good[4:])
    assert curve.n_windows.tolist() == [5, 2, 1]
    assert curve.pages.tolist() == [1, 2, 3]


def test_bare_bitmaps_are_taken_to_follow():
    distinct = DistinctPages([Region("ram", 64)])
    distinct.update(interval(0, 0, 1000, 1))
    distinct.update({"ram": bytes(8)}, 1e-6)
    distinct.update(interval(1, 70_000, 71_000, 2))
    assert distinct.curve().n_windows.tolist() == [3, 1, 1]


def test_breaks_may_leave_slow_intervals_the_longest():
    """Lengths are in order of seconds, whatever their intervals."""
    distinct = DistinctPages([Region("ram", 64)])
    for number in range(3):
        distinct.update({"ram": np.array([1 << number], np.uint64)}, 10.0)
    distinct.break_off()
    for number in range(4):
        distinct.update({"ram": np.array([1 << number], np.uint64)}, 0.1)
    curve = distinct.curve()
    assert (np.diff(curve.window_s) > 0).all()
    assert curve.window_s[0] == pytest.approx(0.4)


def test_of_two_lengths_that_last_as_long_the_shorter_is_kept():
    """It has the more windows."""
    distinct = DistinctPages([Region("ram", 64)])
    for number, seconds in enumerate((0.5, 0.5, 0.5, 4.5)):
        distinct.update({"ram": np.array([1 << number], np.uint64)}, seconds)
    curve = distinct.curve()
    assert curve.window_s.tolist() == [1.5, 3.0, 6.0]
    assert curve.pages.tolist() == [1, 2, 4]
    assert curve.n_windows.tolist() == [4, 2, 1]


def test_one_interval_and_an_idle_vm():
    distinct = DistinctPages([Region("ram", 100)])
    distinct.update({"ram": b"\x07" + bytes(12)}, 0.5)
    curve = distinct.curve()
    assert (curve.at(0.5).pages, curve.at(0.5).low, curve.at(0.5).high) == (3, 0, 100)
    idle = DistinctPages([Region("ram", 100)])
    for _ in range(20):
        idle.update({"ram": bytes(13)}, 0.5)
    assert not idle.curve().pages.any()
    assert not idle.groups("ram").pages.any()


def test_pages_of_different_sizes_are_not_added_up():
    distinct = DistinctPages([Region("a", 64), Region("b", 64, page_bytes=2 << 20)])
    distinct.update({"a": bytes(8), "b": b"\xff" * 8}, 1.0)
    with pytest.raises(errors.RegionError, match="pages of different sizes"):
        distinct.curve()
    assert distinct.curve("b").page_bytes == 2 << 20
    assert distinct.curve("b").pages.tolist() == [64]


def test_bad_input_counts_nothing():
    ram = Region("ram", 100)
    distinct = DistinctPages([ram])
    for bitmaps, duration_s, error in (
        ({"ram": bytes(5)}, 1.0, errors.BitmapError),
        ({"vga": bytes(13)}, 1.0, errors.RegionError),
        ({"ram": bytes(13)}, None, errors.UsageError),
        ({"ram": bytes(13)}, 0.0, errors.UsageError),
        ({"ram": bytes(13)}, 1e200, errors.UsageError),
    ):
        with pytest.raises(error):
            distinct.update(bitmaps, duration_s)
    for name in ("vga", None, ["ram"], 0):
        with pytest.raises(errors.RegionError):
            distinct.groups(name)
    with pytest.raises(errors.UsageError, match="no interval"):
        distinct.groups("ram")
    assert distinct.n_intervals == 0
    with pytest.raises(errors.RegionError):
        DistinctPages([ram], group_pages=100)


def test_memory_grows_with_the_lengths():
    distinct = DistinctPages([Region("ram", 1 << 20)])
    before = distinct.n_bytes
    distinct.update({"ram": bytes(1 << 17)}, 1.0)
    assert before + 2 * (1 << 17) <= distinct.n_bytes < before + (1 << 20)


def test_one_thread_at_a_time():
    n_pages = 1 << 22
    distinct = DistinctPages([Region("ram", n_pages)])
    words = np.full(n_pages // 64, 2**64 - 1, np.uint64)
    outcomes = []

    def hammer():
        for _ in range(50):
            try:
                distinct.update({"ram": words}, 1.0)
                outcomes.append(True)
            except errors.BusyError:
                outcomes.append(False)

    threads = [threading.Thread(target=hammer) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert distinct.curve().n_windows[0] == sum(outcomes) > 0
    assert set(distinct.curve().pages) == {n_pages}


# ---- several at once ---------------------------------------------------------------------------


def check_same(one, other):
    """To the last bit."""
    assert one.n_intervals == other.n_intervals
    assert one.windows() == other.windows()
    for region in one.regions if one.n_intervals else ():
        for curves in zip(
            *((c.pages, c.std) for c in (one.groups(region.name), other.groups(region.name))),
            strict=True,
        ):
            np.testing.assert_array_equal(*curves)


@given(
    sizes=st.lists(N_PAGES, min_size=1, max_size=2),
    group_pages=st.just(512) | st.sampled_from([*GROUP_PAGES, 2**32 - 64]),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, unique=True),
    n_intervals=st.integers(0, 40),
    together=st.integers(1, 40),
    seed=st.integers(0, 2**32),
)
@example(
    sizes=[70_000],
    group_pages=512,
    kinds=["full", "zero", "clustered"],
    n_intervals=40,
    together=40,
    seed=0,
)
@example(sizes=[98_304], group_pages=512, kinds=["dense"], n_intervals=26, together=13, seed=1)
@example(
    sizes=[70_000],
    group_pages=2**32 - 64,
    kinds=["dense", "sparse", "zero"],
    n_intervals=26,
    together=13,
    seed=2,
)
def test_several_at_once_count_as_one_by_one(
    *, sizes, group_pages, kinds, n_intervals, together, seed
):
    rng = np.random.default_rng(seed)
    regions = tuple(Region(f"slot {number}", n_pages) for number, n_pages in enumerate(sizes))
    intervals, now_ns = [], 0
    for number in range(n_intervals):
        words = {
            r.name: to_words(make_pages(rng.choice(kinds), r.n_pages, rng), garbage=rng)
            for r in regions
        }
        start_ns = now_ns + int(rng.choice([0, 0, 0, 0, 0, 0, 900]))
        now_ns = start_ns + int(rng.integers(800, 1000))
        lost = int(rng.random() < 0.05)
        intervals.append(
            Interval(number, start_ns, now_ns, regions, words, Provenance("test"), lost)
        )
    one, other = DistinctPages(regions, group_pages), DistinctPages(regions, group_pages)
    for each in intervals:
        one.update(each)
    for at in range(0, n_intervals, together):
        other.update_all(intervals[at : at + together])
    check_same(one, other)


def test_several_at_once_of_a_region_of_128_gib():
    region = Region("ram", (1 << 25) + 1000)
    one, other = DistinctPages([region]), DistinctPages([region])
    rng = np.random.default_rng(26)
    words = [rng.integers(0, 2**64, region.n_words, dtype=np.uint64) for _ in range(2)]
    words[1][np.repeat(rng.random(region.n_words // 8 + 1) < 0.9, 8)[: region.n_words]] = 0
    intervals = [
        Interval(n, n * 1000, n * 1000 + 1000, (region,), {"ram": words[n % 3 % 2]},
                 Provenance("test"))
        for n in range(14)
    ]  # fmt: skip
    for each in intervals:
        one.update(each)
    other.update_all(intervals)
    check_same(one, other)


def test_several_at_once_of_other_regions_count_nothing():
    distinct = DistinctPages([Region("ram", 64)])
    other = Region("vga", 64)
    bad = Interval(1, 1000, 2000, (other,), {"vga": np.zeros(1, np.uint64)}, Provenance("test"))
    with pytest.raises(errors.RegionError, match="other regions"):
        distinct.update_all([interval(0, 0, 1000, 1), bad])
    distinct.update_all([])
    assert distinct.n_intervals == 0


def test_sums_of_many_windows():
    """A line's two sums share a word, which is emptied before either overflows."""
    distinct = DistinctPages([Region("ram", 512)])
    full = np.full(8, 2**64 - 1, np.uint64)
    for _ in range(17_000):
        distinct.update({"ram": full}, 1.0)
    groups = distinct.groups("ram")
    assert (groups.pages == 512).all()
    assert (groups.std == 0).all()


# ---- any order of calls ------------------------------------------------------------------------


def test_the_shortest_windows_are_what_group_stats_counts():
    regions = [Region("ram", 3000)]
    distinct, stats = DistinctPages(regions), GroupStats(regions)
    rng = np.random.default_rng(1)
    for kind in KINDS:
        words = {"ram": to_words(make_pages(kind, 3000, rng))}
        distinct.update(words, 1.0)
        stats.update(words, 1.0)
    total = stats.groups("ram").dirty_total
    np.testing.assert_allclose(distinct.groups("ram").pages[0] * len(KINDS), total)
