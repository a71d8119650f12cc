"""What the intervals so far amount to: D(t), the pattern, and the verdict on a migration."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mempattern.curve import DirtyCurve
from mempattern.distinct import Windows

if TYPE_CHECKING:
    from mempattern.classify.kinds import Pattern
    from mempattern.migration.intensity import Intensity
    from mempattern.migration.observed import Observed

BANDWIDTH_BPS = 1.25e9
DOWNTIME_LIMIT_S = 0.3
"""A migration over 10 Gbit/s with QEMU's default limit (migration/migration.c): what is assumed
where the user does not say."""

_POINTS = 5


@dataclass(frozen=True)  # without slots, which have no room for the verdict
class Findings:
    """Nothing in it changes any more, so that any thread may ask for the verdict."""

    windows: tuple[Windows, ...]
    """D(t), as it was counted."""
    curve: DirtyCurve | None
    """None before the first interval, and where regions have pages of different sizes."""
    pattern: Pattern
    observed: Observed
    zero_pages: int | None
    is_guest: bool
    """Whether it is all the RAM of a guest, which can migrate."""
    bandwidth_Bps: float
    downtime_limit_s: float

    def some_windows(self) -> tuple[Windows, ...]:
        """The shortest, the longest, and some between."""
        last = len(self.windows) - 1
        chosen = {round(last * i / (_POINTS - 1)) for i in range(_POINTS)}
        return tuple(windows for i, windows in enumerate(self.windows) if i in chosen)

    @functools.cached_property
    def intensity(self) -> Intensity | None:
        """Whether the guest is memory intensive; None for what is no guest, and cannot migrate.

        To know it takes from some milliseconds to a second, and some seconds for a guest of 1 TiB.
        """
        if not self.is_guest:
            return None
        from mempattern.migration.intensity import Intensity, intensity  # noqa: PLC0415

        if self.curve is None:
            if self.windows:
                why = "its regions have pages of different sizes"
            else:
                why = "every interval lost pages" if len(self.observed) else "nothing was observed"
            return Intensity(self.bandwidth_Bps, self.downtime_limit_s, self.zero_pages, None, why)
        return intensity(
            self.curve, self.observed, self.bandwidth_Bps, self.downtime_limit_s,
            zero_pages=self.zero_pages,
        )  # fmt: skip
