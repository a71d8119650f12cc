"""A picture of a trace: time by address, and under it how much was dirtied."""

# matplotlib has types for a part of what it takes.
# pyright: reportArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
from __future__ import annotations

import warnings
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from mempattern.analysis.watch import Summary
from mempattern.errors import MissingPackageError
from mempattern.report.cells import HeatMap
from mempattern.report.units import format_bytes, format_seconds

try:
    import matplotlib as mpl
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, PercentFormatter
except ImportError:
    raise MissingPackageError(
        "a picture needs the package matplotlib: pip install 'mempattern[plot]'"
    ) from None

_INK = "#1b3a57"
_RAMP = ("#fbe3a6", "#f2a154", "#dc5a3c", "#9c1f4d", "#3c0a3f")
"""As in page.js."""
_CLEAN, _GAP = "#f3f1ec", "#ffffff"
_UNITS = ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))
_MOST_NAMES = 24
_RC = {
    "font.size": 9, "svg.hashsalt": "mempattern", "svg.fonttype": "none",
    "axes.spines.top": False, "axes.spines.right": False, "text.parse_math": False,
}  # fmt: skip


def draw(summary: Summary, heat: HeatMap, file: BinaryIO, kind: str) -> None:
    """As "png" or "svg". One of no interval says so."""
    with mpl.rc_context(_RC), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # names that no font has, or too long ones
        figure = Figure(figsize=(10.0, 6.4), dpi=130)
        figure.set_layout_engine("constrained")
        memory, rate = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        _draw_memory(figure, memory, heat)
        _draw_rate(rate, heat)
        memory.set_title(_title(summary), fontsize=9, loc="left")
        figure.savefig(file, format=kind, metadata={"Date": None} if kind == "svg" else None)


def _draw_memory(figure: Figure, axis: Axes, heat: HeatMap) -> None:
    edges, shares = _with_gaps(heat)
    ramp = LinearSegmentedColormap.from_list("mempattern", _RAMP).with_extremes(
        bad=_GAP, under=_CLEAN
    )
    norm = PowerNorm(0.5, vmin=1e-12, vmax=1.0)
    if heat.columns:
        axis.pcolormesh(edges, np.arange(len(heat.rows) + 1), shares, cmap=ramp, norm=norm,
                        rasterized=True)  # fmt: skip
    bar = figure.colorbar(ScalarMappable(PowerNorm(0.5, 0, 1), ramp), ax=axis, pad=0.01, aspect=30)
    bar.set_label("pages dirty in an interval (mean)")
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    bar.outline.set_visible(False)
    regions = np.array([row.region for row in heat.rows])
    ends = np.flatnonzero(np.diff(regions, append=-1)) + 1
    starts = np.concatenate([[0], ends[:-1]])
    for end in ends[:-1]:
        axis.axhline(end, color=_INK, linewidth=0.4)
    tall = np.sort(np.argsort(starts - ends, kind="stable")[:_MOST_NAMES])
    axis.set_yticks((starts[tall] + ends[tall]) / 2,
                    [_short(heat.regions[int(regions[starts[i]])].name) for i in tall])  # fmt: skip
    axis.tick_params(axis="y", length=0)
    axis.set_ylabel("address, upwards" + _folded(heat))


def _draw_rate(axis: Axes, heat: HeatMap) -> None:
    starts = [column.start_s for column in heat.columns]
    widths = [column.end_s - column.start_s for column in heat.columns]
    rates = np.array([column.dirty_bytes / column.duration_s for column in heat.columns])
    most = rates.max(initial=0)
    unit, name = next((u for u in _UNITS if most >= u[0]), _UNITS[-1])
    axis.bar(starts, rates / unit, widths, align="edge", color=_INK, linewidth=0, rasterized=True)
    axis.set_ylabel(f"dirtied, {name}/s")
    axis.set_xlabel("time")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda t, _: format_seconds(t) if t else "0"))
    axis.set_xlim(0, heat.columns[-1].end_s if heat.columns else 1)
    axis.set_ylim(bottom=0)


def _with_gaps(heat: HeatMap) -> tuple[Any, Any]:
    """Edges in time and shares, with columns of NaN where no interval is."""
    shares = np.where(heat.dirty > 0, np.maximum(heat.share(), 1e-12), 0.0)
    edges = [0.0]
    parts: list[npt.NDArray[np.float64]] = []
    for number, column in enumerate(heat.columns):
        if column.start_s > edges[-1]:
            edges.append(column.start_s)
            parts.append(np.full(len(heat.rows), np.nan))
        edges.append(column.end_s)
        parts.append(shares[:, number])
    return np.array(edges), np.column_stack(parts) if parts else shares


def _title(summary: Summary) -> str:
    name = summary.file.name if summary.file else str(summary.target)
    name = name.encode(errors="replace").decode()  # a file's may be no text at all
    return (
        f"{name}: {summary.n_intervals} intervals in {format_seconds(summary.duration_s)} from "
        f"{summary.provenance.source}; {format_bytes(summary.so_far.touched_bytes)} of "
        f"{format_bytes(sum(r.n_pages * r.page_bytes for r in summary.regions))} written"
    )


def _folded(heat: HeatMap) -> str:
    return "; never written stretches folded" if any(row.is_folded for row in heat.rows) else ""


def _short(name: str) -> str:
    return name if len(name) <= 28 else f"{name[:27]}…"
