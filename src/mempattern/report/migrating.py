"""A migration as it is steered: plain lines, JSON lines, or a live view."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mempattern.interval import Interval
from mempattern.live.decisions import Decision, Listener, Passed, Result
from mempattern.live.figures import Figures
from mempattern.live.record import decision_object, pass_object, result_object
from mempattern.report.heat import Density
from mempattern.report.jsonlines import print_json
from mempattern.report.live import append_cells
from mempattern.report.units import format_bytes, format_seconds

MIGRATION = "mempattern.migration/1"
_PASSES, _DECISIONS = 12, 4
_REFRESH_S = 0.2
_CELLS = 40


def decision_line(decision: Decision) -> str:
    """What was done, the numbers, and why."""
    numbers = ""
    if decision.number:
        takes = _takes(decision.pending_bytes, decision.bandwidth_Bps)
        numbers = f" ({format_bytes(decision.pending_bytes)} to send{takes})"
    why = f". {decision.why}" if decision.why else ""
    return f"{decision.did}{numbers}{why}"


def pass_line(done: Passed) -> str:
    now = done.figures
    written = ""
    if done.dirty_pages is not None:
        written = f", {format_bytes(done.dirty_pages * now.page_bytes)} written in it"
    return (
        f"pass {now.number}: {format_bytes(now.remaining_bytes)} to send"
        f"{_takes(now.remaining_bytes, now.bandwidth_Bps)}{written}; "
        f"limit {format_seconds(done.limit_s)}"
    )


def result_lines(result: Result) -> list[str]:
    """The end, and what went wrong."""
    now = result.figures
    sent = f"{format_bytes(now.sent_bytes)} sent, {now.number} syncs"
    lines = [f"{now.status} after {format_seconds(now.at_s)}: {sent}"]
    if result.completed and now.downtime_s is not None:
        kept = "within" if result.within_ceiling else "ABOVE"
        lines.append(
            f"the guest stood still for {format_seconds(now.downtime_s)}, {kept} the "
            f"{format_seconds(result.ceiling_s)} allowed"
        )
    if now.error:
        lines.append(f"QEMU says: {now.error}")
    if result.failure:
        lines.append(f"{result.failure}; QEMU went on by itself")
    if not result.completed:
        lines.append("the guest is where it was")
    return lines


def _takes(n_bytes: float, bandwidth_Bps: float) -> str:
    return f", which takes {format_seconds(n_bytes / bandwidth_Bps)}" if bandwidth_Bps else ""


class Lines(Listener):
    """A line a pass and a decision."""

    def __init__(self) -> None:
        self._at_s = 0.0

    def said(self, text: str) -> None:
        print(text, flush=True)

    def looked(self, figures: Figures) -> None:
        self._at_s = figures.at_s

    def passed(self, done: Passed, iteration: Interval | None) -> None:
        print(f"{done.figures.at_s:8.2f} s  {pass_line(done)}", flush=True)

    def decided(self, decision: Decision) -> None:
        print(f"{decision.at_s:8.2f} s  -> {decision_line(decision)}", flush=True)

    def ended(self, result: Result) -> None:
        print("\n".join(result_lines(result)), flush=True)


class JSONLines(Listener):
    """One object a line, as of schemas/migration-1.json; `event` says of what."""

    def said(self, text: str) -> None:
        _print_event("said", {"text": text})

    def passed(self, done: Passed, iteration: Interval | None) -> None:
        _print_event("pass", pass_object(done))

    def decided(self, decision: Decision) -> None:
        _print_event("decision", decision_object(decision))

    def ended(self, result: Result) -> None:
        _print_event("end", result_object(result))


def _print_event(event: str, facts: dict[str, Any]) -> None:
    print_json({"schema": MIGRATION, "event": event, **facts})


class LiveMigration(Listener):
    """The last passes with the memory they dirtied, where it stands, what is done and why."""

    def __init__(self, title: str, console: Console) -> None:
        self._title, self._console = title, console
        self._live = Live(console=console, auto_refresh=False)
        self._passes: deque[tuple[Passed, Density | None]] = deque(maxlen=_PASSES)
        self._decisions: deque[Decision] = deque(maxlen=_DECISIONS)
        self._now: Figures | None = None
        self._said = ""
        self._lately: Interval | None = None
        self._drawn_s = 0.0

    def said(self, text: str) -> None:
        self._said = text
        self._draw(at_once=True)

    def saw(self, interval: Interval) -> None:
        self._lately = interval
        self._draw()

    def looked(self, figures: Figures) -> None:
        self._now = figures
        self._draw()

    def passed(self, done: Passed, iteration: Interval | None) -> None:
        self._passes.append((done, None if iteration is None else density(iteration)))
        self._draw(at_once=True)

    def decided(self, decision: Decision) -> None:
        self._decisions.append(decision)
        self._draw(at_once=True)

    def ended(self, result: Result) -> None:
        self._draw(at_once=True)
        self._live.stop()
        self._console.print(*result_lines(result), sep="\n", highlight=False, markup=False)

    def close(self) -> None:
        """Leave the last frame on the screen. May be called twice."""
        self._live.stop()

    def _draw(self, *, at_once: bool = False) -> None:
        if at_once or time.monotonic() - self._drawn_s >= _REFRESH_S:
            self._live.start()  # the first time; nothing happens the others
            self._live.update(self.frame(), refresh=True)
            self._drawn_s = time.monotonic()

    def frame(self) -> RenderableType:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in ("pass", "at", "to send", "takes", "written", "limit"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("written where, by group", no_wrap=True)
        for done, cells in self._passes:
            table.add_row(*_cells(done), _heat(cells))
        lately = None if self._lately is None else density(self._lately)
        table.add_row("now", *_standing(self._now), _heat(lately))
        lines = [
            Text.assemble((f"{decision.at_s:7.2f} s  ", "dim"), decision_line(decision))
            for decision in self._decisions
        ]
        said = [Text(self._said, style="dim")] if self._said else []
        return Panel(Group(table, *lines, *said), title=Text(self._title), expand=False)


def density(interval: Interval) -> Density:
    """Shares of dirty pages in `_CELLS` equal stretches of all regions together, or in their words
    if there are fewer.

    To within a word of the bitmap, which is 64 pages.
    """
    total = sum(region.n_words for region in interval.regions)
    n_cells = min(_CELLS, total)
    words = np.concatenate([interval.bitmaps[region.name] for region in interval.regions])
    starts = np.arange(n_cells + 1) * total // n_cells
    counts = np.add.reduceat(np.bitwise_count(words), starts[:-1], dtype=np.float64)
    return np.asarray(counts / (64 * np.diff(starts)))


def _cells(done: Passed) -> list[str]:
    now = done.figures
    pending_s = now.remaining_bytes / now.bandwidth_Bps if now.bandwidth_Bps else None
    return [
        str(now.number),
        format_seconds(now.at_s),
        format_bytes(now.remaining_bytes),
        "-" if pending_s is None else format_seconds(pending_s),
        "-" if done.dirty_pages is None else format_bytes(done.dirty_pages * now.page_bytes),
        format_seconds(done.limit_s),
    ]


def _standing(now: Figures | None) -> list[str]:
    if now is None:
        return ["-"] * 5
    takes = "-"
    if now.bandwidth_Bps:
        takes = format_seconds(now.remaining_bytes / now.bandwidth_Bps)
    return [format_seconds(now.at_s), format_bytes(now.remaining_bytes), takes, now.status, "-"]


def _heat(cells: Density | None) -> Text:
    text = Text()
    if cells is not None:
        append_cells(text, cells)
    return text
