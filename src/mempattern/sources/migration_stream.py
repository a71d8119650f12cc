"""The pages that QEMU sends in each pass of a migration that leads nowhere: see docs/streams.md."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np

from mempattern import _results
from mempattern._checks import number_within
from mempattern._closing import close_in_children
from mempattern._native import ffi, lib
from mempattern.errors import ClosedError, QMPError, StreamEnded, StreamError
from mempattern.interval import Bitmap, Interval, Provenance
from mempattern.monitor.stream import OutgoingStream
from mempattern.regions import PAGE_BYTES, Region
from mempattern.sources.base import Source

_MOST_PAGES = 1 << 32
_BEGIN_S = 30.0
_CANCEL_S = 10.0

_PROVENANCE = Provenance(
    "qemu-migration-stream",
    blind_spots=("pages that the guest reports as free (virtio-balloon's free-page-hint)",),
    granularity=(
        "a page; what QEMU found written when it began the pass, and what it had not sent of the "
        "pass before: less than 1 ms of the bandwidth. About one pass in a hundred begins there, "
        "and some of its pages may be counted with the one before"
    ),
)


class MigrationStream(Source):
    """The guest's dirty pages as QEMU's own migration finds them, pass by pass; without ptrace.

    QEMU, which serves QMP on `qmp_socket` and runs as `pid`, migrates to here at `bandwidth_Bps`
    bytes a second. Each interval is a pass: the pages written between the beginnings of the pass
    before and of this one. The first pass sends all the guest's RAM and is no interval; it tells
    which pages are zero. Regions are QEMU's RAM blocks, and addresses lie in these.

    A guest that writes less than the bandwidth ends it: QEMU stops the guest for the rest, the
    stream is closed at once, and the guest runs on; for how long it stood, `docs/streams.md` says.
    Whatever ends it, the guest runs on here, and QEMU's settings are put back, also if this process
    is killed.

    Raises `QMPError` if QEMU does not do it, `StreamError` for a stream that is not understood.
    """

    def __init__(
        self, qmp_socket: str | os.PathLike[str], pid: int, bandwidth_Bps: float = 100e6
    ) -> None:
        bandwidth = int(number_within("bandwidth_Bps", bandwidth_Bps, PAGE_BYTES * 10, 1e12))
        out = ffi.new("mpat_ramstream **")
        _results.check(lib.mpat_ramstream_create(_MOST_PAGES, out), "a migration stream")
        self._stream = ffi.gc(out[0], lib.mpat_ramstream_destroy)
        self.provenance = _PROVENANCE
        self.regions: tuple[Region, ...] = ()
        self.passes: int = 0
        """Ended so far, with the first one."""
        self._blocks: tuple[Region | None, ...] = ()
        self._indices = itertools.count()
        self._changed = threading.Condition()
        self._waiting: _Passes | None = None
        self._zeros: tuple[Bitmap, ...] = ()
        self._end: Exception | None = None
        self._is_closed = False
        self._owner = os.getpid()
        self._socket, theirs = socket.socketpair()
        close_in_children(self._socket)
        with theirs:
            self._socket.settimeout(None)
            try:
                self._outgoing = OutgoingStream(qmp_socket, pid, theirs, bandwidth)
            except BaseException:
                self._socket.close()
                raise
        self._reader = threading.Thread(target=self._read, name="migration stream", daemon=True)
        self._reader.start()
        try:
            self._wait_for_blocks()
        except BaseException:
            self.close()
            raise

    def _wait_for_blocks(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._blocks or self._end, _BEGIN_S)
            if not self._blocks:
                raise self._end or QMPError(f"QEMU sent nothing within {_BEGIN_S:g} s")

    def collect(self) -> Interval:
        """The passes that ended since the collection before; if none did, the next one.

        Raises `StreamEnded` once the migration is over, `StreamError`, `ClosedError`.
        """
        begin_ns = time.monotonic_ns()
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._end or self._is_closed)
            if self._is_closed:
                raise ClosedError("this MigrationStream is closed; open a new one")
            passes, self._waiting = self._waiting, None
            if passes is None:
                assert self._end is not None
                raise self._end
        return Interval(
            index=next(self._indices),
            start_ns=passes.start_ns,
            end_ns=max(passes.end_ns, passes.start_ns + 1),
            regions=self.regions,
            bitmaps=self._by_name(passes.bitmaps),
            provenance=self.provenance,
            collect_ns=time.monotonic_ns() - begin_ns,
        )

    def intervals(
        self,
        period_s: float = 1e-6,
        count: SupportsIndex | None = None,
        *,
        wait: Callable[[float], object] = time.sleep,
    ) -> Iterator[Interval]:
        """One for each pass, unless a longer period or a slow consumer joins several of them."""
        return super().intervals(period_s, count, wait=wait)

    def zero_pages(self) -> dict[str, Bitmap]:
        """Of each region, the pages that were zero when they were sent last; waits for the first
        pass, in which all are. Raises as `collect`.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._zeros or self._end)
            if not self._zeros:
                assert self._end is not None
                raise self._end
            return self._by_name(self._zeros)

    def close(self) -> None:
        """Cancel the migration; wait until the guest runs on and the settings are put back.

        Raises `QMPError` if they could not be. May be called twice; does nothing in a forked child,
        which has no part in it.
        """
        if os.getpid() != self._owner:
            return
        with self._changed:
            if self._is_closed:
                return
            self._is_closed = True
            is_over = self._end is not None
            self._changed.notify_all()
        if not is_over and self._outgoing.cancel():
            self._reader.join(_CANCEL_S)
        self._shut()
        self._reader.join()
        self._socket.close()
        self._outgoing.end()

    def _shut(self) -> None:
        with suppress(OSError):  # it is already
            self._socket.shutdown(socket.SHUT_RDWR)

    def _by_name(self, bitmaps: tuple[Bitmap, ...]) -> dict[str, Bitmap]:
        pairs = zip(self._blocks, bitmaps, strict=True)
        return {block.name: words for block, words in pairs if block is not None}

    # ---- the thread that reads ------------------------------------------------------------------

    def _read(self) -> None:
        try:
            end = self._read_to_the_end()
        except Exception as error:
            end = error
        self._shut()
        with self._changed:
            self._end = end
            self._changed.notify_all()

    def _read_to_the_end(self) -> Exception:
        state = ffi.new("mpat_ramstream_state *")
        while True:
            result = lib.mpat_ramstream_read(self._stream, self._socket.fileno(), state)
            if result:
                return self._error(result)
            if state.n_blocks and not self._blocks:
                self._name_blocks(state)
            if state.untaken:
                self._take()
            if state.stopped:
                return StreamEnded(
                    "the guest wrote less than the migration sends, so that it came to its end; "
                    "the guest runs on. Ask for a lower bandwidth to see more passes"
                )
            if state.closed:
                return StreamEnded("QEMU has ended the migration")

    def _error(self, result: int) -> Exception:
        problem = ffi.string(lib.mpat_ramstream_problem(self._stream)).decode(errors="replace")
        if problem:
            return StreamError(f"QEMU's migration stream cannot be read: {problem}")
        return OSError(-result, os.strerror(-result))

    def _name_blocks(self, state: Any) -> None:
        blocks = tuple(self._region(i, state.page_bytes) for i in range(state.n_blocks))
        with self._changed:
            self.regions = tuple(block for block in blocks if block is not None)
            self._blocks = blocks
            self._changed.notify_all()

    def _region(self, i: int, page_bytes: int) -> Region | None:
        block = ffi.new("mpat_ramblock *")
        _results.check(lib.mpat_ramstream_block(self._stream, i, block), "the stream")
        name = ffi.string(block.name).decode(errors="replace")
        name = "".join(c if c.isprintable() else "?" for c in name)
        return Region(name, block.n_pages, page_bytes) if block.n_pages else None

    def _take(self) -> None:
        bitmaps, pointers = self._new_bitmaps()
        about = ffi.new("mpat_ramstream_pass *")
        _results.check(lib.mpat_ramstream_take(self._stream, pointers, about), "the stream")
        zeros, pointers = self._new_bitmaps()
        _results.check(lib.mpat_ramstream_zeros(self._stream, pointers), "the stream")
        with self._changed:
            self.passes = about.first + about.n_passes
            self._zeros = zeros
            if about.first > 0:  # the first pass sends what was written, and all else
                new = _Passes(bitmaps, about.start_ns, about.end_ns)
                self._waiting = new if self._waiting is None else self._waiting.joined(new)
            self._changed.notify_all()

    def _new_bitmaps(self) -> tuple[tuple[Bitmap, ...], Any]:
        bitmaps = tuple(np.zeros(b.n_words if b else 0, np.uint64) for b in self._blocks)
        pointers = [ffi.from_buffer("uint64_t[]", b) if b.size else ffi.NULL for b in bitmaps]
        return bitmaps, pointers


@dataclass(frozen=True, slots=True)
class _Passes:
    """One or more successive ones."""

    bitmaps: tuple[Bitmap, ...]
    start_ns: int
    end_ns: int

    def joined(self, later: _Passes) -> _Passes:
        bitmaps = tuple(a | b for a, b in zip(self.bitmaps, later.bitmaps, strict=True))
        return _Passes(bitmaps, self.start_ns, later.end_ns)
