"""A trace as one HTML page, which needs nothing from outside."""

from __future__ import annotations

import base64
import hashlib
import zlib
from dataclasses import fields
from importlib.resources import files
from itertools import islice
from string import Template
from typing import Any, BinaryIO

import numpy as np

import mempattern
from mempattern.analysis.watch import Summary
from mempattern.report.cells import Column, HeatMap
from mempattern.report.curve_picture import draw_curve
from mempattern.report.markup import Markup, element, facts, join, script_json, table
from mempattern.report.migrated import Migrated
from mempattern.report.page_migration import migration_section
from mempattern.report.page_verdict import verdict_section
from mempattern.report.text import ENDINGS, lost_text
from mempattern.report.units import format_bytes, format_seconds, format_share

_MOST_LINES = 60
"""Of the timeline's table, which joins columns until it has no more."""
_MOST_REGIONS = 500
_MOST_TEXT = 400
"""Characters of a fact."""
_LINKS = (
    ("verdict", "Verdict"), ("map", "Memory over time"), ("curve", "D(t)"), ("hot", "Hot groups"),
    ("pattern", "Pattern"), ("facts", "How it was recorded"),
)  # fmt: skip


def write_page(summary: Summary, heat: HeatMap, start_ns: int, file: BinaryIO) -> None:
    """The page of a recorded trace. `start_ns` is when its first interval starts; its facts, which
    may be anybody's, are shown as text.
    """
    page = files("mempattern.report.html")
    style, script = (page.joinpath(f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    migrated = Migrated.of(summary.facts, start_ns)
    parts: dict[str, object] = {
        "title": summary.file.name if summary.file else str(summary.target),
        "subtitle": _subtitle(summary),
        "links": join(
            element("li", element("a", name, href=f"#{part}")) for part, name in _LINKS
        ),
        "verdict": verdict_section(summary),
        "scale": _scale(heat),
        "migration": migration_section(migrated),
        "timeline": _timeline(heat),
        "regions": _regions(summary),
        "curve": _curve(summary),
        "hot": _hot_groups(summary),
        "pattern": _pattern(summary),
        "facts": _facts(summary),
        "version": mempattern.__version__,
        "data": script_json(_data(heat, migrated)),
        "style": Markup(style),
        "script": Markup(script),
        "style_hash": _hash(style),
        "script_hash": _hash(script),
    }  # fmt: skip
    template = Template(page.joinpath("page.html").read_text("utf-8"))
    text = template.substitute({name: join([part]) for name, part in parts.items()})
    file.write(text.encode("utf-8", "replace"))


def _hash(text: str) -> Markup:
    """As a content security policy wants it."""
    return Markup(base64.b64encode(hashlib.sha256(text.encode()).digest()).decode())


# ---- what the script draws -----------------------------------------------------------------------


def _data(heat: HeatMap, migrated: Migrated | None) -> dict[str, Any]:
    columns = {
        "first": "first", "last": "last", "start": "start_s", "end": "end_s", "n": "n_intervals",
        "duration": "duration_s", "dirty": "dirty_pages", "redirtied": "redirtied_pages",
        "fresh": "fresh_pages", "lost": "lost_pages", "bytes": "dirty_bytes",
        "peak": "peak_bytes_per_s", "active": "active_groups",
    }  # fmt: skip
    return {
        "groupPages": heat.group_pages,
        "regions": [
            {"name": r.name, "address": str(r.address), "pageSize": r.page_bytes}
            for r in heat.regions
        ],
        "rows": [
            [row.region, row.first_group, row.n_groups, row.n_pages, int(row.is_folded)]
            for row in heat.rows
        ],
        "columns": {
            key: [_rounded(getattr(column, name)) for column in heat.columns]
            for key, name in columns.items()
        },
        "cells": _packed(heat),
        "passes": migrated.marks() if migrated else [],
    }


def _rounded(number: float) -> float:
    """To the nanosecond, which is all there is."""
    return number if isinstance(number, int) else round(number, 9)


def _packed(heat: HeatMap) -> str:
    """The counts' lowest bytes, the second ones, ...: deflated, in base64. At least one plane."""
    cells = np.ascontiguousarray(heat.dirty, "<u8")
    octets = cells.view(np.uint8).reshape(-1, 8).T
    n_planes = max(1, -(-int(cells.max(initial=0)).bit_length() // 8))
    return base64.b64encode(zlib.compress(octets[:n_planes].tobytes(), 6)).decode()


# ---- what is there without a script --------------------------------------------------------------


def _subtitle(summary: Summary) -> str:
    n_bytes = sum(region.n_pages * region.page_bytes for region in summary.regions)
    name = "" if summary.target.traced is None else f"{summary.target}: {summary.target.traced}. "
    return (
        f"{name}{summary.n_intervals:,} intervals in {format_seconds(summary.duration_s)} from "
        f"{summary.provenance.source}; {format_bytes(n_bytes)} in {len(summary.regions):,} "
        f"region{'s' if len(summary.regions) != 1 else ''}."
    )


def _scale(heat: HeatMap) -> str:
    """What a cell stands for."""
    if not heat.columns:
        return "There is no interval."
    intervals = max(column.n_intervals for column in heat.columns)
    groups = max((row.n_groups for row in heat.rows if not row.is_folded), default=1)
    folded = any(row.is_folded for row in heat.rows)
    return (
        f"A cell is {_up_to(intervals, 'interval')} by {_up_to(groups, 'group')} of "
        f"{heat.group_pages:,} pages, and its count is exact. Its colour is the share of its pages "
        "that were dirty in an interval, the mean, on a square-root scale; where a pixel covers "
        "several cells, it has the colour of the highest."
        + (" Dotted rows are long stretches that were never written." if folded else "")
    )


def _up_to(n: int, what: str) -> str:
    return f"one {what}" if n == 1 else f"up to {n:,} {what}s"


def _timeline(heat: HeatMap) -> Markup:
    per_line = max(1, -(-len(heat.columns) // _MOST_LINES))
    lines = [heat.columns[at : at + per_line] for at in range(0, len(heat.columns), per_line)]
    return table(
        "Pages summed over the intervals of a line",
        ("Intervals", "From", "To", "Dirty", "Redirtied", "Fresh", "Lost", "Mean rate", "Peak"),
        (_line(line) for line in lines),
    )


def _line(columns: tuple[Column, ...]) -> list[str]:
    first, last = columns[0], columns[-1]

    def total(name: str) -> float:
        numbers: list[float] = [getattr(column, name) for column in columns]
        return sum(numbers)

    pages = [f"{total(f'{kind}_pages'):,}" for kind in ("dirty", "redirtied", "fresh", "lost")]
    peak = max(column.peak_bytes_per_s for column in columns)
    numbers = f"{first.first}" if first.first == last.last else f"{first.first} to {last.last}"
    return [
        numbers, f"{first.start_s:.3f} s", f"{last.end_s:.3f} s", *pages,
        f"{format_bytes(total('dirty_bytes') / total('duration_s'))}/s", f"{format_bytes(peak)}/s",
    ]  # fmt: skip


def _regions(summary: Summary) -> Markup:
    """Those with most dirty pages first."""
    ranked = sorted(summary.regions, key=lambda r: -summary.by_region[r.name].dirty_pages)
    rows: list[list[str]] = []
    for region in islice(ranked, _MOST_REGIONS):
        total = summary.by_region[region.name]
        rows.append([
            region.name, f"{region.address:#x}", f"{region.n_pages:,}",
            format_bytes(region.page_bytes), f"{total.dirty_pages:,}", f"{total.redirtied_pages:,}",
            f"{total.fresh_pages:,}",
        ])  # fmt: skip
    left = len(ranked) - len(rows)
    caption = "Pages summed over the intervals; fresh ones are how many were touched"
    return table(
        caption + (f". {left:,} regions with fewer dirty pages are left out" if left else ""),
        ("Region", "Address", "Pages", "Page size", "Dirty", "Redirtied", "Fresh"),
        rows,
    )


def _curve(summary: Summary) -> Markup:
    findings = summary.findings
    if not findings.windows:
        return element("p", "No interval tells it: there is none, or each lost pages.")
    parts = [draw_curve(findings)]
    if findings.curve is not None:
        whole = findings.curve.working_set()
        n_bytes = whole.pages * findings.curve.page_bytes
        parts.append(
            element(
                "p",
                f"The writable working set, at which D(t) saturates, is estimated at "
                f"{whole.pages:,.0f} pages ({format_bytes(n_bytes)}), between {whole.low:,.0f} and "
                f"{whole.high:,.0f}.",
            )
        )
    rows = [
        (format_seconds(w.window_s), f"{w.pages:,.1f}", f"{w.n_windows:,}")
        for w in findings.windows
    ]
    numbers = table("Means of the distinct pages in a window",
                    ("Window", "Distinct pages", "Windows seen"), rows)  # fmt: skip
    return join([*parts, element("details", element("summary", "D(t) as a table"), numbers)])


def _hot_groups(summary: Summary) -> Markup:
    if not summary.hot_groups:
        return element("p", "No group was written.")
    numbers = {region.name: number for number, region in enumerate(summary.regions)}
    rows = [
        [
            element("button", f"{hot.region}[{hot.group}]", type="button", class_="link",
                    disabled="", data_region=numbers[hot.region], data_group=hot.group),
            f"{hot.address:#x}", f"{hot.write_rate:,.0f}", f"{hot.touched:,}",
            f"{hot.active_intervals:,}",
        ]
        for hot in summary.hot_groups
    ]  # fmt: skip
    share = format_share(summary.so_far.touched_pages, summary.total_pages)
    return join([
        element("p", f"{summary.hot_pages:,} pages were dirty in at least {summary.hot_at_least} "
                f"of the last {summary.hot_of} intervals; {summary.so_far.touched_pages:,} "
                f"({share} of the regions) ever."),
        table("Groups with the highest write rates; a group's button shows it in the map",
              ("Group", "Address", "Pages/s", "Touched", "Active intervals"), rows),
    ])  # fmt: skip


def _pattern(summary: Summary) -> Markup:
    pattern = summary.findings.pattern
    parts = [element("p", pattern.sentence)]
    if pattern.parts:
        parts.append(table("By region", ("Region", "Pattern"), pattern.parts, text=(1,)))
    evidence = [
        (field.name.replace("_", " "), _number(getattr(pattern.evidence, field.name)))
        for field in fields(pattern.evidence)
    ]
    numbers = table("Of the last intervals, 64 at most", ("Figure", "Value"), evidence)
    return join(
        [*parts, element("details", element("summary", "The numbers it rests on"), numbers)]
    )


def _number(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-" if value is None else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _facts(summary: Summary) -> Markup:
    s = summary
    found: list[tuple[object, object]] = [
        ("Source", s.provenance.source),
        ("Granularity", s.provenance.granularity),
        *(("Blind to", spot) for spot in s.provenance.blind_spots),
        ("Lost", lost_text(s.so_far)),
    ]
    if s.ended is not None:
        found.append(("Ended", ENDINGS[s.ended]))
    if s.target.attach_s is not None:
        found.append(("Target stopped", f"for {format_seconds(s.target.attach_s)}, to attach"))
    found += [
        ("Cost", f"{format_seconds(s.collect_median_s)} a collection (median; "
                 f"{format_seconds(s.collect_max_s)} at most), "
                 f"{100 * s.so_far.collect_share:.2g} % of the time"),
        ("Statistics", f"{format_bytes(s.stats_bytes)}, counted by the {s.kernel} kernel"),
        *((f"Fact: {key}", _short(fact)) for key, fact in sorted(s.facts.items())
          if key != "hostname" and not key.startswith("migration")),  # a page is sent
    ]  # fmt: skip
    return facts(found)


def _short(fact: str) -> str:
    """Some are lists of thousands of numbers."""
    if len(fact) <= _MOST_TEXT:
        return fact
    return f"{fact[:_MOST_TEXT]}… ({len(fact):,} characters)"
