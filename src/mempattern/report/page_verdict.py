"""The page's first part: would it migrate, and what it would cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mempattern.analysis.watch import Summary
from mempattern.errors import UsageError
from mempattern.quantities import BYTES, DURATIONS, format_bandwidth, format_duration, format_range
from mempattern.report.markup import Markup, element, escape, facts, join, table
from mempattern.report.text import advised, next_command
from mempattern.report.units import format_bytes, format_seconds, format_share

if TYPE_CHECKING:
    from mempattern.migration.advice import Advice
    from mempattern.migration.intensity import Intensity
    from mempattern.migration.outlook import Outlook, Range

_BANDWIDTHS = (0.5, 1.0, 2.0)
"""Times the one assumed, which the forecast compares."""


def verdict_section(summary: Summary) -> Markup:
    """Without one for what cannot migrate."""
    found = summary.findings.intensity
    if found is None:
        said = element(
            "p",
            "There is no verdict: it takes all the RAM of a guest to migrate, and that is not what "
            "was traced.",
        )
        return join([said, _figures(summary)])
    kind = {True: "bad", False: "good", None: "unsure"}[found.memory_intensive]
    file = summary.file and Path(summary.file.name)  # a page is sent: nobody's folders are in it
    answer = found.answer[0].upper() + found.answer[1:]
    reason = found.sentence.removeprefix(f"{found.answer}: ")
    return join([
        element("p", answer, class_=f"answer {kind}"),
        element("p", reason[0].upper() + reason[1:] + "."),
        element("p", f"Assumed: {found.assumption}.", class_="hint"),
        _advice(found, file),
        _figures(summary),
        element("h3", "Forecast"),
        _forecast(summary, found),
    ])  # fmt: skip


def _advice(found: Intensity, file: Path | None) -> Markup:
    if file is None:
        return element("p", f"Advice: {advised(found)}.")
    return join([
        element("p", f"Advice: {advised(found)}. What the very pages tell:"),
        element("p", element("code", next_command(found, file))),
    ])  # fmt: skip


def _figures(summary: Summary) -> Markup:
    s = summary
    redirtied = format_share(s.total.redirtied_pages, s.total.dirty_pages)
    return facts(
        [
            ("Touched", _card(format_bytes(s.so_far.touched_bytes),
                              f"{s.so_far.touched_pages:,} distinct pages")),
            ("Dirtied", _card(f"{s.total.dirty_pages:,} pages",
                              f"over the intervals; {redirtied} redirtied")),
            ("Peak", _card(f"{format_bytes(s.peak_dirty_bytes_per_s)}/s",
                           f"over {format_seconds(s.peak_duration_s)}")),
            ("Hot", _card(f"{s.hot_pages:,} pages",
                          f"dirty in {s.hot_at_least} of the last {s.hot_of} intervals")),
            ("Pattern", _card(str(s.findings.pattern.kind),
                              f"confidence {s.findings.pattern.confidence:.2f}")),
        ],
        "cards",
    )  # fmt: skip


def _card(value: str, more: str) -> Markup:
    return join([value, element("small", more)])


def _forecast(summary: Summary, found: Intensity) -> Markup:
    from mempattern.migration.advice import advise  # noqa: PLC0415

    curve = summary.findings.curve
    if curve is None or found.memory_intensive is None:
        return element("p", "None is given where the verdict is not known.")
    links = [found.bandwidth_Bps * by for by in _BANDWIDTHS]
    try:
        advice = advise(
            curve, links, found.downtime_limit_s,
            n_pages=curve.n_pages, zero=found.zero_pages or 0,
        )  # fmt: skip
    except UsageError as error:
        return element("p", f"None: {error}")
    return join([
        _outlooks(advice),
        element("ul", *(
            element("li", element("strong", f"At {format_bandwidth(one.bandwidth_Bps)}: "),
                    escape(one.sentence))
            for one in advice.recommendations
        )),
        element("p", "Made from D(t) and its bounds: the guest is taken to go on as it was seen. "
                "mempattern predict goes through the very pages, and knows phases and sweeps.",
                class_="hint"),
    ])  # fmt: skip


def _outlooks(advice: Advice) -> Markup:
    rows = [
        (format_bandwidth(bandwidth), format_duration(limit), *_cells(outlook))
        for bandwidth, outlooks in zip(advice.bandwidths_Bps, advice.outlooks, strict=True)
        for limit, outlook in zip(advice.downtime_limits_s, outlooks, strict=True)
    ]
    return table(
        "Stock pre-copy, if it began now",
        ("Bandwidth", "Downtime limit", "Ends", "Time", "Data", "Downtime", "Passes"),
        rows,
    )


def _cells(outlook: Outlook) -> list[str]:
    words = {True: "yes", False: "no", None: f"{100 * outlook.likelihood:.0f} % of courses"}
    ranges: list[Range | None] = [outlook.total_s, outlook.sent_bytes, outlook.downtime_s]
    ladders = (DURATIONS, BYTES, DURATIONS)
    if outlook.converges is False or outlook.passes is None:
        return [words[outlook.converges], *"----"]
    cells = [
        format_range(one.low, one.middle, one.high, ladder) if one else "-"
        for one, ladder in zip(ranges, ladders, strict=True)
    ]
    passes = outlook.passes
    n = format_range(round(passes.low), round(passes.middle), round(passes.high))
    return [words[outlook.converges], *cells, n]
