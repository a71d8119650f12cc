"""Interval and Provenance: values that do not change."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model import EDGE_SIZES, KINDS, make_pages, to_words

from mempattern import GroupStats, Interval, Provenance, Region, errors

RAM = Region("ram", 100)
HERE = Provenance("test", ("sees nothing of devices",))


def interval_of(words, region=RAM, start_ns=1000, end_ns=2000, **options):
    return Interval(3, start_ns, end_ns, (region,), {region.name: words}, HERE, **options)


@given(
    st.sampled_from(EDGE_SIZES) | st.integers(1, 5000),
    st.sampled_from(KINDS),
    st.integers(0, 2**32),
)
def test_pages_equal_the_model(n_pages, kind, seed):
    pages = make_pages(kind, n_pages, np.random.default_rng(seed))
    indices = interval_of(to_words(pages), Region("ram", n_pages)).pages("ram")
    assert indices.dtype == np.int64
    np.testing.assert_array_equal(indices, np.flatnonzero(pages))


def test_pages_past_the_end_are_no_pages():
    """As everywhere else: bits past n_pages are ignored."""
    words = np.array([1 << 63, 2**64 - 1], np.uint64)
    np.testing.assert_array_equal(interval_of(words).pages("ram"), [63, *range(64, 100)])


def test_pages_of_each_region():
    regions = (RAM, Region("vga", 64))
    words = {"ram": np.array([1, 0], np.uint64), "vga": np.array([2], np.uint64)}
    interval = Interval(0, 0, 1, regions, words, HERE)
    assert interval.pages("ram").tolist() == [0]
    assert interval.pages("vga").tolist() == [1]


def test_nothing_can_be_set():
    interval = interval_of(np.zeros(2, np.uint64))
    for field in dataclasses.fields(interval):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(interval, field.name, None)
    with pytest.raises(TypeError):
        interval.bitmaps["ram"] = None
    with pytest.raises(dataclasses.FrozenInstanceError):
        HERE.source = "another"


def test_the_callers_mapping_is_the_callers():
    words = {"ram": np.array([1, 0], np.uint64)}
    interval = Interval(0, 0, 1, (RAM,), words, HERE)
    words.clear()
    assert interval.pages("ram").tolist() == [0]


def test_the_defaults_and_the_fields():
    interval = interval_of(np.zeros(2, np.uint64))
    assert (interval.index, interval.start_ns, interval.end_ns) == (3, 1000, 2000)
    assert (interval.lost_pages, interval.collect_ns) == (0, 0)
    assert interval.provenance.blind_spots == ("sees nothing of devices",)


@pytest.mark.parametrize(
    ("start_ns", "end_ns", "seconds"),
    [(0, 1, 1e-9), (5, 1_500_000_005, 1.5), (-10, 10, 2e-8), (2**62, 2**62 + 10**9, 1.0)],
)
def test_duration(start_ns, end_ns, seconds):
    interval = interval_of(np.zeros(2, np.uint64), start_ns=start_ns, end_ns=end_ns)
    assert interval.duration_s == seconds


@pytest.mark.parametrize(("start_ns", "end_ns"), [(5, 5), (5, 4), (0, -1)])
def test_an_interval_must_end_after_it_starts(start_ns, end_ns):
    with pytest.raises(errors.UsageError, match=rf"interval 3 .*{end_ns} ns .*{start_ns} ns"):
        interval_of(np.zeros(2, np.uint64), start_ns=start_ns, end_ns=end_ns)


def test_each_region_has_its_bitmap():
    with pytest.raises(errors.RegionError, match="no bitmap of region 'vga'"):
        Interval(0, 0, 1, (RAM, Region("vga", 1)), {"ram": np.zeros(2, np.uint64)}, HERE)


def test_what_is_no_array_of_words_is_refused():
    for bitmap in (bytes(16), np.zeros(2, np.int64), np.zeros((1, 2), np.uint64), None, "words"):
        with pytest.raises((errors.BitmapError, errors.RegionError), match="'ram'"):
            Interval(0, 0, 1, (Region("ram", 100),), {"ram": bitmap}, Provenance("test"))


def test_bitmaps_become_read_only_and_the_callers_stays_writable():
    words = np.zeros(2, np.uint64)
    interval = Interval(0, 0, 1, (Region("ram", 100),), {"ram": words}, Provenance("test"))
    with pytest.raises(ValueError, match="read-only"):
        interval.bitmaps["ram"][0] = 1
    words[0] = 1


def test_pages_of_another_region():
    interval = Interval(
        0, 0, 1, (Region("ram", 64),), {"ram": np.zeros(1, np.uint64)}, Provenance("test")
    )
    with pytest.raises(errors.RegionError, match="no region 'vga' in interval 0"):
        interval.pages("vga")


@pytest.mark.parametrize("shape", [1, 3, (2, 1)])
def test_what_cannot_be_written_to_must_be_of_the_regions_size_too(shape):
    words = np.zeros(shape, np.uint64)
    words.flags.writeable = False
    with pytest.raises(errors.BitmapError):
        interval_of(words)


def test_an_interval_goes_to_statistics_of_any_order_of_its_regions():
    regions = RAM, Region("vga", 64)
    words = {"ram": np.array([7, 0], np.uint64), "vga": np.array([1], np.uint64)}
    interval = Interval(0, 0, 1, regions, words, HERE)
    for order in (regions, regions[::-1], regions):
        stats = GroupStats(order)
        stats.update(interval)
        assert {name: seen.dirty_pages for name, seen in stats.active.items()} == {
            "ram": 3, "vga": 1,
        }  # fmt: skip
    with pytest.raises(errors.RegionError):
        GroupStats(regions[:1]).update(interval)
