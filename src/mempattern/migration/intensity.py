"""Is a VM memory intensive, so that stock pre-copy does not end: told from D(t), in advance.

`classify.MP` says it of the passes of a migration that is under way. Here there is none yet: it is
played out over the least, the expected and the most that D(t) says of a window.
"""

from __future__ import annotations

from dataclasses import dataclass

from mempattern._checks import positive_seconds
from mempattern.curve import DirtyCurve
from mempattern.migration.doubts import FEWEST, doubt
from mempattern.migration.memory import CHUNK_PAGES
from mempattern.migration.migrations import Migrations, memories
from mempattern.migration.observed import Observed
from mempattern.migration.outlook import Outlook, Range
from mempattern.quantities import (
    BYTES,
    DURATIONS,
    format_bandwidth,
    format_duration,
    format_range,
)
from mempattern.regions import PAGE_BYTES

_MOST_LOSSY = 0.1
"""Of the intervals, for D(t) to be that of the others."""


@dataclass(frozen=True, slots=True)
class Intensity:
    """Whether stock pre-copy would end, if it began now and the guest went on as it was seen."""

    bandwidth_Bps: float
    downtime_limit_s: float
    zero_pages: int | None
    """Taken to hold only zeros. None: that is not known, and none is."""
    memory_intensive: bool | None
    """True: it does not end. False: it does. None: not known."""
    doubt: str | None = None
    """Why that is not known, and what would help."""
    outlook: Outlook | None = None
    """Of the migration, if it ends."""
    least_limit_s: Range | None = None
    """The smallest downtime limit with which it would, if it does not end."""

    @property
    def answer(self) -> str:
        """In a few words."""
        if self.memory_intensive is None:
            return "not known whether memory intensive"
        return "memory intensive" if self.memory_intensive else "not memory intensive"

    @property
    def sentence(self) -> str:
        """For people: the answer and the figures."""
        return f"{self.answer}: {self._reason}"

    @property
    def assumption(self) -> str:
        """What the answer holds for."""
        zero = (
            "no page taken to hold only zeros"
            if self.zero_pages is None
            else f"{self.zero_pages} pages taken to hold only zeros"
        )
        return (
            f"a link of {format_bandwidth(self.bandwidth_Bps)}, a downtime limit of "
            f"{format_duration(self.downtime_limit_s)}, {zero}"
        )

    @property
    def _reason(self) -> str:
        if self.doubt is not None:
            return self.doubt
        if self.least_limit_s is not None:
            return (
                "stock pre-copy does not end; it would with a downtime limit of "
                f"{_text(self.least_limit_s)}"
            )
        assert self.outlook is not None
        return f"stock pre-copy ends, {_figures(self.outlook)}"


def intensity(
    curve: DirtyCurve,
    observed: Observed,
    bandwidth_Bps: float,
    downtime_limit_s: float,
    *,
    zero_pages: int | None = None,
) -> Intensity:
    """Play stock pre-copy out over the bounds of a VM's curve.

    The answer is given only if all bounds agree on it, and what was observed bears it. It takes
    from a few milliseconds to a second.

    Raises `UsageError` for numbers that are not positive and finite.
    """
    shared = memories(curve, curve.n_pages, zero_pages or 0, CHUNK_PAGES)
    downtime_limit_s = positive_seconds("downtime_limit_s", downtime_limit_s)
    link = Migrations(curve, shared, bandwidth_Bps)
    outlook = link.outlook(downtime_limit_s)
    ends = outlook.converges
    unsure = _doubt(observed, link, downtime_limit_s, ends)
    if unsure is not None:
        return Intensity(bandwidth_Bps, downtime_limit_s, zero_pages, None, unsure)
    return Intensity(
        bandwidth_Bps,
        downtime_limit_s,
        zero_pages,
        memory_intensive=not ends,
        outlook=outlook if ends else None,
        least_limit_s=None if ends else link.least_limit_s(),
    )


def _doubt(observed: Observed, link: Migrations, limit_s: float, ends: bool | None) -> str | None:
    if len(observed) < FEWEST:
        return f"observe for longer: {len(observed)} intervals show too little"
    if observed.n_lossy > _MOST_LOSSY * len(observed):
        return (
            f"observe again: {observed.n_lossy} of {len(observed)} intervals lost pages, and are "
            f"not in D(t)"
        )
    found = doubt(observed, link, limit_s, ends=ends is not False)
    if found is not None:
        return found
    if ends is None:
        return (
            "the guest varies too much: with the least that D(t) leaves possible it ends, with the "
            "most it does not"
        )
    page_bytes = link.workload.page_bytes
    if not ends and page_bytes > PAGE_BYTES:
        return f"its pages of {page_bytes} bytes do not tell how much of each is written"
    return None


def _figures(outlook: Outlook) -> str:
    """Of one that ends."""
    assert outlook.passes
    assert outlook.total_s
    assert outlook.sent_bytes
    assert outlook.downtime_s
    passes = outlook.passes
    n = format_range(round(passes.low), round(passes.middle), round(passes.high))
    return (
        f"in {n} passes and {_text(outlook.total_s)}, sends "
        f"{format_range(*_parts(outlook.sent_bytes), BYTES)}, and stops the guest for "
        f"{_text(outlook.downtime_s)}"
    )


def _text(one: Range) -> str:
    return format_range(*_parts(one), DURATIONS)


def _parts(one: Range) -> tuple[float, float, float]:
    return one.low, one.middle, one.high
