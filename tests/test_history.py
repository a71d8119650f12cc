"""DirtyHistory on every kernel: fed directly, or filled by a GroupStats."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from model import EDGE_SIZES, GROUP_PAGES, KINDS, ModelHistory, make_pages, to_pages, to_words

from mempattern import DirtyHistory, GroupStats, Interval, Provenance, Region, errors

pytestmark = pytest.mark.usefixtures("kernel")

RAM = Region("ram", 1000)
N_PAGES = st.sampled_from(EDGE_SIZES) | st.integers(1, 20_000)


def check_all(history, model):
    assert len(history) == len(model)
    for at_least in range(1, history.depth + 1):
        assert history.distinct_pages(at_least) == model.distinct_pages(at_least)
        hot, expected = history.hot_pages(at_least), model.hot_pages(at_least)
        assert list(hot) == list(expected)
        for name, words in hot.items():
            assert words.dtype == np.uint64
            pages = to_pages(words, expected[name].size)
            np.testing.assert_array_equal(pages, expected[name], err_msg=f"at_least={at_least}")


@given(
    sizes=st.lists(N_PAGES, min_size=1, max_size=2),
    depth=st.integers(1, 9) | st.sampled_from([16, 17]),
    seeds=st.lists(st.integers(0, 2**32), min_size=1, max_size=20),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, unique=True),
    group_pages=st.none() | st.sampled_from(GROUP_PAGES),
)
@example([8191], 8, list(range(20)), ["full"], None)
@example([40_000], 3, list(range(9)), ["zero", "clustered"], None)
@example([40_000], 3, list(range(9)), ["zero", "clustered"], 512)
def test_hot_pages_equal_the_model(sizes, depth, seeds, kinds, group_pages):
    regions = [Region(f"slot {number}", n_pages) for number, n_pages in enumerate(sizes)]
    history, model = DirtyHistory(regions, depth), ModelHistory(regions, depth)
    stats = GroupStats(regions, group_pages, history=history) if group_pages else None
    for number, seed in enumerate(seeds):
        rng = np.random.default_rng(seed)
        pages = {r.name: make_pages(rng.choice(kinds), r.n_pages, rng) for r in regions}
        words = {name: to_words(bits, garbage=rng) for name, bits in pages.items()}
        if stats:
            stats.update(words, 1.0)
        else:
            history.update(words)
        model.update(pages)
        if number in (0, depth - 1):
            check_all(history, model)
    check_all(history, model)


@pytest.mark.parametrize("attached", [False, True])
def test_the_longest_history(attached):
    """255 intervals, the last that eight counting bits hold; page p is dirty p times in all."""
    regions = [Region("ram", 300)]
    history, model = DirtyHistory(regions, 255), ModelHistory(regions, 255)
    stats = GroupStats(regions, history=history) if attached else None
    for number in range(300):
        pages = {"ram": np.arange(300) > (number * 7) % 300}
        if stats:
            stats.update({"ram": to_words(pages["ram"])}, 1.0)
        else:
            history.update({"ram": to_words(pages["ram"])})
        model.update(pages)
        if number in (126, 127, 128, 254, 299):
            check_all(history, model)


def test_hot_pages_by_hand():
    history = DirtyHistory([Region("ram", 70)], depth=3)
    assert len(history) == 0
    assert history.hot_pages(1)["ram"].tolist() == [0, 0]
    for words in ([0b0111, 1], [0b0011, 0], [0b0001, 0x3F], [0b1001, 0]):
        history.update({"ram": np.array(words, np.uint64)})
    assert len(history) == 3
    assert history.hot_pages(1)["ram"].tolist() == [0b1011, 0x3F]  # the first one is forgotten
    assert history.hot_pages(2)["ram"].tolist() == [0b0001, 0]
    assert history.hot_pages(3)["ram"].tolist() == [0b0001, 0]


def test_hot_pages_are_the_callers_own():
    history = DirtyHistory([RAM], 2)
    history.update({"ram": b"\xff" * 125})
    hot = history.hot_pages(1)["ram"]
    expected = hot.copy()
    history.update({"ram": bytes(125)})
    history.update({"ram": bytes(125)})
    np.testing.assert_array_equal(hot, expected)
    hot[:] = 7
    assert not history.hot_pages(1)["ram"].any()


def test_an_interval_is_taken_too():
    history = DirtyHistory([Region("ram", 64)], 2)
    words = {"ram": np.array([5], np.uint64)}
    history.update(Interval(0, 0, 1, history.regions, words, Provenance("test")))
    assert history.hot_pages(1)["ram"].tolist() == [5]


def test_an_attached_history_is_filled_by_its_stats_only():
    history = DirtyHistory([RAM], 4)
    stats = GroupStats([RAM], history=history)
    assert stats.history is history
    stats.update({"ram": b"\x01" * 125}, 1.0)
    before = history.hot_pages(1)["ram"]
    with pytest.raises(errors.UsageError, match=r"filled by its GroupStats; update that instead"):
        history.update({"ram": b"\xff" * 125})
    assert len(history) == 1
    np.testing.assert_array_equal(history.hot_pages(1)["ram"], before)


def test_an_attached_history_outlives_its_stats():
    history = DirtyHistory([Region("ram", 64)], 4)
    stats = GroupStats(history.regions, history=history)
    stats.update({"ram": b"\x03" + bytes(7)}, 1.0)
    del stats
    assert history.hot_pages(1)["ram"].tolist() == [3]
    with pytest.raises(errors.UsageError, match="filled by its GroupStats"):
        history.update({"ram": bytes(8)})


def test_stats_refuse_a_history_that_is_not_new():
    used = DirtyHistory([RAM])
    used.update({"ram": bytes(125)})
    taken = DirtyHistory([RAM])
    first = GroupStats([RAM], history=taken)
    for history in (used, taken):
        with pytest.raises(
            errors.UsageError, match=r"has seen intervals or has its GroupStats.*new"
        ):
            GroupStats([RAM], history=history)
    first.update({"ram": bytes(125)}, 1.0)
    assert len(taken) == 1


@pytest.mark.parametrize(
    "others",
    [
        [Region("ram", 1001)],
        [Region("vga", 1000)],
        [Region("ram", 1000, page_bytes=65536)],
        [Region("ram", 1000), Region("vga", 1)],
    ],
)
def test_stats_refuse_a_history_of_other_regions(others):
    with pytest.raises(errors.UsageError, match="other regions than the statistics"):
        GroupStats([RAM], history=DirtyHistory(others))


def test_stats_refuse_what_is_no_history():
    with pytest.raises(errors.UsageError, match="history must be a DirtyHistory, not int"):
        GroupStats([RAM], history=16)


@pytest.mark.parametrize("depth", [0, -1, 256, 1.5, "16", None, True, 2**64])
def test_a_depth_out_of_range(depth):
    with pytest.raises(errors.UsageError, match="depth must be a whole number from 1 to 255"):
        DirtyHistory([RAM], depth)


@pytest.mark.parametrize("at_least", [0, -1, 5, 1.5, "1", None, True, 2**64])
def test_at_least_out_of_range(at_least):
    with pytest.raises(errors.UsageError, match="at_least must be from 1 to the depth 4"):
        DirtyHistory([RAM], 4).hot_pages(at_least)


def test_bad_input_appends_nothing():
    history = DirtyHistory([RAM, Region("vga", 8)], 4)
    with pytest.raises(errors.BitmapError, match=r"region 'vga': .* 8 pages"):
        history.update({"ram": b"\xff" * 125, "vga": b"\xff" * 3})
    with pytest.raises(errors.RegionError, match=r"lack \['vga'\]"):
        history.update({"ram": b"\xff" * 125})
    assert len(history) == 0
    assert not history.hot_pages(1)["ram"].any()


def test_the_bitmap_may_be_overwritten_after_update():
    history = DirtyHistory([Region("ram", 64)], 2)
    words = np.array([9], np.uint64)
    history.update({"ram": words})
    words[:] = 0
    assert history.hot_pages(1)["ram"].tolist() == [9]
