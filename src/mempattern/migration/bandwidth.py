"""What a link carries, which may change while a migration goes on."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

from mempattern._checks import number_within, positive
from mempattern.errors import UsageError


class Bandwidth:
    """Bytes/s from a moment on: `Bandwidth((0, 125e6), (10, 25e6))` is slower after ten seconds.

    Raises `UsageError` for a bandwidth that is not positive and finite, or for moments, in seconds
    since the migration began, that do not begin at 0 and rise.
    """

    def __init__(self, *changes: tuple[float, float]) -> None:
        if not changes or changes[0][0] != 0:
            raise UsageError("the first bandwidth must be that from 0 seconds on")
        self._starts_s = [number_within("a change's moment", at_s, 0, 1e9, "seconds")
                          for at_s, _ in changes]  # fmt: skip
        if any(a >= b for a, b in zip(self._starts_s, self._starts_s[1:], strict=False)):
            raise UsageError("the moments at which the bandwidth changes must rise")
        self._Bps = [positive("bandwidth_Bps", Bps, "bytes/s") for _, Bps in changes]

    def at(self, now_s: float) -> float:
        """Bytes/s at that moment."""
        return self._Bps[bisect.bisect_right(self._starts_s, now_s) - 1]

    def change_after(self, now_s: float) -> float:
        """When it changes next; infinite if it does not."""
        number = bisect.bisect_right(self._starts_s, now_s)
        return self._starts_s[number] if number < len(self._starts_s) else math.inf

    def time_for(self, n_bytes: float, now_s: float) -> float:
        """How long it takes from then on to send so many."""
        at_s = now_s
        while (change_s := self.change_after(at_s)) < at_s + n_bytes / self.at(at_s):
            n_bytes -= (change_s - at_s) * self.at(at_s)
            at_s = change_s
        return at_s - now_s + n_bytes / self.at(at_s)

    @property
    def changes(self) -> Sequence[tuple[float, float]]:
        """As given: seconds since the migration began, and the bytes/s from then on."""
        return list(zip(self._starts_s, self._Bps, strict=True))
