"""Plain lines, for pipes and logs; and the columns that every view shows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mempattern._closing import Closing
from mempattern.report.units import format_bytes, format_seconds, format_share
from mempattern.report.watch import CELLS, Density, Row, Summary

COLUMNS: tuple[tuple[str, int, Callable[[Row], str]], ...] = (
    ("#", 4, lambda row: str(row.index)),
    ("t", 7, lambda row: f"{row.time_s:.2f}s"),
    ("dirty", 7, lambda row: str(row.seen.dirty_pages)),
    ("dirty rate", 13, lambda row: f"{format_bytes(row.dirty_bytes_per_s)}/s"),
    ("redirtied", 9, lambda row: format_share(row.seen.redirtied_pages, row.seen.dirty_pages)),
    ("fresh", 7, lambda row: str(row.seen.fresh_pages)),
    ("active", 6, lambda row: str(row.seen.active_groups)),
    ("runs", 6, lambda row: str(row.seen.runs)),
    ("lost", 4, lambda row: str(row.lost_pages or "-")),
    ("pattern", 8, lambda row: row.label),
)
"""Heading, least width, and text of each column; active counts groups."""

_RAMP = " .:-=+*#%@"


class PlainView(Closing):
    """Prints a line an interval, and the summary. A context manager, as the live view is."""

    def __init__(self) -> None:
        print(" ".join(f"{name:>{width}}" for name, width, _ in COLUMNS) + "  heat")

    def close(self) -> None:
        """Nothing is held."""

    def n_cells(self, n_regions: int) -> int:
        """Of the heat strips together; a line may be as long as it likes."""
        return CELLS

    def show(self, row: Row) -> None:
        cells = " ".join(f"{text(row):>{width}}" for _, width, text in COLUMNS)
        heat = "|".join(_strip(density) for density in row.heat.values())
        print(f"{cells} |{heat}|", flush=True)

    def show_summary(self, summary: Summary) -> None:
        print("\n".join(["", *summary_lines(summary)]))


def heat_level(density: Density, n_levels: int) -> list[int]:
    """0 for no dirty page, else 1 to n_levels - 1 on a square-root scale, which shows the faint."""
    scaled = np.ceil(np.sqrt(np.clip(density, 0, 1)) * (n_levels - 1))
    return [int(level) for level in scaled]


def _strip(density: Density) -> str:
    return "".join(_RAMP[level] for level in heat_level(density, len(_RAMP)))


def summary_lines(summary: Summary) -> list[str]:
    """What was seen altogether, a line a fact."""
    s = summary
    lines = [
        f"{s.n_intervals} intervals in {format_seconds(s.duration_s)} "
        f"from {s.provenance.source}, {s.total_pages} pages watched",
        f"touched      {s.touched_pages} distinct pages ({format_bytes(s.touched_bytes)}, "
        f"{format_share(s.touched_pages, s.total_pages)} of the memory)",
        f"dirtied      {s.dirty_pages} pages summed over the intervals, "
        f"{format_share(s.redirtied_pages, s.dirty_pages)} of them dirty in the interval before",
        f"peak         {format_bytes(s.peak_dirty_bytes_per_s)}/s "
        f"over {format_seconds(s.peak_duration_s)}",
        f"hot          {s.hot_pages} pages dirty in at least {s.hot_at_least} "
        f"of the last {s.hot_of} intervals",
    ]
    for group in s.hot_groups:
        lines.append(
            f"  group      {group.region}[{group.group}]: {group.write_rate:.0f} pages/s, "
            f"{group.touched} pages touched, active in {group.active_intervals} intervals"
        )
    lines += [
        f"cost         {format_seconds(s.collect_median_s)} a collection (median; "
        f"{format_seconds(s.collect_max_s)} at most), {format_bytes(s.stats_bytes)} of statistics, "
        f"kernel {s.kernel}",
        "lost         " + (f"at least {s.lost_pages} pages" if s.lost_pages else "nothing"),
    ]
    lines += [f"blind to     {spot}" for spot in s.provenance.blind_spots]
    return lines
