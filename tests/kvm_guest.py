"""A real guest under KVM, its source of dirty pages, and the truth: its own page counters."""

from contextlib import contextmanager

import numpy as np

from mempattern import Region
from mempattern.microvm import MicroVM, Workload

LOGGINGS = ("log", "manual", "initially-set", "ring")
REGIONS = (Region("low", 1003), Region("tiny", 1), Region("even", 640), Region("high", 3001))
N_PAGES = sum(region.n_pages for region in REGIONS)
WORKLOADS = (
    Workload("uniform", N_PAGES, seed=3),
    Workload("phased", N_PAGES, seed=4, phases=("zipf", "stride"), phase_steps=50, stride=77),
)


class Guest:
    """A micro VM, its source, and the truth: which pages' counters moved since the last look."""

    def __init__(self, vm, source):
        self.vm = vm
        self.source = source
        self.before = self._counters()

    def _counters(self):
        return {r.name: self.vm.page_writes(r.name).copy() for r in self.vm.regions}

    def written(self):
        now = self._counters()
        moved = {name: np.flatnonzero(now[name] != self.before[name]) for name in now}
        self.before = now
        return moved


@contextmanager
def guest(logging, regions=REGIONS, workloads=WORKLOADS, ring_entries=1024):
    with (
        MicroVM(regions, workloads, logging=logging, ring_entries=ring_entries) as vm,
        vm.dirty_source() as source,
    ):
        yield Guest(vm, source)


def same_pages(interval, written):
    return all(
        np.array_equal(interval.pages(region.name), written[region.name])
        for region in interval.regions
    )
