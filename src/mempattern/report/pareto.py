"""A picture of replays: total time against downtime, a mark for each policy."""

# matplotlib has types for a part of what it takes.
# pyright: reportArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mempattern.errors import MissingPackageError, UsageError
from mempattern.migration.compare import ORACLE, Judged, judge
from mempattern.migration.fleet import Case, Replayed
from mempattern.quantities import format_duration
from mempattern.report.labels import Point, place_labels
from mempattern.report.replay import Replays
from mempattern.report.replay_tables import case_title

try:
    import matplotlib as mpl
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
except ImportError:
    raise MissingPackageError(
        "a picture needs the package matplotlib: pip install 'mempattern[plot]'"
    ) from None

MOST_PANELS = 12
_COLUMNS = 3
_WIDTH, _HEIGHT = 5.2, 4.0
_WIDE = 8.0
"""Inches, of a panel; of one alone."""
_INK, _CEILING = "#1b3a57", "#b5482a"
_LOG_FROM, _LOG_DOWNTIMES_FROM = 8.0, 30.0
"""Times the smallest figure is the largest: an axis is logarithmic."""
_LEAST_ROOM = 0.03
"""Of the largest time."""
_SAME = 0.006
"""Of an axis: marks that are no farther apart are drawn as one."""
_RC = {
    "font.size": 9, "svg.hashsalt": "mempattern", "svg.fonttype": "none",
    "axes.spines.top": False, "axes.spines.right": False,
}  # fmt: skip


def check_panels(n_panels: int) -> None:
    """Raises `UsageError` for more than can be looked at."""
    if n_panels > MOST_PANELS:
        raise UsageError(
            f"a picture has {MOST_PANELS} panels at most, one for each trace, bandwidth and "
            f"ceiling, and these would be {n_panels}; give fewer, or use --parquet"
        )


def draw(replays: Replays, file: BinaryIO, kind: str) -> None:
    """A panel for each trace, bandwidth and ceiling, as "png" or "svg".

    Raises `UsageError` for more panels than can be looked at, and for none.
    """
    panels = [(replayed, case) for replayed in replays.results for case in replayed.cases]
    check_panels(len(panels))
    if not panels:
        raise UsageError("there is nothing to draw: no trace was replayed")
    n_columns = 2 if len(panels) == 4 else min(len(panels), _COLUMNS)
    n_rows = -(-len(panels) // n_columns)
    width = _WIDE if n_columns == 1 else _WIDTH * n_columns
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(width, _HEIGHT * n_rows + 0.4), dpi=130)
        figure.set_layout_engine("constrained", h_pad=0.12)
        axes = list(figure.subplots(n_rows, n_columns, squeeze=False).flat)
        drawn = [
            _draw_panel(axis, replayed, case, names_it=len(replays.results) > 1)
            for axis, (replayed, case) in zip(axes, panels, strict=False)
        ]
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        figure.supxlabel(_legend(drawn), fontsize=8)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # what follows measures what is there
        for panel in drawn:
            _label(panel)
        figure.savefig(file, format=kind, metadata={"Date": None} if kind == "svg" else None)


@dataclass(frozen=True, slots=True)
class _Mark:
    """Policies at the same place."""

    total_s: float
    downtime_s: float
    policies: tuple[str, ...]
    shape: str
    is_hollow: bool


@dataclass(frozen=True, slots=True)
class _Panel:
    axis: Axes
    ceiling_s: float
    marks: tuple[_Mark, ...]


def _draw_panel(axis: Axes, replayed: Replayed, case: Case, *, names_it: bool) -> _Panel:
    judged = judge(case.outcomes, case.ceiling_s)
    moved = [one for one in judged if one.outcome.success]
    _scale_times(axis, [one.outcome.total_s for one in moved])
    precopy = [one.outcome.downtime_s for one in moved if not one.outcome.postcopy_pages]
    _scale_downtimes(axis, precopy, case.ceiling_s)
    axis.axhline(case.ceiling_s, color=_CEILING, linewidth=0.9, linestyle=(0, (5, 3)), zorder=1)
    axis.set_xlabel("total time")
    axis.set_ylabel("downtime")
    title = case_title(case.bandwidth, case.ceiling_s)
    axis.set_title(f"{Path(replayed.path).name}: {title}" if names_it else title, fontsize=9,
                   loc="left")  # fmt: skip
    marks = _marks(axis, moved)
    for mark in marks:
        axis.plot(
            mark.total_s, mark.downtime_s, mark.shape, color=_INK, zorder=3,
            markersize=9 if mark.shape == "*" else 6, markeredgewidth=1.2,
            markerfacecolor="white" if mark.is_hollow else _INK, clip_on=False,
        )  # fmt: skip
    left = [one.outcome.policy for one in judged if not one.outcome.success]
    if left:
        axis.text(0, -0.22, _wrapped("not moved: " + ", ".join(left), axis), fontsize=8, va="top",
                  transform=axis.transAxes, color="#444444")  # fmt: skip
    if not moved:
        axis.text(0.5, 0.5, "no policy moved the guest", ha="center", transform=axis.transAxes)
    return _Panel(axis, case.ceiling_s, tuple(marks))


def _marks(axis: Axes, moved: Sequence[Judged]) -> list[_Mark]:
    """Those at the same place together."""
    found: list[tuple[Any, _Mark]] = []
    for one in moved:
        outcome = one.outcome
        shape = "*" if outcome.policy == ORACLE else "^" if outcome.postcopy_pages else "o"
        # Post-copy's downtime is so short that a logarithmic axis may end above it.
        downtime_s = max(outcome.downtime_s, axis.get_ylim()[0])
        mark = _Mark(outcome.total_s, downtime_s, (outcome.policy,), shape,
                     bool(one.dominated_by))  # fmt: skip
        place = axis.transAxes.inverted().transform(
            axis.transData.transform((mark.total_s, mark.downtime_s))
        )
        for number, (other_place, other) in enumerate(found):
            is_alike = (other.shape, other.is_hollow) == (mark.shape, mark.is_hollow)
            if is_alike and np.abs(place - other_place).max() < _SAME:
                both = _Mark(other.total_s, other.downtime_s, other.policies + mark.policies,
                             shape, mark.is_hollow)  # fmt: skip
                found[number] = other_place, both
                break
        else:
            found.append((place, mark))
    return [mark for _, mark in found]


def _scale_times(axis: Axes, times_s: Sequence[float]) -> None:
    low, high = (min(times_s), max(times_s)) if times_s else (1.0, 2.0)
    if high > _LOG_FROM * low:
        axis.set_xscale("log")
        room = (high / low) ** 0.12
        axis.set_xlim(low / room, high * room)
    else:
        room = max(0.12 * (high - low), _LEAST_ROOM * high)
        axis.set_xlim(low - room, high + room)
    _tick(axis.xaxis, high / low)


def _scale_downtimes(axis: Axes, downtimes_s: Sequence[float], ceiling_s: float) -> None:
    """From zero on, unless they are too far apart for that."""
    low, high = min(ceiling_s, *downtimes_s, math.inf), max(ceiling_s, *downtimes_s, 0.0)
    if high > _LOG_DOWNTIMES_FROM * low:
        axis.set_yscale("log")
        room = (high / low) ** 0.12
        axis.set_ylim(low / room, high * room)
    else:
        axis.set_ylim(0.0, 1.12 * high)
    _tick(axis.yaxis, high / low)


def _tick(one: Axis, span: float) -> None:
    if one.get_scale() == "log":
        one.set_major_locator(LogLocator(10, (1.0, 2.0, 5.0) if span < 300 else (1.0,)))
        one.set_minor_locator(NullLocator())
    one.set_major_formatter(
        FuncFormatter(lambda value, _: format_duration(value) if value > 0 else "0")
    )


# ---- labels --------------------------------------------------------------------------------------


def _label(panel: _Panel) -> None:
    """Each mark's policies beside it; with a line to the mark, if that is not the nearest place."""
    axis, pixel = panel.axis, panel.axis.figure.dpi / 72
    texts = [
        axis.text(0, 0, _stacked(mark.policies), fontsize=8, zorder=4, linespacing=1.05,
                  va="bottom", transform=None)
        for mark in panel.marks
    ]  # fmt: skip
    extents = [text.get_window_extent() for text in texts]
    frame = axis.get_window_extent()
    labels = place_labels(
        [_pixels(axis, mark.total_s, mark.downtime_s) for mark in panel.marks],
        [(extent.width, extent.height) for extent in extents],
        5 * pixel,
        (frame.x0, frame.y0, frame.x1 + 6 * pixel, frame.y1),
        _pixels(axis, panel.marks[0].total_s, panel.ceiling_s)[1] if panel.marks else 0.0,
    )
    to_axes = axis.transAxes.inverted().transform
    for text, label in zip(texts, labels, strict=True):
        left, bottom = to_axes(label.box[:2])
        text.set_position((float(left), float(bottom)))
        text.set_transform(axis.transAxes)
        if label.leader is not None:
            ends = to_axes(label.leader)
            axis.plot(ends[:, 0], ends[:, 1], color="#999999", linewidth=0.6, zorder=2,
                      transform=axis.transAxes, clip_on=False)  # fmt: skip


def _pixels(axis: Axes, total_s: float, downtime_s: float) -> Point:
    x, y = axis.transData.transform((total_s, downtime_s))
    return float(x), float(y)


def _stacked(policies: Sequence[str]) -> str:
    """At most two on a line."""
    pairs = [", ".join(policies[i : i + 2]) for i in range(0, len(policies), 2)]
    return ",\n".join(pairs)


def _wrapped(text: str, axis: Axes) -> str:
    """Lines that are about as long as the panel is wide."""
    most = int(axis.get_window_extent().width / 7)
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) >= most:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def _legend(panels: Sequence[_Panel]) -> str:
    marks = [mark for panel in panels for mark in panel.marks]
    words = ["dashed: the ceiling"]
    if any(mark.is_hollow for mark in marks):
        words.append("hollow: dominated by another policy")
    if any(mark.shape == "*" for mark in marks):
        words.append("star: the oracle")
    if any(mark.shape == "^" for mark in marks):
        words.append("triangle: post-copy")
    return "; ".join(words)
