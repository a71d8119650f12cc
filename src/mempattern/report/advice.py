"""Advice as a table, a recommendation and notes; and as one JSON object (docs/predict.md)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from mempattern.migration.advice import Advice, Recommendation
from mempattern.migration.commands import qmp_commands, virsh_commands
from mempattern.migration.outlook import Outlook, Range
from mempattern.migration.recording import Recording
from mempattern.migration.traces import Facts
from mempattern.quantities import (
    BYTES,
    DURATIONS,
    Ladder,
    format_bandwidth,
    format_duration,
    format_range,
)
from mempattern.report.recorded import trace_line

FORECAST = "mempattern.forecast/1"
_NEEDED: tuple[tuple[str, Ladder | None], ...] = (
    ("total_s", DURATIONS), ("sent_bytes", BYTES), ("downtime_s", DURATIONS), ("passes", None)
)  # fmt: skip
_HEADINGS = ("ends", "time", "data", "downtime", "passes")
_IN_A_WORD = {
    "go": "go", "wait": "wait", "postcopy": "post-copy", "throttle": "auto-converge",
    "dont": "do not", "observe": "observe again",
}  # fmt: skip
_GAP = "   "


@dataclass(frozen=True, slots=True)
class Predicted:
    """Advice, and the recording that it was given on."""

    recording: Recording
    advice: Advice
    asked_Bps: tuple[float, ...]
    """Of the advice's bandwidths, those whose recommendation is shown in full."""
    notes: tuple[str, ...]
    """Beside the advice's own."""

    @property
    def all_notes(self) -> tuple[str, ...]:
        return self.notes + self.advice.notes


def lines(predicted: Predicted) -> list[str]:
    """The trace, the table, what to do, and what limits the trust in it."""
    recording, advice = predicted.recording, predicted.advice
    found = [trace_line(Facts.of(recording)), "", *_table(advice), ""]
    for one in advice.recommendations:
        if one.bandwidth_Bps in predicted.asked_Bps:
            found += [f"At {format_bandwidth(one.bandwidth_Bps)}: {one.sentence}"]
            found += [f"    {command}" for command in _commands(one)]
            found.append("")
    courses = f"the middle of {advice.courses} equally likely courses of the guest"
    found += [
        f"note: {note}"
        for note in (f"figures are {courses}, and nine of ten lie within (low-high)",
                     *predicted.all_notes)
    ]  # fmt: skip
    return found


def _table(advice: Advice) -> list[str]:
    """A block a bandwidth, a column a downtime limit."""
    head = ["bandwidth", "limit", *map(format_duration, advice.downtime_limits_s)]
    rows = [head]
    for bandwidth, outlooks, one in zip(
        advice.bandwidths_Bps, advice.outlooks, advice.recommendations, strict=True
    ):
        cells = [_cells(outlook) for outlook in outlooks]
        labels = [format_bandwidth(bandwidth), f"-> {_IN_A_WORD[one.action]}"]
        if one.downtime_limit_s is not None:
            labels.append(f"   limit {format_duration(one.downtime_limit_s)}")
        rows.append([])
        for number, heading in enumerate(_HEADINGS):
            label = labels[number] if number < len(labels) else ""
            values = [cell[number] for cell in cells]
            if label or any(value != "-" for value in values):
                rows.append([label, heading, *values])
    widths = [max(len(row[i]) for row in rows if row) for i in range(len(head))]
    return [
        _GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip()
        for row in rows
    ]


def _cells(outlook: Outlook) -> list[str]:
    words = {True: "yes", False: "no", None: f"{100 * outlook.likelihood:.0f} % of courses"}
    cells = [words[outlook.converges]]
    for name, ladder in _NEEDED:
        one: Range | None = getattr(outlook, name)
        if one is None or outlook.converges is False:
            cells.append("-")
        elif ladder is None:
            cells.append(format_range(round(one.low), round(one.middle), round(one.high)))
        else:
            cells.append(format_range(one.low, one.middle, one.high, ladder))
    return cells


def _commands(one: Recommendation) -> list[str]:
    """With what it is in front of each."""
    qmp = [f"QMP      {json.dumps(command)}" for command in qmp_commands(one)]
    return qmp + [f"libvirt  {command}" for command in virsh_commands(one)]


def forecast_object(predicted: Predicted) -> dict[str, Any]:
    recording, advice = predicted.recording, predicted.advice
    return {
        "schema": FORECAST,
        "pages": recording.n_pages,
        "page_size": recording.page_bytes,
        "touched_pages": recording.touched_pages,
        "intervals": len(recording),
        "observed_s": recording.duration_s,
        "unseen_s": recording.unseen_s,
        "lost_pages": recording.lost_pages,
        "period_s": recording.period_s,
        "max_downtime_s": advice.ceiling_s,
        "courses": advice.courses,
        "forecasts": [
            {"bandwidth_Bps": bandwidth, "downtime_limit_s": limit, **_outlook(outlook)}
            for bandwidth, outlooks in zip(advice.bandwidths_Bps, advice.outlooks, strict=True)
            for limit, outlook in zip(advice.downtime_limits_s, outlooks, strict=True)
        ],
        "recommendations": [
            _recommendation(one, patience_s)
            for one, patience_s in zip(advice.recommendations, advice.patience_s, strict=True)
        ],
        "notes": list(predicted.all_notes),
    }


def _outlook(outlook: Outlook) -> dict[str, Any]:
    return {"converges": outlook.converges, **asdict(outlook)}


def _recommendation(one: Recommendation, patience_s: float) -> dict[str, Any]:
    return {
        "bandwidth_Bps": one.bandwidth_Bps,
        "max_time_s": patience_s,
        "action": one.action,
        "sentence": one.sentence,
        "downtime_limit_s": one.downtime_limit_s,
        "wait_s": one.phase.wait_s if one.phase else None,
        "forecast": _outlook(one.outlook) if one.outlook else None,
        "postcopy": asdict(one.postcopy) if one.postcopy else None,
        "qmp": list(qmp_commands(one)),
        "virsh": list(virsh_commands(one)),
    }
