"""What analysis costs beside the kernel. KVM's times here are this host's, not hardware's."""

import os

import numpy as np
import pytest
from conftest import keep

from mempattern import DirtyHistory, GroupStats, Region
from mempattern.microvm import MicroVM, Workload

RING_ENTRIES = 65536


@pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm does not open")
@pytest.mark.parametrize(
    ("n_pages", "rounds"), [(131_072, 10), (524_288, 6)], ids=["0.5GiB", "2GiB"]
)
def bench_analysis_beside_get_dirty_log(benchmark, n_pages, rounds):
    """Every page of a real guest dirty: KVM_GET_DIRTY_LOG, then all statistics and history."""
    region = Region("ram", n_pages)
    stats = GroupStats([region], history=DirtyHistory([region]))
    for _ in range(stats.history.depth + 1):  # memory that is backed, as after a few seconds
        stats.update({"ram": np.full(region.n_words, 2**64 - 1, np.uint64)}, duration_s=0.1)
    with MicroVM([region], Workload("sweep", region.n_pages)) as vm, vm.dirty_source() as source:
        kernel_s = []
        interval = None

        def dirty_everything():
            nonlocal interval
            vm.step(region.n_pages)
            interval = source.collect()
            kernel_s.append(interval.collect_ns / 1e9)

        benchmark.pedantic(
            lambda: stats.update(interval), setup=dirty_everything, rounds=rounds, warmup_rounds=1
        )
        assert len(interval.pages("ram")) == region.n_pages
    ours = benchmark.stats.stats.data
    shares = [100 * our / its for our, its in zip(ours, kernel_s[-len(ours) :], strict=True)]
    keep(benchmark, "KVM_GET_DIRTY_LOG, dense", shares, at_most=5, unit=" %")


@pytest.mark.parametrize("pages", ["in a row", "anywhere"])
def bench_ring_harvest(benchmark, native, pages):
    """65536 entries of a 64 GiB guest into its bitmap, without KVM's reset."""
    ffi, lib = native
    n_pages = 1 << 24
    if pages == "in a row":
        numbers = np.arange(RING_ENTRIES, dtype=np.uint64)
    else:
        numbers = np.random.default_rng(3).integers(0, n_pages, RING_ENTRIES, dtype=np.uint64)
    entries = ffi.new("char[]", 16 * RING_ENTRIES)
    bitmap = np.zeros(n_pages // 64, np.uint64)
    words = ffi.from_buffer("uint64_t[]", bitmap)

    def publish():
        bitmap[:] = 0
        lib.bench_publish(entries, ffi.from_buffer("uint64_t[]", numbers), RING_ENTRIES)

    taken = benchmark.pedantic(
        lambda: lib.bench_harvest(entries, RING_ENTRIES, words, n_pages),
        setup=publish, rounds=60, warmup_rounds=3,
    )  # fmt: skip
    assert taken == RING_ENTRIES
    assert np.bitwise_count(bitmap).sum(dtype=int) == len(np.unique(numbers))
    per_entry_ns = [1e9 * seconds / RING_ENTRIES for seconds in benchmark.stats.stats.data]
    keep(benchmark, "an entry", per_entry_ns, at_most=10, unit=" ns")


@pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm does not open")
@pytest.mark.parametrize("logging", ["log", "manual", "ring"])
def bench_collect(benchmark, logging):
    """A whole collection of 4096 dirty pages of 131072, reset or re-protected; for orientation."""
    region = Region("ram", 131_072)
    work = Workload("stride", region.n_pages, stride=32)
    with MicroVM([region], work, logging=logging) as vm, vm.dirty_source() as source:
        benchmark.pedantic(source.collect, setup=lambda: vm.step(4096), rounds=15, warmup_rounds=2)
    per_page_ns = [1e9 * seconds / 4096 for seconds in benchmark.stats.stats.data]
    keep(benchmark, "a dirty page", per_page_ns, unit=" ns")
