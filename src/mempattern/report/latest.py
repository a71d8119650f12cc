"""What a live view shows of a trace as a whole, as fresh as a small share of the time allows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from mempattern.analysis.findings import Findings

if TYPE_CHECKING:
    from mempattern.migration.intensity import Intensity

_EVERY_S = 1.0
_SHARE = 0.01
"""Of the time, for what it costs, at most."""


class Latest:
    """The last findings, and the last verdict, which a thread of its own comes to: it may take
    longer than an interval, and no collection is to wait for it.

    `ask` returns the findings up to now.
    """

    def __init__(self, ask: Callable[[], Findings]) -> None:
        self._ask = ask
        self.findings: Findings | None = None
        self.intensity: Intensity | None = None
        """None before the first one, and for what cannot migrate."""
        self._next_s = 0.0
        self._cost_s = 0.0
        self._thread: threading.Thread | None = None

    def renew(self) -> None:
        """Unless it is too early for that."""
        now = time.monotonic()
        if now < self._next_s or (self._thread is not None and self._thread.is_alive()):
            return
        self._next_s = now + max(_EVERY_S, self._cost_s / _SHARE)
        start_s = time.thread_time()
        self.findings = findings = self._ask()
        asked_s = time.thread_time() - start_s
        self._thread = threading.Thread(target=self._judge, args=(findings, asked_s), daemon=True)
        self._thread.start()

    def _judge(self, findings: Findings, asked_s: float) -> None:
        start_s = time.thread_time()
        self.intensity = findings.intensity
        self._cost_s = asked_s + time.thread_time() - start_s
