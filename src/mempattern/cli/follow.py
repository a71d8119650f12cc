"""A target's intervals, also after a command executed another program in its place."""

from __future__ import annotations

import argparse
import errno
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

from mempattern._closing import Closing
from mempattern.analysis.target import Target
from mempattern.cli import attach
from mempattern.cli.stop import Stop
from mempattern.errors import ProcessError
from mempattern.interval import Interval
from mempattern.sources import Source

_EXEC_S = 1.0
_RETRY_S = 0.005
# The memory is gone, there is none of that kind yet, or no code yet; or all threads are busy.
_IN_AN_EXEC = (errno.ESRCH, errno.ENXIO, errno.ENOEXEC, errno.EAGAIN)

_Opened = TypeVar("_Opened")


class Followed(Closing):
    """Takes the source over; for a command, opens one anew for each program it goes on with."""

    def __init__(
        self, source: Source, target: Target, options: argparse.Namespace, stop: Stop
    ) -> None:
        self.source: Source = source
        self.target: Target = target
        """As it is now, with the cost of all attachments."""
        self.execs: int = 0
        self._options = options
        self._stop = stop
        self._huge_bytes_before = 0

    @property
    def huge_bytes(self) -> int | None:
        """In transparent huge pages when they were protected; None where nothing splits them."""
        now = getattr(self.source, "huge_bytes", None)
        return None if now is None else self._huge_bytes_before + int(now)

    def intervals(self, executed: Callable[[], None]) -> Iterator[Interval]:
        """Numbered through; between a program's last one and the next one's first there is a gap,
        in which `executed` is called.

        Raises `ProcessError` if the program that it goes on with cannot be traced.
        """
        numbers = itertools.count()
        while True:
            for interval in self.source.intervals(self._options.interval, wait=self._stop.wait):
                number = next(numbers)
                yield interval if interval.index == number else replace(interval, index=number)
            if not self._follow():
                return
            executed()

    def _follow(self) -> bool:
        from mempattern.sources.process import ProcessSource  # noqa: PLC0415

        before = self.source
        if not self._options.command or not isinstance(before, ProcessSource):
            return False
        before.close()
        if self._stop.signal is not None:
            return False
        try:
            self.source = open_executed(
                lambda: attach.open_again(before, split_thp=self._options.split_thp), self._stop
            )
        except EOFError:
            return False
        except ProcessError:
            if attach.is_ending(before.pid):
                return False
            raise
        self.execs += 1
        self._huge_bytes_before += getattr(before, "huge_bytes", 0)
        costs = (self.target.attach_s, getattr(self.source, "attach_s", None))
        self.target = replace(
            self.target,
            name=attach.process_name(before.pid),
            attach_s=sum(cost for cost in costs if cost is not None),
        )
        return True

    def close(self) -> None:
        """Let the target go. May be called twice."""
        self.source.close()


def open_executed(open_once: Callable[[], _Opened], stop: Stop) -> _Opened:
    """What `open_once` returns, given time: a command may be just about to execute a program.

    Raises `ProcessError`, and `EOFError` on a signal.
    """
    deadline = time.monotonic() + _EXEC_S
    while True:
        try:
            return open_once()
        except ProcessError as error:
            in_an_exec = error.errno in _IN_AN_EXEC and not stop.ended_within(0)
            if not in_an_exec or time.monotonic() > deadline:
                raise
        stop.wait(_RETRY_S)
