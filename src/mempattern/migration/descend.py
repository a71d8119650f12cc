"""How low the pending pages of a migration get, if it is let."""

from __future__ import annotations

from mempattern.migration.policies.base import Action, Pass, Policy


class Descend(Policy):
    """Find out how low the pending pages get: keep the limit below what they would take to send.

    A migration under it does not end by itself before nothing is pending; each sync with fewer
    pending pages than any before is what a downtime limit just above would have ended with. It
    gives up once `patience_s` and ten passes have brought nothing.
    """

    _STEP = 0.97
    _LEAST_PASSES = 10

    def __init__(self, patience_s: float) -> None:
        self.lowest: list[Pass] = []
        self._patience_s = patience_s
        self._passes = 0

    def after(self, done: Pass) -> Action:
        if not self.lowest or done.pending_pages < self.lowest[-1].pending_pages * self._STEP:
            self.lowest.append(done)
            self._passes = 0
        self._passes += 1
        late = done.at_s > self.lowest[-1].at_s + self._patience_s
        if late and self._passes > self._LEAST_PASSES:
            return Action(give_up=True)
        bandwidth = done.bandwidth_Bps or 1.0
        return Action(downtime_limit_s=self._STEP * self.lowest[-1].pending_bytes / bandwidth)
