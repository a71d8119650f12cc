"""What a controller tells while it steers a migration, and what comes of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from mempattern.interval import Interval
from mempattern.live.figures import Figures

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Decision:
    """What was done to QEMU, and the numbers that it rests on."""

    at_s: float
    """Since the migration began; 0 before that."""
    number: int
    """Of the last sync."""
    did: str
    """For people."""
    why: str
    """As the policy, or the controller, puts it."""
    pending_bytes: float
    """To be sent yet, in the figures that the decision rests on."""
    bandwidth_Bps: float
    """In the same figures: as QEMU measured it last; 0 before that."""
    limit_s: float
    """In force until then."""
    ceiling_s: float
    """The longest downtime allowed."""
    new_limit_s: float | None = None
    """In force after it, be it changed or not."""
    late_s: float = 0.0
    """After the pass that it answers: forecasts take time."""

    @property
    def pending_s(self) -> float | None:
        """What was to be sent takes so long at the bandwidth measured; None before it is."""
        return self.pending_bytes / self.bandwidth_Bps if self.bandwidth_Bps else None


@dataclass(frozen=True, slots=True)
class Passed:
    """A sync, with QEMU's figures after it and what the tracer saw since the one before."""

    ns: int
    """When QEMU was asked for the figures; CLOCK_MONOTONIC, as of the trace's intervals."""
    figures: Figures
    """QEMU's first ones after the sync."""
    limit_s: float
    """The downtime limit in force then."""
    dirty_pages: int | None
    """None where nobody traces."""


@dataclass(frozen=True, slots=True)
class Result:
    """How a migration ended."""

    figures: Figures
    """QEMU's last ones; `status` is "completed" if the guest has moved."""
    ceiling_s: float
    """The longest downtime allowed."""
    decisions: tuple[Decision, ...]
    """All that was done, in its order."""
    passes: tuple[Passed, ...]
    """Syncs from the second on, in their order; of several between two looks, the last."""
    failure: str | None = None
    """Why nobody steered it any more from some moment on; None if it was steered to its end."""
    trace_failure: str | None = None
    """Why not all is in the trace."""

    @property
    def completed(self) -> bool:
        """Whether the guest has moved."""
        return self.figures.status == "completed"

    @property
    def within_ceiling(self) -> bool | None:
        """Whether the downtime, as QEMU says, was; None if there was none."""
        downtime_s = self.figures.downtime_s
        return None if not self.completed or downtime_s is None else downtime_s <= self.ceiling_s


class Listener:
    """Told of a migration as it goes on, in the event loop; override what is of interest.

    One that raises is told nothing more, and the migration goes on.
    """

    def said(self, text: str) -> None:
        """What it does now, or could not do; for people."""

    def saw(self, interval: Interval) -> None:
        """The tracer, before and during the migration."""

    def looked(self, figures: Figures) -> None:
        """Some ten times a second."""

    def passed(self, done: Passed, iteration: Interval | None) -> None:
        """After each sync, with the pages written since the one before, as far as known."""

    def decided(self, decision: Decision) -> None:
        """After it was done."""

    def ended(self, result: Result) -> None:
        """The last that is told."""


class Audience(Listener):
    """Passes all on to a listener until that raises, of which a line is logged: a migration does
    not end because nobody listens any more."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.has_left: bool = False
        """Whether the listener has raised, and is told nothing more."""

    def said(self, text: str) -> None:
        self._tell("said", text)

    def saw(self, interval: Interval) -> None:
        self._tell("saw", interval)

    def looked(self, figures: Figures) -> None:
        self._tell("looked", figures)

    def passed(self, done: Passed, iteration: Interval | None) -> None:
        self._tell("passed", done, iteration)

    def decided(self, decision: Decision) -> None:
        self._tell("decided", decision)

    def ended(self, result: Result) -> None:
        self._tell("ended", result)

    def _tell(self, what: str, *arguments: object) -> None:
        if self.has_left:
            return
        try:
            getattr(self._listener, what)(*arguments)
        except (Exception, SystemExit) as error:  # rich exits where the reader of its output left
            self.has_left = True
            words = " ".join(f"{type(error).__name__}: {error}".split())
            _log.warning(
                "mempattern: nothing more is shown (%s); the migration is followed to its end",
                words,
            )
