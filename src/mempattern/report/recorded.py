"""A recording in one line."""

from __future__ import annotations

from mempattern.migration.traces import Facts
from mempattern.quantities import format_duration
from mempattern.report.units import format_bytes, format_seconds


def trace_line(facts: Facts) -> str:
    """100.0 MiB in 1 region, observed for 6.0 s in 60 intervals; 52.0 MiB were written"""
    text = (
        f"{format_bytes(facts.n_pages * facts.page_bytes)} in {facts.n_regions} "
        f"region{_s(facts.n_regions)}, observed for {format_seconds(facts.observed_s)} "
        f"in {facts.n_intervals} interval{_s(facts.n_intervals)}; "
        f"{format_bytes(facts.touched_pages * facts.page_bytes)} were written"
    )
    if facts.period_s is not None:
        text += f", again every {format_duration(facts.period_s)}"
    return text


def _s(n: int) -> str:
    return "s" if n != 1 else ""
