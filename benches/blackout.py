"""For how long a migrating guest stood still, as somebody sees who watches it count."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Self

_PERIOD_S = 0.0005


class Blackout:
    """Reads a counter of the guest's at its source and its destination, until closed.

    `here` and `there` give its value, which grows as long as the guest runs: the destination runs
    once its value is above the last that the source ever had.
    """

    def __init__(self, here: Callable[[], int], there: Callable[[], int]) -> None:
        self._here, self._there = here, there
        self._last = (0.0, -1)
        """When the source's value changed last, and to what."""
        self._arrived: list[tuple[float, int]] = []
        """Each change of the destination's value: it also changes as memory arrives."""
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()

    @property
    def seconds(self) -> float | None:
        """None if it has not moved."""
        stopped_s, last = self._last
        return next((at_s - stopped_s for at_s, value in self._arrived if value > last), None)

    def _run(self) -> None:
        before = None
        while not self._closed.wait(_PERIOD_S):
            value, now_s = self._here(), time.monotonic()
            if value != self._last[1]:
                self._last = (now_s, value)
            there, now_s = self._there(), time.monotonic()
            if there != before:
                before = there
                self._arrived.append((now_s, there))
                del self._arrived[:-20_000]
