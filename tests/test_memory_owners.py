"""Who owns the memory of bitmaps and arrays: buffers, views, leaks, and threads that meet."""

import gc
import mmap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from model import GROUP_ARRAYS
from test_bitmap_input import BYTES, EXPECTED, N_PAGES, RNG, WORDS, mapped, new_stats

from mempattern import (
    DirtyHistory,
    GroupStats,
    Region,
    Seen,
    group_counts,
)
from mempattern.errors import (
    BitmapError,
    BusyError,
    UsageError,
)


@pytest.mark.parametrize("make", [WORDS.copy, lambda: bytearray(BYTES), mapped])
def test_the_callers_buffer_may_be_overwritten_after_update(make):
    bitmap, stats = make(), new_stats()
    assert stats.update({"ram": bitmap}, 1.0) == EXPECTED
    memoryview(bitmap).cast("B")[:] = bytes(128)
    groups = stats.groups("ram")
    assert groups.dirty.sum() == EXPECTED.dirty_pages
    assert stats.update({"ram": WORDS}, 1.0).redirtied_pages == EXPECTED.dirty_pages


def test_no_hold_on_the_callers_buffer_stays():
    growing, mapping, stats = bytearray(BYTES), mapped(), new_stats()
    for bitmap in (growing, mapping):
        stats.update({"ram": bitmap}, 1.0)
        group_counts(bitmap, N_PAGES)
        with pytest.raises(BitmapError):
            group_counts(bitmap, 64)
    growing.append(0)  # BufferError while anybody holds it
    mapping.close()


@pytest.mark.parametrize("field", GROUP_ARRAYS)
def test_views_are_read_only(field):
    view = getattr(new_stats().groups("ram"), field)
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    with pytest.raises(ValueError, match="cannot set WRITEABLE"):
        view.flags.writeable = True


def test_views_follow_the_updates_without_a_copy():
    stats = new_stats()
    views = stats.groups("ram").dirty
    assert not views.any()
    stats.update({"ram": WORDS}, 1.0)
    assert views.sum() == EXPECTED.dirty_pages
    assert np.shares_memory(views, stats.groups("ram").dirty)


@pytest.mark.parametrize("with_history", [False, True])
def test_views_outlive_their_stats(with_history):
    regions = [Region("ram", 1 << 20)]
    history = DirtyHistory(regions, 3) if with_history else None
    stats = GroupStats(regions, 64, history=history)
    bitmap = RNG.integers(0, 2**64, 1 << 14, dtype=np.uint64)
    stats.update({"ram": bitmap}, 1.0)
    groups = stats.groups("ram")
    views = [getattr(groups, field) for field in GROUP_ARRAYS]
    copies = [view.copy() for view in views]
    rate = groups.write_rate
    del stats, history
    gc.collect()
    others = [GroupStats(regions, 64) for _ in range(8)]  # which would take the memory over
    for other in others:
        other.update({"ram": np.full(1 << 14, 2**64 - 1, np.uint64)}, 1.0)
    np.testing.assert_array_equal(groups.write_rate, rate)
    del groups
    gc.collect()
    for view, copy in zip(views, copies, strict=True):
        np.testing.assert_array_equal(view, copy)


def mapped_bytes():
    return int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE


@pytest.mark.parametrize("with_history", [False, True])
def test_nothing_leaks(with_history):
    regions = [Region("ram", 1 << 24)]
    bitmap = np.zeros(1 << 18, np.uint64)

    def once():
        history = DirtyHistory(regions, 4) if with_history else None
        stats = GroupStats(regions, history=history)
        stats.update({"ram": bitmap}, 1.0)
        if history:
            with pytest.raises(UsageError):
                GroupStats(regions, history=history)
        return stats.groups("ram").dirty, stats.groups("ram").dirty_total

    once()
    gc.collect()
    before = mapped_bytes()
    for _ in range(100):  # each with two bitmaps of 2 MiB at the least
        once()
    gc.collect()
    assert mapped_bytes() - before < 64 << 20


def in_two_threads(work):
    with ThreadPoolExecutor(2) as pool:
        for each in [pool.submit(work) for _ in range(2)]:
            each.result()


def test_two_threads_are_told_apart_and_totals_stay_right():
    """Each update succeeds or raises BusyError, and only those that succeeded are counted."""
    n_pages = (1 << 22) + 3
    history = DirtyHistory([Region("ram", n_pages)], 255)
    stats = GroupStats([Region("ram", n_pages)], history=history)
    groups = stats.groups("ram")
    bitmap = np.full(-(-n_pages // 64), 2**64 - 1, np.uint64)
    done, busy, until = [], [], time.monotonic() + 20

    def work():
        while (len(busy) < 5 or len(done) < 20) and time.monotonic() < until:
            try:
                done.append(stats.update({"ram": bitmap}, 1.0))
                _ = groups.write_rate
            except BusyError as error:
                busy.append(str(error))

    in_two_threads(work)
    assert busy, "the threads never met"
    assert set(busy) == {"this GroupStats is in use by another thread; use one at a time"}
    assert stats.n_intervals == len(done)
    redirtied = [seen.redirtied_pages for seen in done]
    assert sorted(redirtied) == [0] + [n_pages] * (len(done) - 1)
    assert all(seen.dirty_pages == n_pages and seen.runs == 1 for seen in done)
    assert set(groups.active_intervals) == set(groups.streak) == {len(done)}
    assert groups.dirty_total.sum() == n_pages * len(done)
    assert len(history) == min(255, len(done))
    np.testing.assert_allclose(groups.write_rate[:-1], 512, rtol=1e-9)


def test_different_objects_are_independent():
    """No BusyError between two statistics in two threads."""
    bitmap = np.full(1 << 14, 2**64 - 1, np.uint64)

    def work():
        stats = GroupStats([Region("ram", 1 << 20)])
        for _ in range(200):
            seen = stats.update({"ram": bitmap}, 1.0)
        assert seen == Seen(1 << 20, 1 << 20, 0, 2048, 1)

    in_two_threads(work)
