"""The KVM sources against what a real guest wrote: its own page counters, read from its memory."""

import time
from itertools import pairwise

import numpy as np
import pytest
from kvm_guest import LOGGINGS, REGIONS, WORKLOADS, Guest, guest, same_pages

from mempattern import GroupStats
from mempattern.errors import (
    GuestError,
    UsageError,
)
from mempattern.microvm import MicroVM

pytestmark = pytest.mark.usefixtures("kvm")


@pytest.mark.parametrize("logging", LOGGINGS)
def test_exactly_the_pages_written_and_nothing_left_behind(logging):
    with guest(logging) as g:
        for n_steps in (1, 64, 1000, 5000):
            g.vm.step(n_steps)
            interval = g.source.collect()
            written = g.written()
            assert sum(len(pages) for pages in written.values()) > 0
            assert same_pages(interval, written)
            assert interval.lost_pages == 0
            assert interval.end_ns > interval.start_ns
            assert 0 < interval.collect_ns <= interval.end_ns - interval.start_ns + 10**9
        after = g.source.collect()
        assert all(len(after.pages(region.name)) == 0 for region in REGIONS)


@pytest.mark.parametrize("logging", LOGGINGS)
def test_a_running_guest_loses_nothing(logging):
    """One more collection after the vCPUs stopped completes the union; then nothing is left."""
    with guest(logging) as g:
        seen = {region.name: set() for region in REGIONS}
        g.vm.resume()
        for interval in g.source.intervals(0.02, 15):
            for region in REGIONS:
                seen[region.name].update(interval.pages(region.name))
        g.vm.pause()
        last = g.source.collect()
        for region in REGIONS:
            seen[region.name].update(last.pages(region.name))
        written = g.written()
        assert {name: sorted(pages) for name, pages in seen.items()} == {
            name: list(pages) for name, pages in written.items()
        }
        nothing = g.source.collect()
        assert all(len(nothing.pages(region.name)) == 0 for region in REGIONS)


@pytest.mark.parametrize("logging", LOGGINGS)
def test_what_was_logged_before_the_source_was_opened_is_not_in_it(logging):
    with MicroVM(REGIONS, WORKLOADS, logging=logging, ring_entries=1024) as vm:
        if logging != "ring":  # a full ring without a reader stops the guest
            vm.step(500)
        else:
            vm.step(50)
        with vm.dirty_source() as source:
            assert all(len(source.collect().pages(region.name)) == 0 for region in REGIONS)
            vm.step(10)
            assert sum(len(source.collect().pages(region.name)) for region in REGIONS) > 0


@pytest.mark.parametrize("logging", LOGGINGS)
def test_a_source_can_be_opened_again_in_the_middle(logging):
    with MicroVM(REGIONS, WORKLOADS, logging=logging, ring_entries=1024) as vm:
        for n_steps in (7, 300, 400, 333):
            with vm.dirty_source() as source:
                g = Guest(vm, source)
                vm.step(n_steps)
                assert same_pages(source.collect(), g.written())


def test_a_ring_that_fills_up_is_drained_by_the_vcpu():
    with guest("ring", ring_entries=256) as g:
        g.vm.step(20_000)
        interval = g.source.collect()
        assert same_pages(interval, g.written())
        assert interval.lost_pages == 0


def test_a_full_ring_without_a_reader_stops_the_guest_with_a_reason():
    with (
        MicroVM(REGIONS, WORKLOADS[0], logging="ring", ring_entries=256) as vm,
        pytest.raises(GuestError, match="dirty_source"),
    ):
        vm.step(5000, timeout_s=20)


def test_log_and_ring_and_manual_agree_on_the_same_steps():
    seen = []
    for logging in LOGGINGS:
        with guest(logging, workloads=WORKLOADS[0]) as g:
            g.vm.step(3000)
            interval = g.source.collect()
            seen.append({region.name: interval.pages(region.name).tolist() for region in REGIONS})
    assert seen[0] == seen[1] == seen[2] == seen[3]


def test_intervals_follow_each_other_and_stay_as_they_were():
    with guest("log") as g:
        intervals, copies = [], []
        for _ in range(6):
            g.vm.step(200)
            intervals.append(g.source.collect())
            copies.append({n: b.copy() for n, b in intervals[-1].bitmaps.items()})
        assert [interval.index for interval in intervals] == list(range(6))
        for previous, interval in pairwise(intervals):
            assert interval.start_ns == previous.end_ns
        for interval, copy in zip(intervals, copies, strict=True):
            for name, bitmap in interval.bitmaps.items():
                assert np.array_equal(bitmap, copy[name])
                with pytest.raises(ValueError, match="read-only"):
                    bitmap[0] = 1


def test_period_stays_on_its_grid():
    with guest("log") as g:
        start = time.monotonic()
        ends = []
        for interval in g.source.intervals(0.05, 6):
            ends.append(interval.end_ns / 1e9 - start)
            time.sleep(0.12 if len(ends) == 2 else 0)  # a consumer that misses two ticks
        assert all(end >= 0.05 * (tick + 1) - 0.001 for tick, end in enumerate(ends))
        assert ends[2] - ends[1] >= 0.12
        with pytest.raises(UsageError, match="period_s"):
            g.source.intervals(0)


def test_statistics_of_a_real_guest():
    """From the guest's writes to per-group statistics, against the guest's counters."""
    with guest("log") as g:
        stats = GroupStats(REGIONS, group_pages=64)
        for _ in range(5):
            g.vm.step(700)
            seen = stats.update(g.source.collect())
            written = g.written()
            assert seen.dirty_pages == sum(len(pages) for pages in written.values())
            for region in REGIONS:
                per_group = np.bincount(written[region.name] // 64, minlength=region.n_groups(64))
                assert np.array_equal(stats.groups(region.name).dirty, per_group)
        for region in REGIONS:
            touched = np.flatnonzero(g.vm.page_writes(region.name))
            assert stats.groups(region.name).touched.sum() == len(touched)
