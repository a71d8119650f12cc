"""Statistics that follow growing regions, against statistics that had them from the start."""

import contextlib
import gc
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from model import EDGE_SIZES, GROUP_ARRAYS, KINDS, grown, make_pages, to_words

from mempattern import DirtyHistory, GroupStats, Interval, MempatternError, Provenance, Region, Seen
from mempattern.errors import BusyError, RegionError, UsageError

pytestmark = pytest.mark.usefixtures("kernel")

MIB2 = 512 * 4096
RAM = Region("ram", 1000, address=1 << 30)
FIELDS = (*GROUP_ARRAYS, "write_rate")


def larger(region, pages_in_front, pages_behind):
    return replace(
        region,
        address=region.address - pages_in_front * region.page_bytes,
        n_pages=region.n_pages + pages_in_front + pages_behind,
    )


def words_of(regions, *dirty):
    """Bitmaps of the regions, with pages of the first one dirty."""
    pages = {region.name: np.zeros(region.n_pages, bool) for region in regions}
    pages[regions[0].name][list(dirty)] = True
    return {name: to_words(bits) for name, bits in pages.items()}


def assert_same(stats, expected):
    assert stats.regions == expected.regions
    assert stats.n_intervals == expected.n_intervals
    for region in stats.regions:
        assert stats.seen(region.name) == expected.seen(region.name)
        groups, others = stats.groups(region.name), expected.groups(region.name)
        assert groups.region == region
        for field in FIELDS:
            array, other = getattr(groups, field), getattr(others, field)
            np.testing.assert_array_equal(array, other, err_msg=field, strict=True)
    if stats.history is not None:
        assert stats.history.regions == stats.regions
        assert len(stats.history) == len(expected.history)
        for number in range(1, stats.history.depth + 1):
            assert stats.history.distinct_pages(number) == expected.history.distinct_pages(number)
            hot, others = stats.history.hot_pages(number), expected.history.hot_pages(number)
            assert list(hot) == list(others)
            for name, words in hot.items():
                np.testing.assert_array_equal(words, others[name])


SIZES = st.sampled_from(EDGE_SIZES)


@given(
    sizes=st.tuples(SIZES, SIZES),
    group_pages=st.sampled_from([64, 192, 512, 1024]),
    depth=st.none() | st.integers(1, 4),
    groups_in_front=st.integers(0, 70),
    pages_behind=SIZES,
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=8),
    at=st.integers(0, 8),
    seed=st.integers(0, 2**32),
)
@example(
    sizes=(32769, 1),
    group_pages=512,
    depth=None,
    groups_in_front=64,
    pages_behind=32768,
    kinds=["full", "zero", "dense"],
    at=1,
    seed=0,
)
@example(
    sizes=(32768, 513),
    group_pages=512,
    depth=3,
    groups_in_front=1,
    pages_behind=1,
    kinds=["full", "clustered", "hot spot", "hot spot", "zero"],
    at=3,
    seed=0,
)
@example(
    sizes=(511, 1),
    group_pages=64,
    depth=1,
    groups_in_front=1,
    pages_behind=1,
    kinds=["full", "dense", "full"],
    at=2,
    seed=0,
)
def test_it_is_as_if_the_regions_had_always_been_so(
    *, sizes, group_pages, depth, groups_in_front, pages_behind, kinds, at, seed
):
    rng = np.random.default_rng(seed)
    a, b = (Region(f"slot {n}", size, address=(n + 1) << 40) for n, size in enumerate(sizes))
    old = (a, b)
    new = (b, Region("new", 700), larger(a, groups_in_front * group_pages, pages_behind))
    stats, expected = (
        GroupStats(regions, group_pages, history=DirtyHistory(regions, depth) if depth else None)
        for regions in (old, new)
    )
    for number, kind in enumerate(kinds):
        if number == at:
            stats.follow(new)
            assert_same(stats, expected)
        regions = new if number >= at else old
        pages = {r.name: make_pages(kind, r.n_pages, rng) for r in regions}
        seen = stats.update({name: to_words(bits, rng) for name, bits in pages.items()}, 0.25)
        if number < at:
            pages = grown(pages, old, new)
        assert seen == expected.update({n: to_words(bits) for n, bits in pages.items()}, 0.25)
    stats.follow(new)
    assert_same(stats, expected)


def test_by_hand():
    history = DirtyHistory([RAM], 3)
    stats = GroupStats([RAM], history=history)
    stats.update(words_of([RAM], 0, 1, 999), 1.0)
    new = (larger(RAM, 1024, 100), Region("stack", 64))
    stats.follow(new)
    groups = stats.groups("ram")
    assert groups.dirty.tolist() == [0, 0, 2, 1, 0]
    assert groups.last_active.tolist() == [-1, -1, 0, 0, -1]
    assert stats.seen("ram") == Seen(3, 0, 3, 2, 2)
    assert stats.seen("stack") == Seen(0, 0, 0, 0, 0)
    assert stats.groups("stack").last_active.tolist() == [-1]
    assert stats.update(words_of(new, 1023, 1024, 2023), 1.0) == Seen(3, 2, 1, 3, 2)
    assert groups.touched.tolist() == [0, 1, 2, 1, 0]
    assert groups.streak.tolist() == [0, 1, 2, 2, 0]
    assert history.distinct_pages(1) == 3
    assert history.distinct_pages(3) == 4


def test_the_intervals_of_a_source_say_which_regions_there_are():
    stats = GroupStats([RAM])
    later = (larger(RAM, 512, 0), Region("heap", 10, address=1 << 20))
    provenance = Provenance("test")
    for number, regions in enumerate([(RAM,), (RAM,), later, later]):
        words = words_of(regions, 700)
        interval = Interval(number, number, number + 1, regions, words, provenance)
        if number == 2:
            with pytest.raises(RegionError, match="the interval has other regions"):
                stats.update(interval)
        stats.follow(interval.regions)
        stats.update(interval)
    assert stats.groups("ram").dirty_total.tolist() == [0, 2, 2]
    assert stats.groups("ram").streak.tolist() == [0, 2, 0]


def test_nothing_is_done_when_nothing_changed():
    history = DirtyHistory([RAM], 2)
    stats = GroupStats([RAM], history=history)
    alone = DirtyHistory([RAM], 2)
    groups, held, held_alone = stats.groups("ram"), history.held, alone.held
    for regions in (stats.regions, [RAM], (Region("ram", 1000, address=1 << 30),)):
        stats.follow(regions)
        alone.follow(regions)
    assert stats.groups("ram") is groups
    assert history.held is held
    assert alone.held is held_alone


def test_groups_handed_out_before_stay_as_they_are():
    stats = GroupStats([RAM])
    stats.update(words_of([RAM], 3), 1.0)
    before = stats.groups("ram")
    new = (larger(RAM, 512, 0),)
    stats.follow(new)
    stats.update(words_of(new, 3), 1.0)
    del stats
    gc.collect()
    assert before.region == RAM
    assert before.dirty.tolist() == [1, 0]
    assert before.write_rate == pytest.approx([1, 0])


def test_a_history_alone():
    history, expected = DirtyHistory([RAM], 2), DirtyHistory([larger(RAM, 64, 70)], 2)
    old, new = history.regions, expected.regions
    for page in (0, 63, 999):
        history.update(words_of(old, page, 500))
        expected.update(words_of(new, page + 64, 564))
    history.follow(new)
    for k in (1, 2):
        np.testing.assert_array_equal(history.hot_pages(k)["ram"], expected.hot_pages(k)["ram"])
        assert history.distinct_pages(k) == expected.distinct_pages(k) == k + 1
    history.update(words_of(new))
    history.update(words_of(new))
    assert history.distinct_pages(2) == 0
    assert len(history) == 2


def test_an_attached_history_follows_with_its_stats_only():
    history = DirtyHistory([RAM], 2)
    stats = GroupStats([RAM], history=history)
    stats.update(words_of([RAM], 3), 1.0)
    new = (larger(RAM, 512, 0),)
    for _ in range(2):
        with pytest.raises(UsageError, match="filled by its GroupStats; follow with that instead"):
            history.follow(new)
        assert history.distinct_pages(1) == 1
        stats.follow(new)
        new = (larger(new[0], 512, 0),)
    assert stats.history is history


NO_GROWTH = {
    "gone": ([], r"the regions lack \['ram'\]; regions may grow and be added, but none may go"),
    "renamed": ([replace(RAM, name="vga")], r"lack \['ram'\]"),
    "shrunk": (
        [replace(RAM, n_pages=999)],
        "region 'ram' may only grow, and its 1000 pages from 0x40000000 do not all lie in the "
        "999 from 0x40000000",
    ),
    "moved up": ([replace(RAM, n_pages=2000, address=RAM.address + 4096)], "may only grow"),
    "moved down": ([replace(RAM, address=RAM.address - MIB2)], "may only grow"),
    "another page size": (
        [replace(RAM, page_bytes=8192)],
        "region 'ram' must keep its pages of 4096 bytes, not 8192",
    ),
    "misaligned": (
        [larger(RAM, 513, 0)],
        "region 'ram' has 513 pages in front .* by multiples of {step} pages only",
    ),
}


@pytest.mark.parametrize(("changed", "message"), NO_GROWTH.values(), ids=NO_GROWTH)
def test_what_is_no_growth_is_refused_and_changes_nothing(changed, message):
    regions = (Region("first", 64), RAM)
    stats = GroupStats(regions, history=DirtyHistory(regions, 2))
    alone = DirtyHistory(regions, 2)
    stats.update(words_of(regions, 3), 1.0)
    alone.update(words_of(regions, 3))
    groups = stats.groups("ram")
    for object_, step in ((stats, 512), (alone, 64)):
        with pytest.raises(RegionError, match=message.replace("{step}", str(step))):
            object_.follow([Region("first", 128), *changed, Region("new", 7)])
        assert object_.regions == regions
    assert stats.groups("ram") is groups
    assert stats.update(words_of(regions, 3), 1.0) == Seen(1, 1, 0, 1, 1)
    alone.update(words_of(regions, 3))
    for history in (stats.history, alone):
        assert history.hot_pages(2)["first"].tolist() == [8]


def test_what_are_no_regions():
    for follow in (GroupStats([RAM]).follow, DirtyHistory([RAM]).follow):
        for regions, message in (
            ([], "no region was given"),
            (RAM, "expected a list of regions"),
            ([RAM, 5], r"expected a mempattern\.Region, not int"),
            ([RAM, RAM], "named twice"),
        ):
            with pytest.raises(RegionError, match=message):
                follow(regions)


def test_there_is_no_memory_for_it():
    stats = GroupStats([RAM], history=DirtyHistory([RAM]))
    stats.update(words_of([RAM], 3), 1.0)
    for follow in (stats.follow, DirtyHistory([RAM]).follow):
        with pytest.raises(MemoryError, match="give it smaller or fewer regions"):
            follow([replace(RAM, n_pages=1 << 52)])
    assert stats.regions == stats.history.regions == (RAM,)
    assert stats.update(words_of([RAM], 3), 1.0) == Seen(1, 1, 0, 1, 1)


def test_no_update_is_lost_to_a_follow_in_another_thread():
    region = Region("ram", 1 << 20)
    stats = GroupStats([region], history=DirtyHistory([region], 2))
    counted = [0, 0]
    wrong = []
    stop = threading.Event()

    def count(number):
        while not stop.is_set():
            words = words_of(stats.regions, 3)
            try:
                stats.update(words, 1.0)
                counted[number] += 1
                stats.history.distinct_pages(1)
            except MempatternError:
                pass
            except BaseException as error:
                wrong.append(error)
                return

    threads = [threading.Thread(target=count, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(30):
            region = larger(region, 0, 10_000)
            while stats.regions != (region,):
                with contextlib.suppress(MempatternError):
                    stats.follow([region])
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong
    assert stats.groups("ram").active_intervals[0] == sum(counted)


def test_who_comes_in_between_is_told():
    """What another thread sees if follow() ends between its look at the regions and its update."""
    history, stats = DirtyHistory([RAM]), GroupStats([RAM])
    held, held_stats = history.held, stats._held
    for object_ in (history, stats):
        object_.follow([larger(RAM, 512, 0)])
    history.held, stats._held = held, held_stats
    with pytest.raises(BusyError):
        history.update(words_of([RAM], 3))
    with pytest.raises(BusyError):
        stats.update(words_of([RAM], 3), 1.0)
    with pytest.raises(BusyError):
        stats.follow([larger(RAM, 512, 0)])


# ---- distinct pages ----------------------------------------------------------------------------


def test_distinct_pages_by_hand():
    regions = [Region("ram", 1000), Region("vga", 65)]
    history = DirtyHistory(regions, 3)
    assert [history.distinct_pages(last) for last in (1, 2, 3)] == [0, 0, 0]
    for ram, vga in (([0, 999], [64]), ([1], [64, 0]), ([], []), ([0, 1, 2], [])):
        pages = {"ram": np.zeros(1000, bool), "vga": np.zeros(65, bool)}
        pages["ram"][ram] = True
        pages["vga"][vga] = True
        history.update({name: to_words(bits) for name, bits in pages.items()})
        if len(history) == 1:
            assert [history.distinct_pages(last) for last in (1, 2, 3)] == [3, 3, 3]
    assert [history.distinct_pages(last) for last in (1, 2, 3)] == [3, 3, 5]


@pytest.mark.parametrize("last", [0, -1, 5, 1.5, "1", None, True, 2**64])
def test_last_out_of_range(last):
    with pytest.raises(UsageError, match="last must be from 1 to the depth 4"):
        DirtyHistory([RAM], 4).distinct_pages(last)
