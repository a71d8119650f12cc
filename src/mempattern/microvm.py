"""The micro VM: a tiny real KVM guest that dirties memory in a pattern you choose.

For the demo, tests and benches. It runs the library's own guest program straight on /dev/kvm; the
same program runs in QEMU: `qemu-system-x86_64 -kernel $(python -m mempattern.microvm) -append
"pattern=zipf pages=4096"`.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, SupportsIndex

import numpy as np
import numpy.typing as npt

from mempattern._checks import positive_seconds, whole_number
from mempattern._closing import Closing
from mempattern._memory import view
from mempattern._native import ffi, lib
from mempattern.errors import ClosedError, GuestError, KVMError, RegionError, UsageError
from mempattern.regions import PAGE_BYTES, Region, check_regions
from mempattern.sources.kvm import KVMDirtyLog, KVMDirtyRing, Memslot

_LONGEST_S = 86_400.0
_STEPS_A_SECOND = 20_000  # of a slow KVM

_PHASES = ("idle", "sweep", "hotset", "uniform", "zipf", "stride", "grow")
PATTERNS = (*_PHASES, "phased")

Logging = Literal["log", "manual", "initially-set", "ring"]

_LOGGING: dict[Logging, int] = {
    "log": lib.MPAT_MICROVM_LOG,
    "manual": lib.MPAT_MICROVM_MANUAL,
    "initially-set": lib.MPAT_MICROVM_INITIALLY_SET,
    "ring": lib.MPAT_MICROVM_RING,
}


def guest_path() -> Path:
    """The guest program, an ELF file that QEMU's -kernel takes. It is there on x86-64 only."""
    path = Path(str(files("mempattern") / "guest" / "mempattern-guest.elf"))
    if not path.exists():
        raise GuestError("the guest program is built on x86-64 only, and not in this installation")
    return path


@dataclass(frozen=True, slots=True)
class Workload:
    """How one vCPU dirties memory. A step is one page write, or none in an idle pattern.

    `n_pages` pages from page `first_page` of the micro VM's RAM (the memslots one after the other).
    `rate` is steps per second, 0 for as fast as it goes. `stride` (pages) belongs to "stride",
    `hot_pages` to "hotset"; "grow" sweeps the first `hot_pages`, and `stride` pages more after
    each lap, up to all; "phased" alternates `phases` every `phase_steps` steps. The guest itself
    checks all of it, and refuses by `GuestError` when it first runs.
    """

    pattern: str = "uniform"
    """One of "idle", "sweep", "hotset", "uniform", "zipf", "stride", "grow" and "phased"."""
    n_pages: int = 4096
    first_page: int = 0
    seed: int = 1
    """Of the guest's pseudo-random numbers: from 0 to 2**32 - 1."""
    rate: int = 0
    stride: int | None = None
    hot_pages: int | None = None
    phases: tuple[str, str] | None = None
    phase_steps: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.pattern, str) or self.pattern not in PATTERNS:
            raise UsageError(f"a pattern is one of {', '.join(PATTERNS)}, not {self.pattern!r}")
        if self.phases is not None and not _are_phases(self.phases):
            raise UsageError(
                f"phases are two patterns of {', '.join(_PHASES)}, not {self.phases!r}"
            )
        for field in (
            "n_pages",
            "first_page",
            "seed",
            "rate",
            "stride",
            "hot_pages",
            "phase_steps",
        ):
            value = getattr(self, field)
            if value is not None and whole_number(value, 0, (1 << 32) - 1) is None:
                raise UsageError(f"{field} must be a whole number below 2**32, not {value!r}")

    def command_line(self) -> str:
        """As the guest program takes it, here and with QEMU's -append."""
        start = lib.MPAT_MICROVM_RAM_BASE + self.first_page * PAGE_BYTES
        words = {
            "pattern": self.pattern,
            "pages": self.n_pages,
            "start": start,
            "seed": self.seed,
            "rate": self.rate,
            "stride": self.stride,
            "hot": self.hot_pages,
            "phase": self.phase_steps,
        }
        if self.phases is not None:
            words["a"], words["b"] = self.phases
        return " ".join(f"{key}={value}" for key, value in words.items() if value is not None)


def _are_phases(phases: Sequence[str]) -> bool:
    return (
        isinstance(phases, (tuple, list))
        and len(phases) == 2
        and all(isinstance(name, str) and name in _PHASES for name in phases)
    )


class MicroVM(Closing):
    """A real KVM guest with the given memslots, one vCPU for each workload. A context manager.

    The vCPUs are parked until `step` or `resume`. `logging` says how the memslots log their dirty
    pages; `ring_entries` is for "ring". The memslots lie one after the other from guest-physical
    16 MiB, whatever `address` a region has, and `regions` keeps them as they were given.

    Raises `KVMError` (with `errno`) where /dev/kvm does not open or lacks the logging,
    `UsageError`, `RegionError` (also for pages that have not 4096 bytes).
    """

    def __init__(
        self,
        regions: Iterable[Region],
        workloads: Workload | Sequence[Workload],
        *,
        logging: Logging = "log",
        ring_entries: int = 65536,
    ) -> None:
        self.regions: tuple[Region, ...] = check_regions(regions)
        for region in self.regions:
            if region.page_bytes != PAGE_BYTES:
                raise RegionError(
                    f"region {region.name!r}: the micro VM has pages of {PAGE_BYTES} bytes, "
                    f"not of {region.page_bytes}"
                )
        self.workloads: tuple[Workload, ...] = _workloads(workloads)
        """One for each vCPU: those it began with, or those of the last `reboot`."""
        self.logging: Logging = logging
        self.ring_entries = ring_entries
        if not isinstance(logging, str) or logging not in _LOGGING:
            raise UsageError(f"logging must be one of {', '.join(_LOGGING)}, not {logging!r}")
        self._rings: list[Any] = []  # C objects that a vCPU may drain, until the VM is gone
        self._source: KVMDirtyLog | KVMDirtyRing | None = None
        self._handle: Any = self._create()

    def _create(self) -> Any:
        image = guest_path().read_bytes()
        ring_entries = 0 if self.logging != "ring" else whole_number(self.ring_entries, 1, 1 << 31)
        if ring_entries is None:
            raise UsageError(f"ring_entries must be a power of two, not {self.ring_entries!r}")
        slot_pages = ffi.new("uint64_t[]", [region.n_pages for region in self.regions])
        _lines, cmdlines = _command_lines(self.workloads)
        image_buffer = ffi.from_buffer(image)
        config = ffi.new(
            "mpat_microvm_config *",
            {
                "image": image_buffer,
                "image_bytes": len(image),
                "slot_pages": slot_pages,
                "n_slots": len(self.regions),
                "cmdlines": cmdlines,
                "n_vcpus": len(self.workloads),
                "log": _LOGGING[self.logging],
                "ring_entries": ring_entries,
            },
        )
        out = ffi.new("mpat_microvm **")
        result = lib.mpat_microvm_create(config, out)
        if result == -errno.EINVAL:
            raise UsageError(
                "the micro VM takes 1 to 8 workloads, memslots of at most 3 GiB together, and as "
                "ring_entries a power of two that fills a page and KVM allows (up to 65536)"
            )
        if result:
            raise _cannot_open(-result)

        def destroy(vm: Any, _rings: list[Any] = self._rings) -> None:
            lib.mpat_microvm_destroy(vm)

        return ffi.gc(out[0], destroy)

    @property
    def handle(self) -> Any:
        """The C object. Raises `ClosedError` after `close`."""
        if self._handle is None:
            raise ClosedError("this MicroVM is closed; make a new one")
        return self._handle

    @property
    def vm_fd(self) -> int:
        """The VM's descriptor, open until the VM is gone; and each vCPU's."""
        return int(lib.mpat_microvm_vm_fd(self.handle))

    @property
    def vcpu_fds(self) -> list[int]:
        """One for each workload, in order; open until the VM is gone."""
        return [lib.mpat_microvm_vcpu_fd(self.handle, i) for i in range(len(self.workloads))]

    @property
    def memslots(self) -> list[Memslot]:
        """One for each region, in order."""
        first = lib.MPAT_MICROVM_FIRST_SLOT
        return [Memslot(first + i, region) for i, region in enumerate(self.regions)]

    def dirty_source(self) -> KVMDirtyLog | KVMDirtyRing:
        """The source that fits the VM's logging, over all its memslots; one at a time.

        Raises `UsageError` while the one before is open, or the VM runs and has a ring; `KVMError`.
        """
        if self._source is not None and not self._source.closed:
            raise UsageError("the VM has a dirty source; close it first, a log has one reader")
        if self.logging == "ring":
            self._source = self._dirty_ring()
        else:
            self._source = KVMDirtyLog(
                self.vm_fd,
                self.memslots,
                manual_protect=self.logging != "log",
                initially_set=self.logging == "initially-set",
            )
        return self._source

    def _dirty_ring(self) -> KVMDirtyRing:
        if any(self._state(vcpu).running for vcpu in range(len(self.workloads))):
            raise UsageError("the VM runs; pause it before a ring is opened")
        ring = KVMDirtyRing(
            self.vm_fd, self.vcpu_fds, self.memslots, self.ring_entries, kick=self._kick_if_open
        )
        _check(lib.mpat_microvm_set_ring(self.handle, ring.handle), self, "setting the ring")
        self._rings[:] = [ring.handle]
        return ring

    def page_writes(self, region_name: str) -> npt.NDArray[np.uint32]:
        """How often each page was written since the start: (n_pages,) uint32, a read-only view.

        The guest counts in the first 32-bit word of each page, so this record is independent of
        KVM's. Raises `UsageError` for an unknown region.
        """
        for number, region in enumerate(self.regions):
            if region.name == region_name:
                words_per_page = PAGE_BYTES // 4
                memory = lib.mpat_microvm_memory(self.handle, number)
                words = view(self.handle, memory, "<u4", region.n_pages * words_per_page)
                counters: npt.NDArray[np.uint32] = words[::words_per_page]
                return counters
        raise UsageError(f"no region {region_name!r}")

    def step(self, n_steps: SupportsIndex, *, timeout_s: float = 60.0) -> None:
        """Run every vCPU for exactly `n_steps` steps; all are parked again on return.

        Ctrl-C is heard about once a second. Raises `GuestError` if a guest died, was not done in
        time, or was paused by another thread; `UsageError`.
        """
        left = whole_number(n_steps, 1, (1 << 31) - 1)
        if left is None:
            raise UsageError(f"n_steps must be from 1 to 2**31 - 1, not {n_steps!r}")
        deadline = time.monotonic() + min(positive_seconds("timeout_s", timeout_s), _LONGEST_S)
        at_once = min((work.rate for work in self.workloads if work.rate), default=_STEPS_A_SECOND)
        while left:
            n = min(left, at_once)
            timeout_ns = int(max(0.0, deadline - time.monotonic()) * 1e9)
            _check(lib.mpat_microvm_step(self.handle, n, timeout_ns), self, "stepping")
            left -= n

    def resume(self) -> None:
        """Let every vCPU run freely until `pause`. Raises `GuestError` if one is dead."""
        _check(lib.mpat_microvm_resume(self.handle), self, "resuming")

    def pause(self) -> None:
        """Kick every vCPU out of KVM_RUN and park it. Raises `GuestError` if one died."""
        _check(lib.mpat_microvm_pause(self.handle), self, "pausing")

    def reboot(self, workloads: Workload | Sequence[Workload]) -> None:
        """Start the guest anew with other workloads, as many as before, parked.

        Its memory, what was logged, and the steps done so far stay. Raises `GuestError`,
        `UsageError`.
        """
        anew = _workloads(workloads)
        if len(anew) != len(self.workloads):
            raise UsageError(
                f"the VM has {len(self.workloads)} vCPUs, and one workload goes to each; "
                f"{len(anew)} were given"
            )
        _lines, cmdlines = _command_lines(anew)
        _check(lib.mpat_microvm_reboot(self.handle, cmdlines), self, "rebooting")
        self.workloads = anew

    def kick(self) -> None:
        """Make every running vCPU leave KVM_RUN once, which flushes its dirty buffers."""
        _check(lib.mpat_microvm_kick(self.handle), self, "kicking")

    def _kick_if_open(self) -> None:
        """The ring source's kick: it may outlive the VM, whose vCPUs are out of KVM_RUN then."""
        handle = self._handle  # another thread may close the VM meanwhile
        if handle is not None:
            _check(lib.mpat_microvm_kick(handle), self, "kicking")

    def check(self) -> None:
        """Raises `GuestError` if a vCPU has died, of which a free run tells nothing by itself."""
        if any(self._state(vcpu).error for vcpu in range(len(self.workloads))):
            raise GuestError(f"running: {_cause_of_death(self)}")

    def steps(self, vcpu: SupportsIndex = 0) -> int:
        """Steps the vCPU has done since the start."""
        return int(self._state(vcpu).steps)

    def console(self) -> str:
        """What the guest wrote to its serial port since the start."""
        size = lib.mpat_microvm_console(self.handle, ffi.NULL, 0)
        out = ffi.new("char[]", size + 1)
        lib.mpat_microvm_console(self.handle, out, size)
        return str(ffi.string(out, size).decode("ascii", "replace"))

    def _state(self, vcpu: SupportsIndex) -> Any:
        number = whole_number(vcpu, 0, len(self.workloads) - 1)
        if number is None:
            raise UsageError(f"no vCPU {vcpu!r}; there are {len(self.workloads)}")
        state = ffi.new("mpat_microvm_state *")
        _check(lib.mpat_microvm_get_state(self.handle, number, state), self, "looking at a vCPU")
        return state

    def close(self) -> None:
        """Stop the vCPUs. May be called twice.

        The VM itself goes with the last view of its memory that `page_writes` gave.
        """
        handle, self._handle = self._handle, None
        if handle is not None:
            lib.mpat_microvm_pause(handle)


def _workloads(workloads: Workload | Sequence[Workload]) -> tuple[Workload, ...]:
    given = (workloads,) if isinstance(workloads, Workload) else workloads
    if not isinstance(given, Sequence) or not all(isinstance(w, Workload) for w in given):
        raise UsageError(f"workloads are a Workload or a list of them, not {workloads!r}")
    return tuple(given)


def _command_lines(workloads: Sequence[Workload]) -> tuple[list[Any], Any]:
    """The lines as C strings, and the array of them; the array lives as long as the lines."""
    lines = [ffi.new("char[]", workload.command_line().encode()) for workload in workloads]
    return lines, ffi.new("char *[]", lines)


def _cannot_open(number: int) -> KVMError:
    remedies = {
        errno.ENOENT: "there is no /dev/kvm: load the module kvm_intel or kvm_amd, or enable "
        "virtualization (in the firmware, or nested in the hypervisor)",
        errno.EACCES: "/dev/kvm is not permitted: join the group that owns it, often `kvm`",
        errno.EPERM: "/dev/kvm is not permitted here: allow the device in this container",
        errno.ENOTSUP: "this machine or its KVM lacks what was asked (x86-64, the dirty ring, or "
        "manual protect)",
        errno.ENOTTY: "/dev/kvm is there but is not KVM's device (masked in this container?): pass "
        "the device through",
        errno.ENODEV: "/dev/kvm is there but KVM does not run: enable virtualization",
    }
    return KVMError(number, remedies.get(number, f"KVM failed: {os.strerror(number)}"))


def _check(result: int, vm: MicroVM, doing: str) -> None:
    if result == 0:
        return
    if result == -errno.ETIMEDOUT:
        raise GuestError(f"{doing}: the guest was not done in time; allow more, or fewer steps")
    if result == -errno.ECHILD:
        raise GuestError(f"{doing}: this VM was made by another process, before a fork")
    if result == -errno.EINTR:
        raise GuestError(f"{doing}: another thread paused or moved the VM meanwhile")
    if result == -errno.ENODATA:
        raise GuestError(f"{doing}: a guest came to the end of its steps; give it more, or reboot")
    if result == -errno.ENOBUFS:
        raise GuestError(f"{doing}: a dirty ring was full and has no reader; use dirty_source()")
    if result == -errno.EIO:
        raise GuestError(f"{doing}: {_cause_of_death(vm)}")
    raise GuestError(f"{doing}: {os.strerror(-result)}")


def _cause_of_death(vm: MicroVM) -> str:
    for vcpu in range(len(vm.workloads)):
        state = vm._state(vcpu)  # pyright: ignore[reportPrivateUsage]
        if state.error:
            said = vm.console().strip().splitlines()
            return (
                f"vCPU {vcpu} died at {state.exit_rip:#x} (KVM exit {state.exit_reason}, "
                f"{os.strerror(-state.error)}); the guest's last words: "
                f"{said[-1] if said else 'none'}"
            )
    return "a vCPU died"


if __name__ == "__main__":
    print(guest_path())
