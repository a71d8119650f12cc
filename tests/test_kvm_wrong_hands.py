"""KVM sources in wrong hands: what does not fit, threads, signals, leaks."""

import errno
import fcntl
import gc
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from kvm_guest import LOGGINGS, N_PAGES, REGIONS, WORKLOADS, Guest, guest, same_pages

from mempattern import Region
from mempattern.errors import (
    BusyError,
    ClosedError,
    GuestError,
    KVMError,
    RegionError,
    RingOverflowError,
    UsageError,
)
from mempattern.microvm import MicroVM, Workload
from mempattern.sources import KVMDirtyLog, KVMDirtyRing, Memslot
from mempattern.sources import kvm as kvm_source

pytestmark = pytest.mark.usefixtures("kvm")


@pytest.fixture
def vm():
    with MicroVM(REGIONS, WORKLOADS[0]) as vm:
        yield vm


@pytest.fixture
def ring_vm():
    with MicroVM(REGIONS, WORKLOADS[0], logging="ring", ring_entries=1024) as vm:
        yield vm


def test_wrong_descriptors(vm, tmp_path):
    with (tmp_path / "file").open("w") as file:
        for fd in (file.fileno(), vm.vcpu_fds[0]):
            with pytest.raises(KVMError, match="not the kvm-vm descriptor") as caught:
                KVMDirtyLog(fd, vm.memslots)
            assert caught.value.errno == errno.ENOTTY
    device = os.open("/dev/kvm", os.O_RDWR)
    try:
        with pytest.raises(KVMError, match="not the kvm-vm descriptor"):
            KVMDirtyLog(device, vm.memslots)
    finally:
        os.close(device)
    with pytest.raises(KVMError, match="closed") as caught:
        KVMDirtyLog(device, vm.memslots)
    assert caught.value.errno == errno.EBADF
    for fd in (-1, None, "3", 1 << 40):
        with pytest.raises(KVMError, match="file descriptor was expected"):
            KVMDirtyLog(fd, vm.memslots)


@pytest.mark.parametrize("logging", LOGGINGS)
def test_a_descriptor_that_closes_and_becomes_another_vms(logging):
    """The number is used again at once; the source stays with the VM that it was opened on."""
    options = {"logging": logging, "ring_entries": 1024}
    vm = MicroVM(REGIONS, WORKLOADS[0], **options)
    source, fd = vm.dirty_source(), vm.vm_fd
    vm.close()
    del vm
    with MicroVM(REGIONS, WORKLOADS[0], **options) as other, other.dirty_source() as its:
        assert other.vm_fd == fd
        g = Guest(other, its)
        other.step(50)
        nothing = source.collect()
        assert all(len(nothing.pages(region.name)) == 0 for region in REGIONS)
        assert same_pages(its.collect(), g.written())
    source.close()
    source.close()
    with pytest.raises(ClosedError):
        source.collect()


@pytest.mark.parametrize("logging", LOGGINGS)
def test_the_last_collection_may_come_after_the_vm_is_closed(logging):
    with guest(logging) as g:
        g.vm.step(50)
        written = g.written()
        g.vm.close()
        assert same_pages(g.source.collect(), written)


@pytest.mark.parametrize("logging", LOGGINGS)
def test_one_reader_at_a_time(logging):
    with guest(logging) as g:
        with pytest.raises(UsageError, match="one reader"):
            g.vm.dirty_source()
        g.vm.step(50)
        assert same_pages(g.source.collect(), g.written())


def test_a_ring_is_opened_on_a_parked_vm(ring_vm):
    ring_vm.resume()
    with pytest.raises(UsageError, match="pause it"):
        ring_vm.dirty_source()


def test_a_second_harvester_is_told_of():
    with guest("ring") as g:
        g.vm.step(20)
        assert same_pages(g.source.collect(), g.written())
        memslots, fds = g.vm.memslots, g.vm.vcpu_fds
        with KVMDirtyRing(g.vm.vm_fd, fds, memslots, 1024) as second:
            g.vm.step(20)
            second.collect()
            g.vm.step(20)
            with pytest.raises(KVMError, match="somebody else harvests"):
                g.source.collect()
            assert g.source.collect().lost_pages > 0


def test_vcpus_of_another_vm(ring_vm):
    with MicroVM(REGIONS, WORKLOADS[0], logging="ring", ring_entries=1024) as other:
        ring = KVMDirtyRing(ring_vm.vm_fd, other.vcpu_fds, ring_vm.memslots, 1024)
        other.step(20)
        for _ in range(2):  # and not: no page written, the second time
            with pytest.raises(KVMError, match="belongs to another VM") as caught:
                ring.collect()
            assert caught.value.errno == errno.EPROTO
    with pytest.raises(UsageError, match="given twice"):
        KVMDirtyRing(ring_vm.vm_fd, ring_vm.vcpu_fds * 2, ring_vm.memslots, 1024)


def test_a_refused_source_changes_nothing():
    """The manual-protect mode of a VM with a reader is not touched by an open that fails."""
    with guest("log") as g:
        wrong = [Memslot(m.slot, Region(m.region.name, 77)) for m in g.vm.memslots]
        with pytest.raises(KVMError, match="not as many pages"):
            KVMDirtyLog(g.vm.vm_fd, wrong, manual_protect=True)
        for _ in range(3):
            g.vm.step(30)
            assert same_pages(g.source.collect(), g.written())


@pytest.mark.parametrize("slot", [0x7FFF, 0x50001])
def test_slots_that_kvm_cannot_have(vm, slot):
    with pytest.raises(KVMError, match=f"memslot {slot} does not exist"):
        KVMDirtyLog(vm.vm_fd, [Memslot(slot, REGIONS[0])])


def test_regions_of_another_page_size(vm):
    with pytest.raises(RegionError, match="pages of 4096 bytes here, not of 65536"):
        KVMDirtyLog(vm.vm_fd, [Memslot(1, Region("low", 1003, 65536))])


def test_unknown_and_wrong_memslots(vm):
    memslots = vm.memslots
    with pytest.raises(KVMError, match="memslot 99 does not exist") as caught:
        KVMDirtyLog(vm.vm_fd, [*memslots, Memslot(99, Region("none", 10))])
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(KVMError, match="memslot 0 does not exist or does not log"):
        KVMDirtyLog(vm.vm_fd, [Memslot(0, Region("boot", 512))])  # it is there, without logging
    with pytest.raises(KVMError, match="twice"):
        KVMDirtyLog(vm.vm_fd, [memslots[0], Memslot(memslots[0].slot, Region("again", 1003))])
    with pytest.raises(RegionError, match="'low' is named twice"):
        KVMDirtyLog(vm.vm_fd, [memslots[0], memslots[0]])
    with pytest.raises(RegionError, match="no region"):
        KVMDirtyLog(vm.vm_fd, [])
    with pytest.raises(RegionError, match="expected a mempattern"):
        KVMDirtyLog(vm.vm_fd, [REGIONS[0]])
    with pytest.raises(RegionError, match="slot must be"):
        Memslot(-1, REGIONS[0])
    for region in ("ram", None, 5):
        with pytest.raises(RegionError, match="memslot 1: expected a"):
            Memslot(1, region)


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("difference", [-641, -64, -1, 1, 21, 63, 64, 10_000])
def test_a_region_must_have_its_memslots_size(vm, region, difference):
    if region.n_pages + difference < 1:
        return
    slot = vm.memslots[REGIONS.index(region)].slot
    wrong = Region("wrong", region.n_pages + difference)
    with pytest.raises(KVMError, match=f"memslot {slot} has not as many pages") as caught:
        KVMDirtyLog(vm.vm_fd, [Memslot(slot, wrong)])
    assert caught.value.errno == errno.ERANGE


def test_log_and_ring_exclude_each_other(vm, ring_vm):
    with pytest.raises(KVMError, match="logs the other way") as caught:
        KVMDirtyLog(ring_vm.vm_fd, ring_vm.memslots)
    assert caught.value.errno == errno.ENXIO
    with pytest.raises(KVMError, match="logs the other way"):
        KVMDirtyRing(vm.vm_fd, vm.vcpu_fds, vm.memslots, 1024)


def test_wrong_rings(ring_vm):
    make = ring_vm.vm_fd, ring_vm.vcpu_fds, ring_vm.memslots
    for entries in (256, 512, 2048, 65536):
        with pytest.raises(KVMError, match="not that many entries"):
            KVMDirtyRing(*make, entries)
    for entries in (0, -1, 1000, 128, 1.5):
        with pytest.raises(UsageError, match="power of two"):
            KVMDirtyRing(*make, entries)
    with pytest.raises(UsageError, match="vcpu_fds"):
        KVMDirtyRing(ring_vm.vm_fd, [], ring_vm.memslots, 1024)
    for fds in (5, None):
        with pytest.raises(UsageError, match="vcpu_fds are a list"):
            KVMDirtyRing(ring_vm.vm_fd, fds, ring_vm.memslots, 1024)
    with pytest.raises(UsageError, match="kick must be a function"):
        KVMDirtyRing(*make, 1024, kick=5)
    with pytest.raises(KVMError, match="not the kvm-vcpu descriptor"):
        KVMDirtyRing(ring_vm.vm_fd, [ring_vm.vm_fd], ring_vm.memslots, 1024)


def test_a_ring_names_the_memslot_it_was_not_told_of(ring_vm):
    with KVMDirtyRing(ring_vm.vm_fd, ring_vm.vcpu_fds, ring_vm.memslots[:3], 1024) as ring:
        ring_vm.step(300)
        with pytest.raises(KVMError, match="memslot 4, which was not given"):
            ring.collect()
        kept = ring.collect()  # what belongs to the three was kept
        for region in REGIONS[:3]:
            written = np.flatnonzero(ring_vm.page_writes(region.name))
            assert np.array_equal(kept.pages(region.name), written)


def test_a_ring_names_the_page_past_its_region(ring_vm):
    memslots = [*ring_vm.memslots[:3], Memslot(4, Region("high", 2000))]
    with KVMDirtyRing(ring_vm.vm_fd, ring_vm.vcpu_fds, memslots, 1024) as ring:
        ring_vm.step(300)
        with pytest.raises(KVMError, match="of memslot 4 is past the end of its region"):
            ring.collect()
        assert ring.collect().lost_pages > 0


def test_initially_set_needs_manual_protect(vm):
    with pytest.raises(UsageError, match="manual_protect=True"):
        KVMDirtyLog(vm.vm_fd, vm.memslots, initially_set=True)


def test_another_process_is_refused(vm):
    """KVM answers EIO to a child, whose memory the VM does not belong to."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            KVMDirtyLog(vm.vm_fd, vm.memslots)
        except KVMError as error:
            os.write(writer, f"{error.errno} {error}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    assert said.startswith(str(errno.EIO))
    assert "only the process that made the VM" in said


def test_a_guest_that_dies_in_the_middle_leaves_its_log_readable():
    """Page writes past the end of RAM: the guest dies, and what it wrote before is still exact."""
    deadly = Workload("sweep", N_PAGES + 10)
    with guest("log", workloads=deadly) as g:
        with pytest.raises(GuestError, match="vCPU 0 died"):
            g.vm.step(N_PAGES + 5)
        assert same_pages(g.source.collect(), g.written())
        with pytest.raises(GuestError):
            g.vm.resume()


@pytest.mark.parametrize("logging", LOGGINGS)
def test_signals_do_not_disturb_a_collection(logging):
    """Signals arrive during the ioctls; none is lost, and none breaks a collection."""
    arrived = 0

    def count(number, frame):
        nonlocal arrived
        arrived += 1

    old = signal.signal(signal.SIGALRM, count)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        with guest(logging) as g:
            for _ in range(40):
                g.vm.step(100)
                assert same_pages(g.source.collect(), g.written())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert arrived > 10


def test_two_threads_at_one_source_get_an_error_or_their_interval():
    with guest("log") as g:
        outcomes = []

        def collect():
            for _ in range(300):
                try:
                    outcomes.append(g.source.collect())
                except BusyError as error:
                    outcomes.append(error)

        threads = [threading.Thread(target=collect) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(outcomes) == 600
        assert sum(not isinstance(outcome, BusyError) for outcome in outcomes) >= 300


def test_ten_thousand_collections_hold_no_more_memory_or_descriptors():
    with guest("log") as g:
        for _ in range(200):
            g.source.collect()
        descriptors, resident = len(os.listdir("/proc/self/fd")), _resident_kib()
        for _ in range(10_000):
            g.source.collect()
        assert len(os.listdir("/proc/self/fd")) == descriptors
        assert _resident_kib() - resident < 4096


def test_intervals_that_were_held_give_their_memory_back():
    def mappings():
        return Path("/proc/self/maps").read_text().count("\n")

    with guest("log") as g:
        g.source.collect()
        gc.collect()  # what other tests left must not go meanwhile
        before = mappings()
        held = [g.source.collect() for _ in range(100)]
        assert mappings() > before + 400  # each has a guard page of its own
        del held
        g.source.collect()
        assert mappings() < before + 40
        last = g.source.collect()
        g.source.close()
        assert last.pages("low").tolist() == []  # outlives the source, and is then freed
        del last
        assert mappings() <= before


def _resident_kib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def test_descriptors_of_the_vmm_stay_open(vm):
    with vm.dirty_source():
        pass
    assert fcntl.fcntl(vm.vm_fd, fcntl.F_GETFD) >= 0
    vm.step(10)


def test_an_overflow_is_an_error_of_its_own():
    """A real ring cannot be made to overflow; test_kvm_ring.c has the counting."""
    fault = kvm_source.ffi.new("mpat_kvm_fault *")
    error = kvm_source._error(-errno.EOVERFLOW, fault, "collecting dirty pages")
    assert isinstance(error, RingOverflowError)
    assert isinstance(error, OSError)
    assert error.errno == errno.EOVERFLOW
    assert "Treat all pages as dirty" in str(error)


def test_a_memslot_has_at_most_2_31_pages():
    with pytest.raises(RegionError, match=r"at most 2\*\*31 - 1 pages"):
        Memslot(0, Region("huge", 1 << 31))
