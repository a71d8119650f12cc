"""The live view of a terminal: time runs down, addresses run across."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mempattern.analysis.findings import Findings
from mempattern.analysis.watch import Row, Summary
from mempattern.quantities import format_bandwidth, format_duration
from mempattern.report.heat import CELLS, Density, Strips, heat_level
from mempattern.report.latest import Latest
from mempattern.report.text import COLUMNS, Column, View, distinct_text, lost_text, summary_lines
from mempattern.report.units import format_bytes, format_share

# From cold to hot on a dark ground; the first is "no dirty page".
COLOURS = (
    "#1c2230", "#27407a", "#2f6db3", "#2f9fb8", "#46c08f",
    "#a3d05a", "#f0cf4a", "#f59a3a", "#ee5b3a", "#ff2e4d",
)  # fmt: skip

_ROOM_FOR_ALL = 110
_NOT_ON_NARROW_TERMINALS = frozenset(("#", "active", "runs", "lost"))
_FRAME = 4  # columns of the panel
_AROUND_ROWS = 12  # lines of the panel, the headings, the facts (one may take two), the shell's
_MOST_ROWS = 100
_REFRESH_S = 0.2  # drawing costs more than tracing does; the eye needs no more


def draws(console: Console) -> bool:
    """Whether it is a terminal that shows what we draw: colours, at places of our choice."""
    is_plain = console.no_color or console.is_dumb_terminal or console.color_system is None
    return console.is_terminal and not is_plain and console.encoding.startswith("utf")


class LiveView(View):
    """Shows the last rows as they come, and what is known so far. A context manager.

    `findings` returns what the rows amount to; it is asked as rarely as is cheap. `n_rows` is
    how many, where the terminal's height does not say it. `labelled` rows say the pattern they are
    of.
    """

    def __init__(
        self,
        title: str,
        console: Console,
        findings: Callable[[], Findings],
        n_rows: int | None = None,
        *,
        labelled: bool = False,
    ) -> None:
        self.title = title
        self.console = console
        self._n_rows = n_rows
        self._rows: deque[Row] = deque(maxlen=n_rows or _MOST_ROWS)
        self._labelled = labelled
        self._strips = Strips()
        self._live = Live(console=self.console, auto_refresh=False, transient=False)
        self._drawn_s = 0.0
        self._latest = Latest(findings)

    def add(self, row: Row) -> None:
        self._rows.append(row)
        self._strips.follow(row, self._room())

    def show(self, row: Row) -> None:
        self.add(row)
        now = time.monotonic()
        if now - self._drawn_s >= _REFRESH_S:
            self._draw()
            self._drawn_s = now

    def _draw(self) -> None:
        self._live.start()  # the first time; nothing happens the others
        self._live.update(self.frame(), refresh=True)

    def _columns(self) -> list[Column]:
        left_out = (
            frozenset[str]() if self.console.width >= _ROOM_FOR_ALL else _NOT_ON_NARROW_TERMINALS
        )
        if not self._labelled:
            left_out = left_out | {"pattern"}
        return [column for column in COLUMNS if column[0] not in left_out]

    def _room(self) -> int:
        """For the heat strips, in what the columns and the frame leave of the width."""
        columns = sum(max(width, len(name)) + 1 for name, width, _ in self._columns())
        return max(8, min(CELLS, self.console.width - columns - _FRAME - 1))

    def frame(self) -> RenderableType:
        columns = self._columns()
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        for name, width, _ in columns:
            table.add_column(name, justify="right", no_wrap=True, min_width=width)
        heading = Text(" ".join(strip.heading for strip in self._strips.shown))
        table.add_column(heading, no_wrap=True)
        n_rows = self._n_rows or max(3, self.console.height - _AROUND_ROWS)
        for row in list(self._rows)[-n_rows:]:
            table.add_row(*(Text(text(row)) for _, _, text in columns), self._heat(row))
        body = Group(table, Text("\n".join(self._facts())))
        return Panel(body, title=Text(self.title), subtitle=_legend(), expand=False)

    def _heat(self, row: Row) -> Text:
        text = Text()
        for number, strip in enumerate(self._strips.shown):
            if number:
                text.append(" ")
            append_cells(text, strip.density(row))
            text.append(" " * (strip.width - strip.n_cells))
        return text

    def _facts(self) -> list[str]:
        """Of the whole trace so far."""
        if not self._rows:
            return []
        row = self._rows[-1]
        so_far = row.so_far
        pages = sum(region.n_pages for region in row.regions)
        hidden = self._strips.n_hidden
        more = f", {hidden} more region{'s' if hidden > 1 else ''} not drawn" if hidden else ""
        return [
            f"working set  {so_far.touched_pages} pages touched "
            f"({format_bytes(so_far.touched_bytes)}, {format_share(so_far.touched_pages, pages)})"
            + more,
            *self._judged(),
            f"tracer       collects for {100 * so_far.collect_share:.2g} % of the time; "
            f"lost {lost_text(so_far)}",
        ]

    def _judged(self) -> list[str]:
        """A second old or more."""
        self._latest.renew()
        seen, found = self._latest.findings, self._latest.intensity
        if seen is None:
            return []
        pattern = seen.pattern
        lines = [
            f"D(t)         {distinct_text(seen)}",
            f"pattern      {pattern.kind}, confidence {pattern.confidence:.2f}",
        ]
        if found is not None:
            bandwidth = format_bandwidth(found.bandwidth_Bps)
            limit = format_duration(found.downtime_limit_s)
            lines.append(f"verdict      {found.answer} ({bandwidth}, {limit})")
        return lines

    def show_summary(self, summary: Summary) -> None:
        """After the view is left: what it showed stays above."""
        lines = Group(*(Text(line) for line in summary_lines(summary)))
        self.console.print(Panel(lines, title="summary", expand=False))

    def close(self) -> None:
        """Leave the last frame on the screen. May be called twice."""
        if self._live.is_started:
            self._draw()
        self._live.stop()


def append_cells(text: Text, density: Density) -> None:
    """Cells of one colour are one span: a frame is mostly long runs."""
    levels = heat_level(density, len(COLOURS))
    start = 0
    for end in range(1, len(levels) + 1):
        if end == len(levels) or levels[end] != levels[start]:
            text.append(" " * (end - start), style=f"on {COLOURS[levels[start]]}")
            start = end


def _legend() -> Text:
    text = Text("dirty share of a cell: 0 ")
    for colour in COLOURS:
        text.append("  ", style=f"on {colour}")
    text.append(" 1, as its square root")
    return text
