"""The memory writes of another process, by userfaultfd write-protection and PAGEMAP_SCAN.

Linux 6.7 and later, x86-64. The target is stopped for a moment when the source is opened, and
never again; see docs/tracing.md for how, and for what it costs the target.
"""

from __future__ import annotations

import errno
import itertools
import os
import threading
import time
from abc import abstractmethod
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, SupportsIndex

from mempattern._checks import whole_number
from mempattern._memory import BitmapPool
from mempattern._native import ffi, lib
from mempattern._results import busy
from mempattern.errors import ClosedError, ProcessEnded, ProcessError, UsageError
from mempattern.interval import Bitmap, Interval, Provenance
from mempattern.regions import Region
from mempattern.sources.base import Source
from mempattern.sources.layout import Layout, Placed, writable_memory
from mempattern.sources.maps import MapsParser, page_sizes

BLIND_SPOTS = (
    "writes through other mappings of shared memory: by other processes, by devices",
    "writes between the last collection and the target's end",
)
_GRANULARITY = (
    "a page; of memory mapped since the last collection all populated pages count, of shared "
    "memory also pages that were first touched by a read, and of a shared file the neighbours that "
    "the kernel maps along with a written page (a large folio); pages that KSM merges count as "
    "well, and of a huge page that is new those that are not zero"
)
_LINE_WORDS = 8  # what the kernels work in, a line of the cache


class ProcessSource(Source):
    """What sources over another process share: its mappings, and the regions they lie in."""

    def __init__(self, pid: SupportsIndex, layout: Layout | None, provenance: Provenance) -> None:
        checked = whole_number(pid, 1, (1 << 31) - 1)
        if checked is None:
            raise UsageError(f"a process id is a positive whole number, not {pid!r}")
        if checked == os.getpid():
            raise UsageError("a process cannot trace itself this way; trace it from another one")
        self.pid = checked
        self.provenance = provenance
        self.layout: Layout = layout if layout is not None else writable_memory()
        """Says what is followed; by default `writable_memory()`."""
        self.regions: tuple[Region, ...] = ()
        self.placed: list[Placed] = []
        """The mappings followed, as of the last collection, and where they lie in `regions`."""
        self._maps_text = ""
        self._parser = MapsParser(lambda: page_sizes(self.pid))
        self._place_bitmaps()
        self.indices: Iterator[int] = itertools.count()
        """Numbers for the intervals to come, from 0."""
        self._lock = threading.Lock()
        # Kept open: it shows the memory of the program that runs now, also after an exec.
        self._maps = open_file(self.pid, "maps")

    def follow_mappings(self) -> bool:
        """Read the mappings; whether anything changed."""
        text = _read_all(self._maps)
        if text == self._maps_text:
            return False
        regions, self.placed = self.layout.place(self._parser.parse(text))
        self._maps_text = text
        if regions != self.regions:
            self.regions = regions
            self._bitmaps.close()
            self._place_bitmaps()
        return True

    def _place_bitmaps(self) -> None:
        """One after another in the same memory: each by itself would be two mappings of ours."""
        lines = (-(-region.n_words // _LINE_WORDS) for region in self.regions)
        self._starts = [line * _LINE_WORDS for line in accumulate(lines, initial=0)]
        self._bitmaps = BitmapPool(self._starts[-1] * 64)

    def take_bitmaps(self) -> tuple[Any, list[Bitmap]]:
        """Pointers for C to write to, one a region, and the read-only arrays of the same memory,
        which is not cleared.
        """
        pointer, words = self._bitmaps.take()
        placed = list(zip(self._starts, self.regions, strict=False))
        return (
            ffi.new("uint64_t *[]", [pointer + start for start, _ in placed]),
            [words[start : start + region.n_words] for start, region in placed],
        )

    def refuse_nothing(self) -> None:
        """Raises `ProcessError` if the process has no memory, or none that `layout` selects."""
        if not self._maps_text:
            raise explained(self.pid, errno.ENXIO, "maps")
        if not self.placed:
            raise ProcessError(
                errno.ENXIO,
                f"process {self.pid} has no such memory mapped; what there is: {self._names()}",
            )

    def _names(self) -> str:
        names = {mapping.name for mapping in self._parser.parse(self._maps_text)}
        some = sorted(names)[:20]
        return ", ".join(some) + ", ..." * (len(some) < len(names))

    def ended(self) -> ProcessEnded:
        """The error to raise: the process has ended, or executes another program."""
        what = "executes another program" if has_memory(self.pid) else "ended"
        return ProcessEnded(f"process {self.pid} {what}; start anew to go on")

    def check_alive(self) -> None:
        """Raises `ProcessEnded`."""
        if not _read_all(self._maps):
            raise self.ended()

    def collect(self) -> Interval:
        """The pages written since the collection before, or since the source was opened.

        Raises `ProcessEnded` once the process has ended or executes another program, `BusyError`,
        `ClosedError`.
        """
        begin_ns = time.monotonic_ns()  # reading the mappings can be most of what it costs
        if not self._lock.acquire(blocking=False):
            raise busy(f"this {type(self).__name__}")
        try:
            if self._maps < 0:
                raise ClosedError(f"this {type(self).__name__} is closed; open a new one")
            try:
                self.follow_mappings()
            except OSError:  # ESRCH: the memory is gone
                raise self.ended() from None
            return self.collect_mapped(begin_ns)
        finally:
            self._lock.release()

    @abstractmethod
    def collect_mapped(self, begin_ns: int) -> Interval:
        """The same, of the mappings as they are now, having begun at that time."""

    def close(self) -> None:
        """Let the process go. It is not stopped for that. May be called twice."""
        with self._lock:
            maps, self._maps = self._maps, -1
            if maps >= 0:
                os.close(maps)
                self.let_go()

    @abstractmethod
    def let_go(self) -> None:
        """Give back what the subclass holds."""


class ProcessWrites(ProcessSource):
    """Pages that the process writes, from its mappings as `layout` selects them.

    The default layout is `writable_memory()`. With `split_thp=False` a target with huge pages is
    refused, and huge pages that come up later are left alone and counted in `lost_pages`; else the
    first write to a huge page after each collection splits it.

    `attach_s`: for how long one thread of the target was stopped. `huge_bytes`: memory that was in
    huge pages when they were protected.

    Raises `ProcessError` (with `errno`, and what would help), `UsageError`.
    Source: Linux Documentation/admin-guide/mm/userfaultfd.rst, pagemap.rst.
    """

    def __init__(
        self, pid: SupportsIndex, layout: Layout | None = None, *, split_thp: bool = True
    ) -> None:
        self._handle: Any = None
        self._mappings: Any = ffi.NULL
        provenance = Provenance("userfaultfd", BLIND_SPOTS, _GRANULARITY)
        super().__init__(pid, layout, provenance)
        try:
            self.follow_mappings()
            self.refuse_nothing()
            self._attach(0 if split_thp else lib.MPAT_PROCESS_KEEP_HUGE)
        except BaseException:
            self.close()
            raise

    def _attach(self, flags: int) -> None:
        out = ffi.new("mpat_process **")
        fault = ffi.new("mpat_process_fault *")
        result = lib.mpat_process_open(self.pid, flags, out, fault)
        if result:
            raise _explained(self.pid, -result, fault)
        self._handle = ffi.gc(out[0], lib.mpat_process_close)
        self.attach_s: float = lib.mpat_process_stopped_ns(self._handle) / 1e9
        huge_bytes = ffi.new("uint64_t *")
        result = lib.mpat_process_protect(
            self._handle, self._mappings, len(self.placed), huge_bytes, fault
        )
        if result:
            raise _explained(self.pid, -result, fault)
        self.huge_bytes: int = int(huge_bytes[0])

    def follow_mappings(self) -> bool:
        changed = super().follow_mappings()
        if changed:
            self._mappings = ffi.new("mpat_mapping[]", [_as_c(placed) for placed in self.placed])
        return changed

    def collect_mapped(self, begin_ns: int) -> Interval:
        pointers, arrays = self.take_bitmaps()
        out = ffi.new("mpat_process_collection *")
        fault = ffi.new("mpat_process_fault *")
        result = lib.mpat_process_collect(
            self._handle,
            self._mappings,
            len(self.placed),
            [region.n_pages for region in self.regions],
            pointers,
            len(arrays),
            out,
            fault,
        )
        if result == -errno.ESRCH:
            raise self.ended()
        if result:
            raise _explained(self.pid, -result, fault)
        self.huge_bytes += out.huge_bytes
        out.collect_ns = out.end_ns - begin_ns
        return self.interval_of(next(self.indices), arrays, out)

    def let_go(self) -> None:
        self._handle = None  # with it go the userfaultfd and the protection
        self._bitmaps.close()


def _as_c(placed: Placed) -> dict[str, int]:
    return {
        "start": placed.start,
        "end": placed.end,
        "first_page": placed.first_page,
        "region": placed.region,
        "page_shift": placed.page_bytes.bit_length() - 1,
        "flags": lib.MPAT_MAPPING_PRIVATE_FILE * placed.is_private_file,
    }


def open_file(pid: int, name: str, mode: int = os.O_RDONLY) -> int:
    """A file of /proc/PID. Raises `ProcessError`."""
    try:
        return os.open(f"/proc/{pid}/{name}", mode | os.O_CLOEXEC)
    except OSError as error:
        raise explained(pid, error.errno or errno.EIO, f"/proc/PID/{name}") from None


def has_memory(pid: int) -> bool:
    """False once it has ended, also while its parent has not taken notice of that (a zombie)."""
    try:
        return bool(Path(f"/proc/{pid}/maps").read_bytes())
    except OSError:
        return False


def _read_all(fd: int) -> str:
    os.lseek(fd, 0, os.SEEK_SET)
    chunks: list[bytes] = []
    while chunk := os.read(fd, 1 << 17):
        chunks.append(chunk)
    return b"".join(chunks).decode(errors="replace")


# ---- why not, and what to do ------------------------------------------------------------------


def _explained(pid: int, number: int, fault: Any) -> ProcessError:
    call = "" if fault.call == ffi.NULL else ffi.string(fault.call).decode()
    return explained(pid, number, call, int(fault.address))


def explained(pid: int, number: int, call: str, address: int = 0) -> ProcessError:
    """The error for a call that failed on that process: what is wrong, what to do."""
    return ProcessError(
        number, f"process {pid} cannot be traced: {_reason(pid, number, call, address)}"
    )


def _reason(pid: int, number: int, call: str, address: int) -> str:
    status = status_of(pid)
    if not status:
        return "there is no process of that number"
    if status.get("State", "").startswith(("Z", "X")):
        if status.get("Threads", "1") != "1":
            return (
                "its first thread has ended while others run on, and the kernel shows the memory "
                "of a process by its first thread only"
            )
        return "it has ended and waits for its parent (a zombie)"
    if number == errno.ENXIO or "VmSize" not in status:
        return "it has no memory of its own (a kernel thread)"
    if number in (errno.EPERM, errno.EACCES) and call != "seccomp":
        return _not_permitted(status)
    reason = _REASONS.get((number, call)) or _REASONS_OF_ANY_CALL.get(
        number, "{call} failed: {error}"
    )
    return reason.format(pid=pid, call=call, error=os.strerror(number), address=f"{address:#x}")


_NEEDS_6_7 = (
    "this needs Linux 6.7 or later with CONFIG_USERFAULTFD and CONFIG_PTE_MARKER_UFFD_WP (missing "
    "here: {call}); try --source soft-dirty"
)
_REASONS_OF_ANY_CALL = {
    errno.ENOTSUP: _NEEDS_6_7,
    errno.ENOSYS: _NEEDS_6_7,
    errno.ENOTTY: _NEEDS_6_7,
    errno.ENOEXEC: "it is a 32-bit process, or has no code to call the kernel with ({call})",
    errno.ESRCH: "it ended meanwhile",
    errno.ETIMEDOUT: (
        "none of its threads could be stopped in time: they sleep uninterruptibly (state D), or "
        "the process is frozen (cgroup freezer, docker pause); try again when it goes on"
    ),
    errno.EAGAIN: (
        "none of its threads could be used: they were in restartable sequences, or dispatch their "
        "own system calls (Wine); try again"
    ),
    errno.EBUSY: (
        "another userfaultfd is registered on its memory at {address} (QEMU's post-copy or "
        "background snapshot, CRIU, or another trace); let that end first"
    ),
    errno.EPIPE: "the helper that attaches was killed; try again",
}
_REASONS = {
    (errno.EACCES, "seccomp"): (
        "all its threads run under a seccomp filter that does not allow the system calls which are "
        "placed in it (userfaultfd, close), or that only root may read: run this as root and not "
        "under a filter, start it without one (QEMU: -sandbox off), or try --source soft-dirty"
    ),
    (errno.EEXIST, "huge pages"): (
        "it has transparent huge pages, which tracing would split; allow that by leaving "
        "--no-split-thp out"
    ),
    (errno.EMFILE, "userfaultfd"): (
        "it has as many files open as it may have (its RLIMIT_NOFILE), and needs one more for a "
        "moment; raise that limit: prlimit --pid {pid} --nofile=NUMBER"
    ),
    (errno.ENOTSUP, "x86-64"): "this is implemented for x86-64 only; try --source soft-dirty",
}


def _not_permitted(status: dict[str, str]) -> str:
    tracer = status.get("TracerPid", "0")
    if tracer != "0":
        return f"process {tracer} traces it already (a debugger, strace); let that detach first"
    scope = _yama_scope()
    if scope == 3:
        return "kernel.yama.ptrace_scope is 3: no process may be traced until the next boot"
    uids = status.get("Uid", "").split()
    if uids and int(uids[0]) != os.getuid() and os.getuid() != 0:
        return f"it belongs to user {uids[0]}; run this as that user or with CAP_SYS_PTRACE (sudo)"
    if scope:
        return (
            f"kernel.yama.ptrace_scope is {scope}: run this with CAP_SYS_PTRACE (sudo), start the "
            "program from here (-- COMMAND), or set it to 0"
        )
    return (
        "that is not permitted; run this with CAP_SYS_PTRACE (sudo; in a container: --cap-add "
        "SYS_PTRACE)"
    )


def _yama_scope() -> int:
    try:
        return int(Path("/proc/sys/kernel/yama/ptrace_scope").read_text())
    except (OSError, ValueError):
        return 0


def status_of(pid: int) -> dict[str, str]:
    """/proc/PID/status; empty if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return {}
    return {
        key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())
    }
