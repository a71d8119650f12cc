"""The live view of a terminal: time runs down, addresses run across."""

from __future__ import annotations

from collections import deque

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mempattern._closing import Closing
from mempattern.report.text import COLUMNS, heat_level, summary_lines
from mempattern.report.watch import CELLS, Density, Row, Summary

# From cold to hot on a dark ground; the first is "no dirty page".
_COLOURS = (
    "#1c2230", "#27407a", "#2f6db3", "#2f9fb8", "#46c08f",
    "#a3d05a", "#f0cf4a", "#f59a3a", "#ee5b3a", "#ff2e4d",
)  # fmt: skip


_ROOM_FOR_ALL = 110
_ON_NARROW_TERMINALS = ("t", "dirty", "dirty rate", "redirtied", "pattern")


class LiveView(Closing):
    """Shows the last rows as they come. A context manager."""

    def __init__(self, title: str, console: Console, n_rows: int | None = None) -> None:
        self.title = title
        self.console = console
        self._rows: deque[Row] = deque(maxlen=n_rows or max(4, console.size.height - 8))
        is_narrow = console.width < _ROOM_FOR_ALL
        self._columns = [c for c in COLUMNS if not is_narrow or c[0] in _ON_NARROW_TERMINALS]
        self._live = Live(console=self.console, auto_refresh=False, transient=False)

    def n_cells(self, n_regions: int) -> int:
        """Of the heat strips together, in what the columns and the frame leave of the width."""
        columns = sum(max(width, len(name)) + 1 for name, width, _ in self._columns)
        return max(8, min(CELLS, self.console.width - columns - n_regions - 6))

    def add(self, row: Row) -> None:
        self._rows.append(row)

    def show(self, row: Row) -> None:
        self.add(row)
        self._live.start()  # the first time; nothing happens the others
        self._live.update(self.frame(), refresh=True)

    def frame(self) -> RenderableType:
        table = Table(box=None, pad_edge=False)
        for name, _, _ in self._columns:
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column(_heading(self._rows[-1].heat if self._rows else {}), no_wrap=True)
        for row in self._rows:
            table.add_row(*(Text(text(row)) for _, _, text in self._columns), _strips(row.heat))
        return Panel(table, title=Text(self.title), subtitle=_legend(), expand=False)

    def show_summary(self, summary: Summary) -> None:
        """After the view is left: what it showed stays above."""
        lines = Group(*(Text(line) for line in summary_lines(summary)))
        self.console.print(Panel(lines, title="summary", expand=False))

    def close(self) -> None:
        """Leave the last frame on the screen. May be called twice."""
        self._live.stop()


def _heading(heat: dict[str, Density]) -> Text:
    """Each region's name where its strip begins."""
    names = [f"{name} address →".ljust(len(cells))[: len(cells)] for name, cells in heat.items()]
    return Text(" ".join(names))


def _strips(heat: dict[str, Density]) -> Text:
    text = Text()
    for number, density in enumerate(heat.values()):
        if number:
            text.append(" ")
        for level in heat_level(density, len(_COLOURS)):
            text.append(" ", style=f"on {_COLOURS[level]}")
    return text


def _legend() -> Text:
    text = Text("dirty share of a cell: 0 ")
    for colour in _COLOURS:
        text.append("  ", style=f"on {colour}")
    text.append(" 1")
    return text
