"""D(t) as a drawing, in SVG."""

from __future__ import annotations

import math

from mempattern.analysis.findings import Findings
from mempattern.report.markup import Markup, element, join
from mempattern.report.units import format_seconds

_WIDTH, _HEIGHT = 560, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 18, 40


def draw_curve(findings: Findings) -> Markup:
    """Both axes are logarithmic; windows in which no page was dirty are not drawn."""
    points = [(w.window_s, w.pages) for w in findings.windows if w.pages > 0]
    if not points:
        return Markup("")
    saturates = findings.curve.working_set() if findings.curve is not None else None
    pages = [y for _, y in points]
    if saturates is not None and saturates.pages > 0:
        pages.append(saturates.pages)
    x_axis = _Axis(min(x for x, _ in points), max(x for x, _ in points), _LEFT, _WIDTH - _RIGHT)
    y_axis = _Axis(min(pages), max(pages), _HEIGHT - _BOTTOM, _TOP)
    parts: list[Markup] = []
    for t in x_axis.ticks():
        x = x_axis.at(t)
        parts += [
            _line("grid", x, _TOP, x, _HEIGHT - _BOTTOM),
            _text(format_seconds(t).replace(".0 ", " "), x, _HEIGHT - _BOTTOM + 17, "middle"),
        ]
    for n in y_axis.ticks():
        y = y_axis.at(n)
        parts += [
            _line("grid", _LEFT, y, _WIDTH - _RIGHT, y),
            _text(f"{n:,.6g}", _LEFT - 8, y + 4, "end"),
        ]
    parts += [
        _text("length of the window", (_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 4, "middle"),
        _text("pages", _LEFT - 8, _TOP - 6, "end"),
    ]
    if saturates is not None and saturates.pages > 0:
        y = y_axis.at(saturates.pages)
        parts += [
            _line("bound", _LEFT, y, _WIDTH - _RIGHT, y),
            _text("writable working set", _LEFT + 8, y + 15 if y < _HEIGHT / 2 else y - 6, "start"),
        ]
    drawn = [(x_axis.at(x), y_axis.at(y)) for x, y in points]
    parts.append(element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in drawn),
                         class_="curve"))  # fmt: skip
    parts += [element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=3, class_="dot") for x, y in drawn]
    return element(
        "svg", join(parts), viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img",
        aria_label="Distinct pages dirtied in a window, by its length. The table has the numbers.",
    )  # fmt: skip


class _Axis:
    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self._low, self._high = math.log10(low), math.log10(high)
        if self._high - self._low < 0.3:  # a factor of two at least
            self._low, self._high = self._low - 0.15, self._high + 0.15
        margin = 0.04 * (self._high - self._low)
        self._low, self._high = self._low - margin, self._high + margin
        self._start, self._end = start, end

    def at(self, value: float) -> float:
        share = (math.log10(value) - self._low) / (self._high - self._low)
        return self._start + share * (self._end - self._start)

    def ticks(self) -> list[float]:
        """Three to seven, if powers of ten and their multiples give as many."""
        found: list[float] = []
        for multiples in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
            found = [
                by * 10.0**power
                for power in range(math.floor(self._low), math.ceil(self._high) + 1)
                for by in multiples
                if self._low <= math.log10(by) + power <= self._high
            ]
            if len(found) >= 3:
                break
        return found[:: -(-len(found) // 7)] if found else []


def _line(kind: str, x: float, y: float, to_x: float, to_y: float) -> Markup:
    return element("line", x1=f"{x:.1f}", y1=f"{y:.1f}", x2=f"{to_x:.1f}", y2=f"{to_y:.1f}",
                   class_=kind)  # fmt: skip


def _text(text: str, x: float, y: float, anchor: str) -> Markup:
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)
