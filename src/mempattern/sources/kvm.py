"""The dirty log and the dirty ring of a KVM virtual machine of this process.

KVM answers these ioctls only in the process that made the VM, so these sources are for a VMM that
embeds the library. It hands over descriptors that it opened and may close when it likes: the
sources keep duplicates, and with them the VM, until they are closed.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex

from mempattern._checks import whole_number
from mempattern._memory import BitmapPool
from mempattern._native import ffi, lib
from mempattern._results import busy
from mempattern.errors import (
    ClosedError,
    KVMError,
    RegionError,
    RingOverflowError,
    UsageError,
)
from mempattern.interval import Interval, Provenance
from mempattern.regions import Region, check_regions
from mempattern.sources.base import Source

_DEVICES = "writes of devices and of the VMM itself that nobody marks in KVM's log"
_KVM_ITSELF = "writes that KVM makes for the guest while no vCPU of it runs"
_HARDWARE_BUFFER = "pages in a running vCPU's hardware buffer (Intel PML), until its next exit"
_MAX_SLOT_PAGES = (1 << 31) - 1  # KVM_MEM_MAX_NR_PAGES


@dataclass(frozen=True, slots=True)
class Memslot:
    """A KVM memslot and the region it is.

    `slot` is as in kvm_userspace_memory_region: the id in bits 0-15, the address space in 16-31.

    Raises `RegionError` for a slot that does not fit, for what is no `Region`, and for one of more
    than 2**31 - 1 pages, the most that KVM has in a memslot.
    """

    slot: int
    region: Region
    """Its pages are the memslot's, all of them, in their order."""

    def __post_init__(self) -> None:
        if whole_number(self.slot, 0, (1 << 32) - 1) is None:
            raise RegionError(f"slot must be a whole number from 0 to 2**32 - 1, not {self.slot!r}")
        if not isinstance(self.region, Region):
            raise RegionError(
                f"memslot {self.slot}: expected a mempattern.Region, not "
                f'{type(self.region).__name__}: write Region("ram", n_pages=...)'
            )
        if self.region.n_pages > _MAX_SLOT_PAGES:
            raise RegionError(
                f"memslot {self.slot}: KVM has at most 2**31 - 1 pages in one, "
                f"not {self.region.n_pages}"
            )


class _KVMSource(Source):
    """Both sources: they differ in how the C object is opened, collected and closed."""

    _collect: Callable[..., int]

    def __init__(self, memslots: Sequence[Memslot], provenance: Provenance) -> None:
        self.memslots: tuple[Memslot, ...] = tuple(memslots)
        """As given; `regions` are theirs, in the same order."""
        self.regions: tuple[Region, ...] = check_regions(
            memslot.region for memslot in self.memslots
        )
        self.provenance: Provenance = provenance
        page_bytes = os.sysconf("SC_PAGESIZE")
        for region in self.regions:
            if region.page_bytes != page_bytes:
                raise RegionError(
                    f"region {region.name!r}: KVM logs pages of {page_bytes} bytes here, "
                    f"not of {region.page_bytes}"
                )
        self._pools = [BitmapPool(region.n_pages) for region in self.regions]
        self._handle: Any = None
        self._indices = itertools.count()

    def _memslot_array(self) -> Any:
        return ffi.new(
            "mpat_memslot[]",
            [(memslot.slot, memslot.region.n_pages) for memslot in self.memslots],
        )

    @property
    def handle(self) -> Any:
        """The C object. Raises `ClosedError` after `close`."""
        if self._handle is None:
            raise ClosedError(f"this {type(self).__name__} is closed; open a new one")
        return self._handle

    def collect(self) -> Interval:
        """The pages written since the collection before, or since the source was opened.

        Raises `KVMError` (with `errno`), `BusyError`, `ClosedError`. Pages already taken from KVM
        when it fails come with the next collection, or are counted in its `lost_pages`; a source
        that fails for good (a ring with EPROTO or an overflow) raises the same ever after.
        """
        handle = self.handle
        taken = [pool.take() for pool in self._pools]
        pointers = ffi.new("uint64_t *[]", [pointer for pointer, _ in taken])
        out = ffi.new("mpat_collection *")
        fault = ffi.new("mpat_kvm_fault *")
        result = type(self)._collect(handle, pointers, out, fault)
        if result:
            raise _error(result, fault, "collecting dirty pages")
        return self.interval_of(next(self._indices), (array for _, array in taken), out)

    @property
    def closed(self) -> bool:
        """Whether it was closed; `collect` raises `ClosedError` then."""
        return self._handle is None

    def close(self) -> None:
        self._handle = None
        for pool in self._pools:
            pool.close()


class KVMDirtyLog(_KVMSource):
    """KVM_GET_DIRTY_LOG over memslots that have KVM_MEM_LOG_DIRTY_PAGES.

    With `manual_protect` the log is read first and the pages are write-protected by
    KVM_CLEAR_DIRTY_LOG afterwards; `initially_set` goes with a VM whose memslots start with every
    page marked dirty (KVM_DIRTY_LOG_INITIALLY_SET). The VM's mode cannot be read back, so it is set
    to what is asked here. What was logged before is dropped: the first interval starts now.

    The source must be the only reader of the log. Two memslots of one region name are refused, and
    so is a region whose size is not the memslot's.

    Raises `KVMError` (with `errno`), `RegionError`, `UsageError`.
    Source: Linux Documentation/virt/kvm/api.rst, 4.8, 4.117, 7.18.
    """

    _collect = lib.mpat_kvm_log_collect

    def __init__(
        self,
        vm_fd: SupportsIndex,
        memslots: Iterable[Memslot],
        *,
        manual_protect: bool = False,
        initially_set: bool = False,
    ) -> None:
        if initially_set and not manual_protect:
            raise UsageError("initially_set goes with manual_protect=True; KVM has it only there")
        super().__init__(_memslots(memslots), Provenance("kvm-dirty-log", (_DEVICES,)))
        flags = lib.MPAT_KVM_MANUAL_PROTECT * manual_protect
        flags |= lib.MPAT_KVM_INITIALLY_SET * initially_set
        out = ffi.new("mpat_kvm_log **")
        fault = ffi.new("mpat_kvm_fault *")
        result = lib.mpat_kvm_log_open(
            _descriptor(vm_fd), self._memslot_array(), len(self.memslots), flags, out, fault
        )
        if result:
            raise _error(result, fault, "opening the dirty log")
        self._handle = ffi.gc(out[0], lib.mpat_kvm_log_close)


class KVMDirtyRing(_KVMSource):
    """The dirty rings of all the VM's vCPUs. Only those of the given vCPUs are seen.

    The VMM enabled KVM_CAP_DIRTY_LOG_RING (or _ACQ_REL) with `ring_entries` entries before it made
    the vCPUs. List every memslot that logs dirty pages: all share the rings. On
    KVM_EXIT_DIRTY_RING_FULL call `drain` before the vCPU runs again.

    `kick`, if given, is called before each collection: it must make every running vCPU leave
    KVM_RUN once, so that pages in hardware buffers reach the rings.

    Raises `KVMError` (with `errno`), `RegionError`, `UsageError`.
    Source: Linux Documentation/virt/kvm/api.rst, 8.29.
    """

    _collect = lib.mpat_kvm_ring_collect

    def __init__(
        self,
        vm_fd: SupportsIndex,
        vcpu_fds: Iterable[SupportsIndex],
        memslots: Iterable[Memslot],
        ring_entries: SupportsIndex = 65536,
        *,
        kick: Callable[[], None] | None = None,
    ) -> None:
        if kick is not None and not callable(kick):
            raise UsageError(f"kick must be a function of no arguments, or None, not {kick!r}")
        blind_spots = (_DEVICES, _KVM_ITSELF, *(() if kick else (_HARDWARE_BUFFER,)))
        super().__init__(_memslots(memslots), Provenance("kvm-dirty-ring", blind_spots))
        n_entries = whole_number(ring_entries, 1, (1 << 32) - 1)
        if n_entries is None:
            raise UsageError(f"ring_entries must be a power of two, not {ring_entries!r}")
        if not isinstance(vcpu_fds, Iterable):
            raise UsageError(f"vcpu_fds are a list of descriptors, not {vcpu_fds!r}: write [fd]")
        descriptors = [_descriptor(fd) for fd in vcpu_fds]
        if not descriptors:
            raise UsageError("no vcpu_fds were given; the rings belong to the vCPUs")
        if len(set(descriptors)) < len(descriptors):
            raise UsageError("a vCPU was given twice; give the descriptor of each vCPU once")
        self._kick = kick
        out = ffi.new("mpat_kvm_ring **")
        fault = ffi.new("mpat_kvm_fault *")
        result = lib.mpat_kvm_ring_open(
            _descriptor(vm_fd),
            descriptors,
            len(descriptors),
            self._memslot_array(),
            len(self.memslots),
            n_entries,
            out,
            fault,
        )
        if result:
            raise _error(result, fault, f"opening the dirty rings of {n_entries} entries")
        self._handle = ffi.gc(out[0], lib.mpat_kvm_ring_close)

    def collect(self) -> Interval:
        """As every source, after `kick`. Raises `RingOverflowError` too."""
        if self._kick is not None:
            self._kick()
        return super().collect()

    def drain(self) -> None:
        """Empty every ring into the interval under way. Any thread, at any time.

        To be called on KVM_EXIT_DIRTY_RING_FULL. Raises as `collect`, which reports it again; the
        rings are drained all the same, and the vCPU may run.
        """
        fault = ffi.new("mpat_kvm_fault *")
        result = lib.mpat_kvm_ring_drain(self.handle, fault)
        if result:
            raise _error(result, fault, "draining the dirty rings")


def _memslots(memslots: Iterable[Memslot]) -> tuple[Memslot, ...]:
    if not isinstance(memslots, Iterable):
        raise RegionError(
            f"expected a list of memslots, not {type(memslots).__name__}: write [memslot]"
        )
    checked = tuple(memslots)
    for memslot in checked:
        if not isinstance(memslot, Memslot):
            raise RegionError(
                f"expected a mempattern.sources.Memslot, not {type(memslot).__name__}: "
                "write Memslot(slot=0, region=region)"
            )
    return checked


def _descriptor(fd: SupportsIndex) -> int:
    checked = whole_number(fd, 0, (1 << 31) - 1)
    if checked is None:
        raise KVMError(errno.EBADF, f"a file descriptor was expected, not {fd!r}")
    return checked


_MEANING = {
    errno.EBADF: "the descriptor is closed",
    errno.ENOTTY: "the descriptor is not the {call} descriptor that was expected",
    errno.EIO: "KVM answers only the process that made the VM, and only while the VM lives",
    errno.EEXIST: "memslot {slot} was given twice",
    errno.ENXIO: (
        "the VM logs the other way: the dirty log is off once KVM_CAP_DIRTY_LOG_RING is on, and "
        "there is no ring unless it is on before the first vCPU"
    ),
    errno.ENOTSUP: "this kernel's KVM lacks {call}",
    errno.ENOMEM: "there is no memory for the bitmaps",
    errno.ESTALE: (
        "somebody else harvests the same rings, and pages went to them; let this source be the "
        "only reader"
    ),
    errno.EPROTO: (
        "KVM did not reset what was harvested: a vCPU belongs to another VM, or the rings have "
        "another reader. Treat all pages as dirty; open a new source over this VM's own vCPUs"
    ),
    errno.EOVERFLOW: (
        "a ring was full to its last entry, so pages are lost and the rings are of no use any "
        "more. Treat all pages as dirty; in a new VM collect more often or use larger rings"
    ),
}
_LOG_MEANING = {
    errno.ENOENT: (
        "memslot {slot} does not exist or does not log; give it KVM_MEM_LOG_DIRTY_PAGES first"
    ),
    errno.ERANGE: (
        "memslot {slot} has not as many pages as its region; give the region the memslot's "
        "memory_size / page_bytes"
    ),
}
_RING_MEANING = {
    errno.ENOENT: (
        "a ring names memslot {slot}, which was not given; list every memslot that logs"
    ),
    errno.ERANGE: (
        "page {page} of memslot {slot} is past the end of its region; give the region the "
        "memslot's memory_size / page_bytes"
    ),
}
_RING_SIZE = (
    "the rings have not that many entries; give what KVM_CAP_DIRTY_LOG_RING was enabled with"
)


def _error(result: int, fault: Any, doing: str) -> Exception:
    """The exception for a failed KVM function: what was being done, what is wrong, what to do."""
    number = -result
    call = "" if fault.call == ffi.NULL else ffi.string(fault.call).decode()
    if number == errno.EBUSY:
        return busy("this source")
    if number == errno.EINVAL and call == "ring_entries":
        return UsageError(f"{doing}: ring_entries must be a power of two that fills a page")
    meanings = _MEANING | (_RING_MEANING if call == "dirty ring" else _LOG_MEANING)
    if number == errno.ERANGE and call == "KVM_CAP_DIRTY_LOG_RING":
        meaning = _RING_SIZE
    else:
        meaning = meanings.get(number, "{call} failed: " + errno.errorcode.get(number, str(number)))
    message = f"{doing}: " + meaning.format(call=call, slot=fault.slot, page=fault.page)
    kind = RingOverflowError if number == errno.EOVERFLOW else KVMError
    return kind(number, message)
