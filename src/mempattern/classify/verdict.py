"""What MP says after an iteration."""

from __future__ import annotations

from dataclasses import dataclass

_SURE = 0.9
"""A sentence says "probably" below it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the VM is memory intensive, and the numbers that this rests on."""

    iteration: int
    """Its number, from 1."""
    memory_intensive: bool | None
    """True: stock pre-copy does not end. False: it does. None: not known yet."""
    probability: float
    """That the VM is memory intensive, 0 to 1. 0.5: nothing is known."""
    duration_s: float
    """Of the iteration."""
    active_groups: int
    """Groups with a page written in the iteration, in all regions."""
    stability: float | None
    """Groups active in this iteration and in the one before, as a share of those active in either
    (the Jaccard index of the two sets). None without an iteration before, or an active group."""
    dirty_bytes: int
    """In pages written in the iteration."""
    redirtied_share: float | None
    """Of `dirty_bytes`, what was dirty in the iteration before too. None as for `stability`."""
    volume_ratio: float | None
    """`dirty_bytes` over those of the iteration before: below 1 the volume shrinks. None without
    an iteration before, or a dirty page in it."""
    remaining_bytes: float
    """Estimate of what QEMU has left to send, with what the pass left waiting."""
    limit_bytes: float
    """What the bandwidth carries in the downtime limit: stock QEMU ends when less remains."""
    bandwidth_Bps: float
    """Of the link, as `MP` was told."""
    required_Bps: float | None
    """The bandwidth from which on stock pre-copy would end. None while not known."""
    required_factor: float | None
    """By what factor `required_Bps` may be off, one standard deviation."""
    projected_passes: int | None
    """Further passes until it ends. None: never, not within a hundred, or not known."""
    projected_bytes: float | None
    """What remains then, or, if it never ends, where the passes settle. None while not known."""
    trough_bytes: float
    """The most that a quiet time, as watched so far, lets the link carry beyond what is written."""
    lost_pages: int
    """Pages known to be missing from the iteration; if there are any it is not judged."""

    @property
    def confidence(self) -> float:
        """Probability of the likelier answer, 0.5 to 1."""
        return max(self.probability, 1 - self.probability)

    @property
    def sentence(self) -> str:
        """For people."""
        return f"{self._answer}: {self._reason}."

    @property
    def _answer(self) -> str:
        if self.memory_intensive is None:
            return "It is not known yet whether the VM is memory intensive"
        probably = "" if self.confidence >= _SURE else " probably"
        intensive = "memory intensive" if self.memory_intensive else "not memory intensive"
        return f"The VM is{probably} {intensive}"

    @property
    def _reason(self) -> str:
        if self.lost_pages:
            return f"at least {self.lost_pages} pages of this iteration were lost"
        volume = f"{_bytes(self.dirty_bytes)} in {self.active_groups} groups were written"
        limit = f"the {_bytes(self.limit_bytes)} that may remain"
        fits = min(self.remaining_bytes, self.dirty_bytes) < self.limit_bytes
        if fits and not self.memory_intensive:
            return f"{volume}, which is within {limit}"
        if self.required_Bps is None:
            return f"{volume}, and the next iteration tells whether that shrinks"
        rates = (
            f"to shrink to {limit}, the passes need {_bytes(self.required_Bps)}/s "
            f"(give or take a factor of {self.required_factor:.2g}) "
            f"of the link's {_bytes(self.bandwidth_Bps)}/s"
        )
        if self.redirtied_share is not None:
            volume += f", {self.redirtied_share:.0%} of it again"
        if self.required_Bps <= self.bandwidth_Bps:
            return f"{volume}; {rates}"
        settled = f"they settle at about {_bytes(self.projected_bytes or 0.0)}"
        if self.memory_intensive is False:
            settled += ", but a quiet time as seen before lets them end"
        return f"{volume}; {rates}, so that {settled}"


def _bytes(number: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1024
    return f"{number:.3g} GiB"
