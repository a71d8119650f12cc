"""How far above the bandwidth that lasts QEMU's own measure of it goes."""

from __future__ import annotations

from collections import deque

from mempattern.qemu.figures import Figures

_WINDOW_S = 1.5
"""That a lasting bandwidth is of."""
_MEMORY_S = 30.0
_MOST = 1.25
"""More is not luck: pages of zeros, or a link that became faster."""


class Luck:
    """QEMU stops the guest once what remains is below its measure of 0.1 s times the limit. While
    that goes up and down, it is likely to be a high one that does it, and what remains then takes
    longer than the limit."""

    def __init__(self) -> None:
        self._sent: deque[Figures] = deque()
        self._ratios: deque[tuple[float, float]] = deque()
        """When, and how large: falling from the first on."""

    @property
    def factor(self) -> float:
        """The largest measure of late over what lasted, from 1 to 1.25."""
        return self._ratios[0][1] if self._ratios else 1.0

    def see(self, now: Figures) -> None:
        """A look; those of the first pass, which has pages of zeros, do not count."""
        if now.number < 2:
            return
        self._sent.append(now)
        while len(self._sent) > 2 and now.at_s - self._sent[1].at_s >= _WINDOW_S:
            self._sent.popleft()
        first = self._sent[0]
        duration_s = now.at_s - first.at_s
        lasting_Bps = (now.sent_bytes - first.sent_bytes) / max(duration_s, 1e-3)
        if duration_s < _WINDOW_S or lasting_Bps <= 0:
            return
        ratio = min(max(now.bandwidth_Bps / lasting_Bps, 1.0), _MOST)
        while self._ratios and self._ratios[-1][1] <= ratio:
            self._ratios.pop()
        self._ratios.append((now.at_s, ratio))
        while now.at_s - self._ratios[0][0] > _MEMORY_S:
            self._ratios.popleft()
