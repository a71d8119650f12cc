"""GroupStats on every kernel, against the model and against numbers worked out by hand."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from model import (
    EDGE_SIZES,
    GROUP_PAGES,
    KINDS,
    ModelHistory,
    ModelStats,
    make_pages,
    per_line,
    to_pages,
    to_words,
)

from mempattern import DirtyHistory, GroupStats, Interval, Provenance, Region, Seen, errors

pytestmark = pytest.mark.usefixtures("kernel")

DTYPES = {
    "dirty": "u4",
    "redirtied": "u4",
    "fresh": "u4",
    "touched": "u4",
    "active_intervals": "u4",
    "streak": "u4",
    "last_active": "i4",
    "dirty_total": "u8",
}


def as_tuple(seen):
    return (
        seen.dirty_pages,
        seen.redirtied_pages,
        seen.fresh_pages,
        seen.active_groups,
        seen.runs,
    )


def check_groups(stats, model):
    for region in model.regions:
        assert as_tuple(stats.seen(region.name)) == model.seen(region.name)
        groups, expected = stats.groups(region.name), model.groups(region)
        assert groups.region == region
        assert groups.n_groups == expected["dirty"].size
        for field, dtype in DTYPES.items():
            array = getattr(groups, field)
            assert array.dtype == dtype
            np.testing.assert_array_equal(array, expected[field], err_msg=field)
        # Rates below 1e-280 pages/s have lost their last digits to the range of a double.
        np.testing.assert_allclose(
            groups.write_rate, model.write_rate(region), rtol=1e-9, atol=1e-280
        )


def check_hot_pages(history, model):
    assert len(history) == len(model)
    for at_least in {1, 2, history.depth // 2, history.depth} & {*range(1, history.depth + 1)}:
        expected = model.hot_pages(at_least)
        for name, words in history.hot_pages(at_least).items():
            np.testing.assert_array_equal(to_pages(words, expected[name].size), expected[name])


N_PAGES = st.sampled_from(EDGE_SIZES) | st.integers(1, 3000) | st.integers(1, 80_000)
DURATIONS = st.sampled_from([1e-6, 0.001, 0.1, 1.0, 30.0, 1e6]) | st.floats(1e-6, 1e6)
HALF_LIVES = st.sampled_from([1e-3, 0.5, 10.0, 1e5, 1e9]) | st.floats(1e-3, 1e7)


@given(
    sizes=st.lists(N_PAGES, min_size=1, max_size=3),
    group_pages=st.just(512) | st.sampled_from(GROUP_PAGES),
    half_life_s=HALF_LIVES,
    depth=st.none() | st.sampled_from([1, 2, 3, 7, 255]),
    steps=st.lists(st.tuples(st.integers(0, 2**32), DURATIONS), min_size=1, max_size=12),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, unique=True),
)
@example(
    sizes=[32769],
    group_pages=512,
    half_life_s=0.5,
    depth=2,
    steps=[(seed, 300.0) for seed in range(8)],
    kinds=["dense", "zero", "sparse"],
)
@example(
    sizes=[70_000],
    group_pages=512,
    half_life_s=10.0,
    depth=None,
    steps=[(seed, 1.0) for seed in range(8)],
    kinds=["hot spot", "full", "one"],
)
def test_every_number_equals_the_model(*, sizes, group_pages, half_life_s, depth, steps, kinds):
    regions = [Region(f"slot {number}", n_pages) for number, n_pages in enumerate(sizes)]
    history = DirtyHistory(regions, depth) if depth else None
    stats = GroupStats(regions, group_pages, half_life_s=half_life_s, history=history)
    model, model_history = (
        ModelStats(regions, group_pages, half_life_s),
        ModelHistory(regions, depth),
    )
    check_groups(stats, model)
    for seed, duration_s in steps:
        rng = np.random.default_rng(seed)
        pages = {r.name: make_pages(rng.choice(kinds), r.n_pages, rng) for r in regions}
        words = {name: to_words(bits, garbage=rng) for name, bits in pages.items()}
        seen = stats.update(words, duration_s)
        model.update(pages, duration_s)
        model_history.update(pages)
        assert as_tuple(seen) == model.seen_in_all()
        check_groups(stats, model)
    assert stats.n_intervals == len(steps)
    if history:
        check_hot_pages(history, model_history)


@pytest.mark.parametrize("group_words", range(1, 26))
@pytest.mark.parametrize("depth", [None, 3])
def test_every_group_size(group_words, depth):
    """Groups of every number of words, however they lie on lines of 8 words."""
    regions = [Region("ram", 6000)]
    history = DirtyHistory(regions, depth) if depth else None
    stats = GroupStats(regions, 64 * group_words, history=history)
    model = ModelStats(regions, 64 * group_words, 10.0)
    rng = np.random.default_rng(group_words)
    for kind in ("dense", "clustered", "zero", "hot spot", "edges", "one", "full", "sparse"):
        pages = {"ram": make_pages(kind, 6000, rng)}
        seen = stats.update({"ram": to_words(pages["ram"], garbage=rng)}, 1.0)
        model.update(pages, 1.0)
        assert as_tuple(seen) == model.seen_in_all()
        check_groups(stats, model)


@pytest.mark.parametrize("group_pages", [512, 1024, 192])
@pytest.mark.parametrize("depth", [None, 1, 2, 3])
def test_many_blocks_that_come_and_go(group_pages, depth):
    """Lines are judged 64 at a time: what was dirty in each must be cleared when it is not."""
    n_pages = 7 * 32768 + 1234
    regions = [Region("ram", n_pages)]
    history = DirtyHistory(regions, depth) if depth else None
    stats = GroupStats(regions, group_pages, history=history)
    model, model_history = ModelStats(regions, group_pages, 10.0), ModelHistory(regions, depth)
    rng = np.random.default_rng(group_pages)
    for kinds in rng.choice(KINDS, (7, 8)):
        parts = [make_pages(kind, 32768, rng) for kind in kinds]
        pages = {"ram": np.concatenate(parts)[:n_pages]}
        seen = stats.update({"ram": to_words(pages["ram"], garbage=rng)}, 1.0)
        model.update(pages, 1.0)
        model_history.update(pages)
        assert as_tuple(seen) == model.seen_in_all()
        check_groups(stats, model)
    if history:
        check_hot_pages(history, model_history)


@given(
    gaps=st.lists(st.floats(0, 400), min_size=1, max_size=30),
    half_life_s=st.sampled_from([1e-3, 10.0, 1e4]),
)
@example([0.001] * 5 + [499.9, 0.2, 0.001], 10.0)
@example([250.0, 250.0, 0.5, 250.0, 249.9, 0.3], 10.0)
def test_rates_decay_over_idle_gaps_of_hundreds_of_half_lives(gaps, half_life_s):
    """The core stores sums in a unit that is renewed now and then: no renewal may show."""
    regions = [Region("ram", 256)]
    stats, model = (
        GroupStats(regions, 64, half_life_s=half_life_s),
        ModelStats(regions, 64, half_life_s),
    )
    for number, gap in enumerate(gaps):
        for duration_s, last_dirty in (
            (1e-6 + gap * half_life_s, 0),
            (half_life_s / 10, number % 200),
        ):
            pages = np.arange(256) < last_dirty
            stats.update({"ram": to_words(pages)}, duration_s)
            model.update({"ram": pages}, duration_s)
            check_groups(stats, model)


# ---- by hand -----------------------------------------------------------------------------------


def new_stats(n_pages, group_pages=64, **options):
    return GroupStats([Region("ram", n_pages)], group_pages, **options)


def bitmap(n_pages, *runs):
    """The bitmap with the given (first, last) pages dirty."""
    pages = np.zeros(n_pages, bool)
    for first, last in runs:
        pages[first : last + 1] = True
    return {"ram": to_words(pages)}


@pytest.mark.parametrize("group_pages", [64, 128, 512, 1024, 1 << 16])
@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([], 0),
        ([(0, 0)], 1),
        ([(63, 64)], 1),  # across words
        ([(63, 63), (65, 65)], 2),
        ([(62, 62), (64, 64)], 2),
        ([(511, 512)], 1),  # across lines and groups
        ([(511, 511), (513, 513)], 2),
        ([(510, 510), (512, 512)], 2),
        ([(0, 2047)], 1),
        ([(0, 767), (769, 2047)], 2),
        ([(255, 256), (383, 384), (447, 448)], 3),  # between the registers of a line
        ([(32767, 32768)], 1),  # across blocks
        ([(32767, 32767), (32769, 32769)], 2),
        ([(33000, 33002)], 1),  # the end of the region
        ([(0, 0), (33002, 33002)], 2),
    ],
)
def test_runs_across_every_edge(group_pages, runs, expected):
    stats = new_stats(33003, group_pages)
    for _ in range(2):
        assert stats.update(bitmap(33003, *runs), 1.0).runs == expected


def test_a_run_does_not_go_on_in_the_next_region():
    stats = GroupStats([Region("a", 64), Region("b", 64)], 64)
    ones = b"\xff" * 8
    assert stats.update({"b": ones, "a": ones}, 1.0) == Seen(128, 0, 128, 2, 2)
    assert stats.seen("a") == stats.seen("b") == Seen(64, 0, 64, 1, 1)


def test_a_page_before_the_gap_of_an_untouched_group_begins_no_run_again():
    alternate = to_words(np.arange(128) % 2 == 1)
    assert new_stats(128).update({"ram": alternate}, 1.0).runs == 64


def test_three_groups_over_five_intervals():
    stats = new_stats(150)  # groups of 64, 64 and 22 pages
    groups = stats.groups("ram")
    assert groups.n_groups == 3
    assert groups.last_active.tolist() == [-1, -1, -1]

    assert stats.update(bitmap(150, (0, 9), (60, 69)), 1.0) == Seen(20, 0, 20, 2, 2)
    assert groups.dirty.tolist() == [14, 6, 0]

    assert stats.update(bitmap(150, (5, 12)), 1.0) == Seen(8, 5, 3, 1, 1)
    assert groups.dirty.tolist() == [8, 0, 0]
    assert groups.redirtied.tolist() == [5, 0, 0]
    assert groups.fresh.tolist() == [3, 0, 0]
    assert groups.touched.tolist() == [17, 6, 0]
    assert groups.streak.tolist() == [2, 0, 0]
    assert groups.last_active.tolist() == [1, 0, -1]

    assert stats.update(bitmap(150), 1.0) == Seen(0, 0, 0, 0, 0)
    assert groups.dirty.tolist() == groups.streak.tolist() == [0, 0, 0]
    assert groups.redirtied.tolist() == groups.fresh.tolist() == [0, 0, 0]

    # Redirtied asks about the previous interval only, fresh about all of them.
    assert stats.update(bitmap(150, (0, 0), (149, 149)), 1.0) == Seen(2, 0, 1, 2, 2)
    assert groups.fresh.tolist() == [0, 0, 1]

    assert stats.update(bitmap(150, (128, 149)), 1.0) == Seen(22, 1, 21, 1, 1)
    assert groups.touched.tolist() == [17, 6, 22]
    assert groups.active_intervals.tolist() == [3, 1, 2]
    assert groups.streak.tolist() == [0, 0, 2]
    assert groups.last_active.tolist() == [3, 0, 4]
    assert groups.dirty_total.tolist() == [23, 6, 23]


def test_write_rate_by_hand():
    stats = new_stats(128, half_life_s=2.0)
    assert stats.groups("ram").write_rate.tolist() == [0, 0]
    stats.update(bitmap(128, (0, 9)), 2.0)
    np.testing.assert_allclose(stats.groups("ram").write_rate, [5, 0], rtol=1e-12)
    stats.update(bitmap(128, (64, 69)), 2.0)
    # The older interval weighs half as much: 5 * (1/3), and 3 * (2/3).
    np.testing.assert_allclose(stats.groups("ram").write_rate, [5 / 3, 2], rtol=1e-12)


def test_a_steady_rate_is_itself_whatever_the_intervals():
    stats = new_stats(64, half_life_s=3.0)
    for pages in (1, 60, 7, 33, 2):
        stats.update(bitmap(64, (0, pages - 1)), pages / 20)
        np.testing.assert_allclose(stats.groups("ram").write_rate, [20], rtol=1e-12)


def test_write_rate_is_a_new_array():
    stats = new_stats(64)
    stats.update(bitmap(64, (0, 9)), 1.0)
    before = stats.groups("ram").write_rate
    before[0] += 1
    assert stats.groups("ram").write_rate[0] == pytest.approx(10)


def test_the_first_interval_redirties_nothing_and_all_is_fresh():
    assert new_stats(1000).update(bitmap(1000, (0, 999)), 1.0) == Seen(1000, 0, 1000, 16, 1)


def test_an_interval_brings_its_own_duration():
    region = Region("ram", 64)
    words = {"ram": np.array([0b111], np.uint64)}
    interval = Interval(0, 1_000_000_000, 1_500_000_000, (region,), words, Provenance("test"))
    stats = GroupStats([region])
    assert stats.update(interval) == Seen(3, 0, 3, 1, 1)
    assert stats.groups("ram").write_rate == pytest.approx([6])


def test_a_regions_groups_are_the_same_object_each_time():
    stats = new_stats(1000)
    assert stats.groups("ram") is stats.groups("ram")


def test_the_defaults():
    stats = GroupStats([Region("ram", 1025)])
    assert (stats.group_pages, stats.half_life_s, stats.history) == (512, 10.0, None)
    assert stats.groups("ram").n_groups == 3
    assert stats.n_intervals == 0
    assert stats.seen("ram") == Seen(0, 0, 0, 0, 0)


def test_memory_held_is_told():
    small, large = new_stats(64), new_stats(1 << 22, 512)
    pages, n_groups = 1 << 22, 1 << 13
    at_least = 2 * pages // 8 + n_groups * (7 * 4 + 2 * 8)  # ever and previous; the arrays
    assert small.n_bytes < 1 << 20
    assert at_least <= large.n_bytes <= at_least + (8 << 20)
    history = DirtyHistory([Region("ram", 1 << 22)], 8)
    assert history.n_bytes >= 8 * pages // 8
    assert new_stats(1 << 22, 512, history=history).n_bytes < large.n_bytes


def test_an_unknown_region_is_named_with_those_there_are():
    stats = new_stats(64)
    for ask in (stats.groups, stats.seen):
        with pytest.raises(errors.RegionError, match=r"no region 'vga'; there are \['ram'\]"):
            ask("vga")
        for name in (["ram"], {}, None, 0):
            with pytest.raises(errors.RegionError, match="no region"):
                ask(name)


# ---- larger than the cache ---------------------------------------------------------------------


def test_a_region_of_256_gib():
    """From 8 MiB a bitmap on, the history is written around the cache."""
    n_pages = (1 << 26) + 1000
    history = DirtyHistory([Region("ram", n_pages)], depth=2)
    stats = new_stats(n_pages, 512, history=history)
    rng = np.random.default_rng(26)
    n_words = -(-n_pages // 64)
    some_lines = np.repeat(rng.random(n_words // 8 + 1) < 0.02, 8)[:n_words]
    bitmaps = []
    for clean in (slice(0, n_words // 2), [], some_lines, slice(n_words // 3, n_words)):
        words = rng.integers(0, 2**64, n_words, dtype=np.uint64)
        words[clean] = 0
        words[-1] &= np.uint64(2 ** (n_pages % 64) - 1)
        bitmaps.append(words)
    ever = np.zeros_like(bitmaps[0])
    previous = np.zeros_like(ever)
    for words in bitmaps:
        before = np.concatenate(([np.uint64(0)], words[:-1]))
        starts = words & ~(words << np.uint64(1) | before >> np.uint64(63))
        counts = [per_line(each) for each in (words, words & previous, words & ~ever)]
        totals = [int(count.sum()) for count in counts]
        seen = stats.update({"ram": words}, 1.0)
        active = int(np.count_nonzero(counts[0]))
        assert as_tuple(seen) == (*totals, active, int(np.bitwise_count(starts).sum()))
        groups = stats.groups("ram")
        np.testing.assert_array_equal(groups.dirty, counts[0])
        np.testing.assert_array_equal(groups.redirtied, counts[1])
        np.testing.assert_array_equal(groups.fresh, counts[2])
        ever |= words
        previous = words
    np.testing.assert_array_equal(groups.touched, per_line(ever))
    np.testing.assert_array_equal(history.hot_pages(2)["ram"], bitmaps[2] & bitmaps[3])
    np.testing.assert_array_equal(history.hot_pages(1)["ram"], bitmaps[2] | bitmaps[3])
