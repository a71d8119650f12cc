"""What works here, and for this process, by trying it."""

from __future__ import annotations

import errno
import os
import platform
from dataclasses import dataclass
from pathlib import Path

from mempattern._native import ffi, lib
from mempattern.errors import ProcessError
from mempattern.sources import soft_dirty
from mempattern.sources.process import explained, status_of


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried. `ok` is None where it is worth knowing and no obstacle."""

    name: str
    """What was tried, as "userfaultfd" or "source uffd"."""
    ok: bool | None
    detail: str
    """What was found, for people."""
    remedy: str = ""
    """What would help; empty where nothing must, or where `detail` says it."""


def probe(pid: int | None = None) -> list[Check]:
    """The checks of this machine and, with a pid, of that process.

    The process is attached to and let go for it, as a trace would; nothing is protected.
    The checks named "source uffd" and "source soft-dirty" say which sources work.
    """
    uffd, bits = _machine_uffd(), _machine_soft_dirty()
    checks = [
        Check("kernel", None, f"Linux {platform.release()} on {platform.machine()}"),
        uffd,
        bits,
    ]
    if pid is None:
        return [
            *checks,
            Check("source uffd", uffd.ok, "on this machine", uffd.remedy),
            Check("source soft-dirty", bits.ok, "on this machine", bits.remedy),
        ]
    process = _process(pid)
    checks.append(process)
    if process.ok:
        checks += [_tracer(pid), _seccomp(pid), _userfaultfds(pid), _huge_pages(pid)]
    return [*checks, _attach(pid, uffd), _clear_refs(pid, bits)]


# ---- the machine ------------------------------------------------------------------------------


def _machine_uffd() -> Check:
    fault = ffi.new("mpat_process_fault *")
    result = lib.mpat_process_probe(fault)
    if result == 0:
        return Check(
            "userfaultfd", True, "asynchronous write protection and PAGEMAP_SCAN saw a test write"
        )
    call = "" if fault.call == ffi.NULL else ffi.string(fault.call).decode()
    return Check(
        "userfaultfd",
        False,
        f"{call}: {os.strerror(-result)}",
        "Linux 6.7 or later with CONFIG_USERFAULTFD and CONFIG_PTE_MARKER_UFFD_WP, on x86-64; in a "
        "container, a seccomp profile that allows userfaultfd",
    )


def _machine_soft_dirty() -> Check:
    if soft_dirty.works():
        return Check("soft-dirty", True, "the bits saw a test write")
    return Check(
        "soft-dirty",
        False,
        "the bits did not see a test write",
        "a kernel with CONFIG_MEM_SOFT_DIRTY",
    )


# ---- the process ------------------------------------------------------------------------------


def _process(pid: int) -> Check:
    status = status_of(pid)
    if not status or "VmSize" not in status or status.get("State", "").startswith(("Z", "X")):
        error = explained(pid, errno.ESRCH, "")
        return Check("process", False, str(error), "give the pid of a running program")
    detail = (
        f"{status.get('Name')}, {status.get('Threads')} threads, {status.get('VmRSS')} resident"
    )
    return Check("process", True, detail)


def _tracer(pid: int) -> Check:
    tracer = status_of(pid).get("TracerPid", "0")
    if tracer == "0":
        return Check("tracer", True, "nobody traces it")
    return Check("tracer", False, f"process {tracer} traces it", "let that detach first")


def _seccomp(pid: int) -> Check:
    mode = status_of(pid).get("Seccomp", "0")
    if mode == "0":
        return Check("seccomp", True, "no system call filter")
    return Check(
        "seccomp",
        None,
        f"its first thread has a system call filter (mode {mode})",
        "a thread without one is used if there is any; else root reads whether the filter allows "
        "userfaultfd and close (as QEMU's -sandbox on does), and traces it if so",
    )


def _userfaultfds(pid: int) -> Check:
    n = 0
    try:
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            try:
                n += "userfaultfd" in os.readlink(fd)
            except OSError:
                continue
    except OSError:
        return Check("userfaultfds", None, "its descriptors may not be read")
    if n == 0:
        return Check("userfaultfds", True, "it has none of its own")
    return Check(
        "userfaultfds",
        None,
        f"it has {n} of its own (QEMU's post-copy or background snapshot?)",
        "memory that is registered with one cannot be traced until it is closed",
    )


def _huge_pages(pid: int) -> Check:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return Check("huge pages", None, "its memory map may not be read")
    kib = sum(
        int(line.split()[1])
        for line in text.splitlines()
        if line.startswith(("AnonHugePages:", "ShmemPmdMapped:", "FilePmdMapped:"))
    )
    if kib == 0:
        return Check("huge pages", True, "no transparent huge page")
    return Check(
        "huge pages",
        None,
        f"{kib} KiB in transparent huge pages; each is split by the first write while traced",
        "--no-split-thp refuses instead",
    )


def _attach(pid: int, machine: Check) -> Check:
    if not machine.ok:
        return Check("source uffd", False, "not on this machine", machine.remedy)
    out = ffi.new("mpat_process **")
    fault = ffi.new("mpat_process_fault *")
    result = lib.mpat_process_open(pid, 0, out, fault)
    if result:
        call = "" if fault.call == ffi.NULL else ffi.string(fault.call).decode()
        return Check("source uffd", False, str(explained(pid, -result, call)))
    stopped_ns = lib.mpat_process_stopped_ns(out[0])
    lib.mpat_process_close(out[0])
    return Check("source uffd", True, f"attached; one thread was stopped {stopped_ns / 1e3:.0f} us")


def _clear_refs(pid: int, machine: Check) -> Check:
    if not machine.ok:
        return Check("source soft-dirty", False, "not on this machine", machine.remedy)
    try:
        os.close(os.open(f"/proc/{pid}/clear_refs", os.O_WRONLY | os.O_CLOEXEC))
        os.close(os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        reason: ProcessError = explained(pid, error.errno or errno.EIO, "clear_refs")
        return Check("source soft-dirty", False, str(reason))
    return Check("source soft-dirty", True, "its bits may be read and cleared")
