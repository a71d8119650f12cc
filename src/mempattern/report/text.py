"""Plain lines, for pipes and logs; and the columns and facts that every view shows."""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from mempattern._closing import Closing
from mempattern._terminal import quoted
from mempattern.analysis.findings import Findings
from mempattern.analysis.watch import Row, SoFar, Summary
from mempattern.errors import UsageError
from mempattern.quantities import (
    format_bandwidth,
    format_duration,
    parse_bandwidth,
    parse_duration,
)
from mempattern.report.heat import CELLS, Density, Strips, heat_level
from mempattern.report.units import format_bytes, format_seconds, format_share

if TYPE_CHECKING:
    from mempattern.migration.intensity import Intensity

Column = tuple[str, int, Callable[[Row], str]]
COLUMNS: tuple[Column, ...] = (
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
_LEAST_S = 1e-9
"""A duration that is no zero when it is written in few digits."""
_TOLD = "what the very pages tell"


ENDINGS = {
    "count": "after the intervals asked for",
    "duration": "after the time asked for",
    "exit": "the target exited",
    "exec": "the target started another program in its place (exec)",
    "SIGHUP": "SIGHUP, as when a terminal closes",
    "SIGINT": "Ctrl-C",
    "SIGTERM": "SIGTERM",
    "file": "the trace file could not be written",
    "error": "the target could not be traced any further",
}
"""What ended a trace: in JSON, and in words."""


class View(Closing, ABC):
    """Shows rows as they come, and at the end, once it is left, the summary."""

    @abstractmethod
    def show(self, row: Row) -> None: ...

    @abstractmethod
    def show_summary(self, summary: Summary) -> None: ...


class SummaryView(View):
    """Prints nothing but the summary."""

    def __init__(self, out: TextIO | None = None) -> None:
        self.out: TextIO = out or sys.stdout

    def close(self) -> None:
        """Nothing is held."""

    def show(self, row: Row) -> None:
        """Is left out."""

    def show_summary(self, summary: Summary) -> None:
        print("\n".join(summary_lines(summary)), file=self.out, flush=True)


class PlainView(SummaryView):
    """Prints a line an interval, and the summary. `labelled` rows say the pattern they are of."""

    def __init__(self, out: TextIO | None = None, *, labelled: bool = False) -> None:
        super().__init__(out)
        self._columns = [column for column in COLUMNS if labelled or column[0] != "pattern"]
        self._strips = Strips()
        self._names = ""

    def show(self, row: Row) -> None:
        self._strips.follow(row, CELLS)
        names = "|".join(strip.heading for strip in self._strips.shown)
        if names != self._names:
            self._names = names
            print(" ".join(f"{name:>{n}}" for name, n, _ in self._columns), f"|{names}|",
                  file=self.out)  # fmt: skip
        cells = " ".join(f"{text(row):>{width}}" for _, width, text in self._columns)
        heat = "|".join(
            _strip(strip.density(row)).ljust(strip.width) for strip in self._strips.shown
        )
        print(f"{cells} |{heat}|", file=self.out, flush=True)

    def show_summary(self, summary: Summary) -> None:
        print(file=self.out)
        super().show_summary(summary)


def _strip(density: Density) -> str:
    return "".join(_RAMP[level] for level in heat_level(density, len(_RAMP)))


def distinct_text(findings: Findings) -> str:
    """D(t) on one line."""
    points = [
        f"{windows.pages:.0f} in {format_seconds(windows.window_s)}"
        for windows in findings.some_windows()
    ]
    none = "every interval lost pages" if len(findings.observed) else "no interval yet"
    return ", ".join(points) or none


def summary_lines(summary: Summary) -> list[str]:
    """What was seen altogether, a line a fact."""
    s = summary
    lines = [
        f"{s.n_intervals} intervals in {format_seconds(s.duration_s)} "
        f"from {s.provenance.source}, {s.total_pages} pages in its regions",
    ]
    if s.target.traced is not None:
        lines.append(f"target       {s.target}: {s.target.traced}")
    if s.ended is not None:
        lines.append(f"ended        {ENDINGS[s.ended]}{_exit_text(s.exit_code)}")
    if s.execs:
        lines.append(f"execs        {s.execs}, each to another program that was followed")
    lines += [
        f"touched      {s.so_far.touched_pages} distinct pages "
        f"({format_bytes(s.so_far.touched_bytes)}, "
        f"{format_share(s.so_far.touched_pages, s.total_pages)} of the regions)",
        f"dirtied      {s.total.dirty_pages} pages summed over the intervals, "
        f"{format_share(s.total.redirtied_pages, s.total.dirty_pages)} of them "
        "dirty in the interval before",
        f"D(t)         distinct pages: {distinct_text(s.findings)} (means)",
        f"peak         {format_bytes(s.peak_dirty_bytes_per_s)}/s "
        f"over {format_seconds(s.peak_duration_s)}",
        f"hot          {s.hot_pages} pages dirty in at least {s.hot_at_least} "
        f"of the last {s.hot_of} intervals",
    ]
    for group in s.hot_groups:
        lines.append(
            f"  group      {group.region}[{group.group}] at {group.address:#x}: "
            f"{group.write_rate:.0f} pages/s, {group.touched} pages touched, "
            f"active in {group.active_intervals} intervals"
        )
    lines.append(f"pattern      {s.findings.pattern.sentence}")
    lines += _migration_lines(s)
    lines += _verdict_lines(s)
    stopped = s.target.attach_s
    lines += [
        f"cost         {format_seconds(s.collect_median_s)} a collection (median; "
        f"{format_seconds(s.collect_max_s)} at most), "
        f"{100 * s.so_far.collect_share:.2g} % of the time; "
        + (f"the target stopped for {format_seconds(stopped)}; " if stopped is not None else "")
        + f"{format_bytes(s.stats_bytes)} of statistics, counted here by the {s.kernel} kernel",
        f"lost         {lost_text(s.so_far)}",
    ]
    if s.huge_bytes:
        lines.append(
            f"huge pages   {format_bytes(s.huge_bytes)} were in transparent huge pages; the first "
            "write to each split it"
        )
    if s.provenance.granularity != "a page":
        rule, *exceptions = s.provenance.granularity.split("; ")
        see = ", with exceptions: docs/tracing.md" if exceptions else ""
        lines.append(f"granularity  {rule}{see}")
    lines += [f"blind to     {spot}" for spot in s.provenance.blind_spots]
    return lines


def _migration_lines(summary: Summary) -> list[str]:
    """Of a trace of one: how it went."""
    if "migration" not in summary.facts:
        return []
    from mempattern.report.migrated import Migrated  # noqa: PLC0415

    migrated = Migrated.of(summary.facts, 0)
    return [] if migrated is None else [f"migration    {migrated.sentence}"]


def _verdict_lines(summary: Summary) -> list[str]:
    """Of what can migrate: would it, under which assumption, and what to do."""
    found = summary.findings.intensity
    if found is None:
        return []
    return [
        f"verdict      {found.sentence}",
        f"  assumed    {found.assumption} (--bandwidth, --downtime-limit)",
        *_advice_lines(found, summary.file),
    ]


def _advice_lines(found: Intensity, file: Path | None) -> list[str]:
    """The command is on a line of its own, to be copied."""
    if file is None:
        return [f"  advice     {advice_text(found, None)}"]
    return [f"  advice     {advised(found)}; {_TOLD}:", f"             {next_command(found, file)}"]


def advice_text(found: Intensity, file: Path | None) -> str:
    """What to do now, in one line."""
    if file is None:
        return f"{advised(found)}; record one, and mempattern predict says what its very pages tell"
    return f"{advised(found)}; {_TOLD}: {next_command(found, file)}"


def advised(found: Intensity) -> str:
    """What to do now, as far as D(t) tells."""
    downtime_s = found.outlook and found.outlook.downtime_s
    if found.memory_intensive is None:
        return "do not migrate on this trace alone"
    if found.memory_intensive:
        return "raise the limit, throttle the guest or use post-copy"
    if downtime_s and downtime_s.high > found.downtime_limit_s:
        return f"it can migrate, if the guest may be stopped for {_above(downtime_s.high)}"
    return "it can migrate as it is"


def next_command(found: Intensity, file: Path) -> str:
    """For a shell: over the same link, with the downtime that the advice is for as the ceiling."""
    downtime_s = found.outlook and found.outlook.downtime_s
    said = format_bandwidth(found.bandwidth_Bps)
    bandwidth = _exactly(found.bandwidth_Bps, said, parse_bandwidth, "B/s")
    if downtime_s and downtime_s.high > found.downtime_limit_s:
        ceiling = _above(downtime_s.high).replace(" ", "")
    else:
        said = format_duration(found.downtime_limit_s)
        ceiling = _exactly(found.downtime_limit_s, said, parse_duration, "s")
    name = f"./{file}" if str(file).startswith("-") else str(file)
    return f"mempattern predict {quoted(name)} --bandwidth {bandwidth} --max-downtime {ceiling}"


def _exactly(value: float, said: str, parse: Callable[[str], float], unit: str) -> str:
    """As it is said in few digits, if that is the value."""
    said = said.replace(" ", "")
    with suppress(UsageError):  # so small that it is said to be 0
        if math.isclose(parse(said), value):
            return said
    return f"{value:.12g}{unit}"


def _above(seconds: float) -> str:
    """In few digits, and never less than it is."""
    more = max(seconds, _LEAST_S)
    while parse_duration((said := format_duration(more)).replace(" ", "")) < seconds * (1 - 1e-9):
        more *= 1.002
    return said


def _exit_text(exit_code: int | None) -> str:
    if exit_code is None:
        return ""
    if exit_code < 0:
        return f"; the command was killed by signal {-exit_code}"
    return f"; the command's exit code was {exit_code}"


def lost_text(so_far: SoFar) -> str:
    """What is missing from the numbers, and from the trace file."""
    losses = [f"at least {so_far.lost_pages} pages"] if so_far.lost_pages else []
    if so_far.dropped:
        losses.append(f"{so_far.dropped} intervals of the file, whose disk did not keep up")
    return "; ".join(losses) or "nothing"
