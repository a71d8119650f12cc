"""When to stop: signals and the target's end, seen between two collections and never inside one."""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress
from types import FrameType
from typing import Any

from mempattern._closing import Closing

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop(Closing):
    """Takes SIGINT, SIGTERM and SIGHUP as requests while it is open. For the main thread.

    A second signal raises `KeyboardInterrupt`, for whoever cannot wait; but not a second SIGHUP:
    a shell that gets one passes it on. What was ignored before, as SIGINT is in a shell's
    background jobs and SIGHUP under nohup, stays ignored.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        """The one that came."""
        self._pidfd: int | None = None
        self._read, write = os.pipe()
        os.set_blocking(write, False)
        self._write = write
        self._wakeup_before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        self._before: dict[signal.Signals, Any] = {}
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._take)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None:
            if number == signal.SIGHUP:
                return
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)

    def watch(self, pid: int) -> None:
        """Also wake up when this process ends."""
        with suppress(OSError):  # the source will say what is the matter with it
            self._pidfd = os.pidfd_open(pid)

    def ended_within(self, seconds: float) -> bool:
        """Whether the process that is watched ends within so long, or is gone already."""
        if self._pidfd is None:
            return True
        return bool(select.select([self._pidfd], [], [], seconds)[0])

    def wait(self, seconds: float) -> None:
        """Sleep, at most until the target ends or a signal comes.

        After a signal the interval that has begun is still collected if half of the wait is over,
        else `EOFError` is raised: so short an interval would say little.
        """
        start = time.monotonic()
        descriptors = [self._read]
        if self._pidfd is not None and not self.ended_within(0):
            descriptors.append(self._pidfd)
        left = seconds
        while self.signal is None and left > 0:
            ready = select.select(descriptors, [], [], left)[0]
            if self._read not in ready:
                break
            os.read(self._read, 4096)  # of our signals, or of another that has a handler
            left = start + seconds - time.monotonic()
        if self.signal is not None and time.monotonic() - start < seconds / 2:
            raise EOFError

    def close(self) -> None:
        """Give the signals back. May be called twice."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
        if self._read >= 0:
            signal.set_wakeup_fd(self._wakeup_before)
            for descriptor in (self._read, self._write, self._pidfd):
                if descriptor is not None:
                    os.close(descriptor)
            self._read, self._pidfd = -1, None
