"""The kinds of pattern, and what a verdict on one rests on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How a VM, or a region, dirties its memory."""

    IDLE = "idle"
    """Hardly at all."""
    SWEEP = "sweep"
    """One page after the other, and again from the start, in whatever step."""
    HOTSET = "hot set"
    """A small part of the pages takes most of the writes; or all of them are always dirty."""
    UNIFORM = "uniform"
    """Pages at random, each as likely as another."""
    ZIPF = "zipf-like"
    """Pages at random, of a popularity that falls as a power of the rank."""
    PHASED = "phased"
    """In turns: how much, or which pages, repeats itself after a period."""
    MIXED = "mixed"
    """Several of these in different parts; or none of them."""
    UNKNOWN = "unknown"
    """Too little was seen."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The numbers a verdict rests on, of the last intervals: at most 64, where not said otherwise.

    Those about pages are of a sample of them. What could not be measured is 0.
    """

    n_intervals: int = 0
    """How many those are: fewer also where the sample knows its pages for a shorter time."""
    duration_s: float = 0.0
    """From the first interval's start to the last one's end."""
    dirty_pages_per_s: float = 0.0
    """Distinct pages in each interval, by its length."""
    redirtied_share: float = 0.0
    """Of the dirty pages."""
    distinct_pages: float = 0.0
    """Pages dirty at least once, estimated: those dirty in each interval, summed, by how often the
    sample's pages were dirty.
    """
    sampled_pages: int = 0
    """Pages of the sample dirty at least once."""
    rewritten_share: float = 0.0
    """Of the distinct pages, those dirty in the mean interval; 1: all of them, always."""
    in_order: float = 0.0
    """Neighbouring pages written a constant time one after the other: 0 as by chance, 1 all."""
    spread: float = 0.0
    """Of the pages' numbers of dirty intervals: 0 if they differ by one at most, 1 if they vary as
    random writes of one rate do, more if rates differ.
    """
    misfit_uniform: float = 0.0
    """As `misfit_zipf`, of one rate for all pages."""
    misfit_hotset: float = 0.0
    """As `misfit_zipf`, of two rates."""
    misfit_zipf: float = 0.0
    """Nats a page by which the best law of the kind falls short of the pages' numbers of dirty
    intervals: one rate, two rates, a power law. 0 is perfect.
    """
    hot_pages: float = 0.0
    """Share of the pages in the hot set, if there is one."""
    hot_writes: float = 0.0
    """Share of the writes they get."""
    period_s: float | None = None
    """Of the last 512 intervals at most."""
    n_periods: float = 0.0
    """Periods seen."""
    known_share: float = 1.0
    """Time that intervals cover, times the pages not lost, as shares."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A verdict."""

    kind: Kind
    """`Kind.UNKNOWN` also where the likeliest one has a confidence below 0.5."""
    confidence: float
    """0 to 1: how often a verdict with this confidence is right, in the trials of
    docs/patterns.md.
    """
    evidence: Evidence
    """What was measured of the region, or of all regions as if they were one."""
    parts: tuple[tuple[str, Kind], ...] = ()
    """Of a mixed pattern, the kinds of the regions that make it so, where regions do."""

    @property
    def period_s(self) -> float | None:
        """Of a phased pattern, else None."""
        return self.evidence.period_s if self.kind is Kind.PHASED else None

    @property
    def sentence(self) -> str:
        """For people."""
        e = self.evidence
        seen = f"{e.n_intervals} intervals in {e.duration_s:.3g} s"
        if self.kind is Kind.UNKNOWN:
            return f"unknown: {seen} with {e.sampled_pages} pages sampled tell too little"
        says = f"{self.kind}, confidence {self.confidence:.2f}: {self._reason()}"
        lost = "" if e.known_share > 0.99 else f", of which {1 - e.known_share:.0%} are missing"
        return f"{says} ({e.dirty_pages_per_s:.0f} pages/s over {seen}{lost})"

    def _reason(self) -> str:
        e = self.evidence
        match self.kind:
            case Kind.IDLE:
                reason = "hardly a page is written"
            case Kind.SWEEP:
                reason = "pages are written one after the other, all equally often"
            case Kind.HOTSET if e.hot_pages == 1:
                reason = (
                    f"{e.rewritten_share:.0%} of its {e.distinct_pages:.0f} pages are dirty in "
                    "every interval; shorter ones might show an order"
                )
            case Kind.HOTSET:
                reason = f"{e.hot_pages:.2%} of the pages take {e.hot_writes:.0%} of the writes"
            case Kind.UNIFORM:
                reason = f"{e.distinct_pages:.0f} pages are written at random, equally often"
            case Kind.ZIPF:
                reason = "the popularity of pages falls as a power of their rank"
            case Kind.PHASED if e.period_s is not None:
                reason = (
                    f"it repeats itself every {e.period_s:.3g} s, {e.n_periods:.1f} times "
                    f"in {e.period_s * e.n_periods:.3g} s"
                )
            case _ if self.parts:
                reason = ", ".join(f"{name} is {kind}" for name, kind in self.parts)
            case _:
                reason = "no single pattern describes its writes"
        return reason
