"""JSON, one object a line, for programs. docs/trace-command.md defines the keys."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TextIO

from mempattern.analysis.watch import Row, Summary
from mempattern.regions import Region
from mempattern.report.text import SummaryView, advice_text

if TYPE_CHECKING:
    from mempattern.classify.kinds import Pattern

INTERVAL = "mempattern.interval/1"
SUMMARY = "mempattern.summary/2"


class JsonView(SummaryView):
    """Writes an object an interval, at once, and the summary as the last one."""

    def show(self, row: Row) -> None:
        print_json(interval_object(row), self.out)

    def show_summary(self, summary: Summary) -> None:
        print_json(summary_object(summary), self.out)


def print_json(value: dict[str, Any], out: TextIO | None = None) -> None:
    """One object on one line of `out` (stdout), which is flushed."""
    print(json.dumps(value, allow_nan=False), file=out or sys.stdout, flush=True)


def interval_object(row: Row) -> dict[str, Any]:
    labelled = {"label": row.label} if row.label else {}
    return {
        "schema": INTERVAL,
        **labelled,
        "iteration": row.index,
        "t_s": row.time_s,
        "duration_s": row.duration_s,
        "dirty_pages": row.seen.dirty_pages,
        "redirtied_pages": row.seen.redirtied_pages,
        "fresh_pages": row.seen.fresh_pages,
        "active_groups": row.seen.active_groups,
        "groups": row.n_groups,
        "group_pages": row.group_pages,
        "runs": row.seen.runs,
        "page_size": _page_size(row.regions),
        "pages": sum(region.n_pages for region in row.regions),
        "dirty_bytes": row.dirty_bytes,
        "touched_pages": row.so_far.touched_pages,
        "touched_bytes": row.so_far.touched_bytes,
        "lost_pages": row.lost_pages,
        "collect_s": row.collect_s,
        "regions": [
            _region(activity.region)
            | {
                "dirty_pages": activity.seen.dirty_pages,
                "redirtied_pages": activity.seen.redirtied_pages,
                "fresh_pages": activity.seen.fresh_pages,
            }
            for activity in row.active.values()
        ],
    }


def summary_object(summary: Summary) -> dict[str, Any]:
    s = summary
    return {
        "schema": SUMMARY,
        "target": s.target.name,
        "pid": s.target.pid,
        "traced": s.target.traced,
        "ended": s.ended,
        "exit_code": s.exit_code,
        "execs": s.execs,
        "huge_bytes": s.huge_bytes,
        "intervals": s.n_intervals,
        "duration_s": s.duration_s,
        **asdict(s.total),
        "groups": s.n_groups,
        "group_pages": s.group_pages,
        "page_size": _page_size(s.regions),
        "pages": s.total_pages,
        "touched_pages": s.so_far.touched_pages,
        "touched_bytes": s.so_far.touched_bytes,
        "distinct_pages": [asdict(windows) for windows in s.findings.windows],
        "pattern": _pattern(s.findings.pattern),
        "verdict": _verdict(s),
        "peak_dirty_bytes_per_s": s.peak_dirty_bytes_per_s,
        "peak_duration_s": s.peak_duration_s,
        "hot_pages": s.hot_pages,
        "hot_at_least": s.hot_at_least,
        "hot_of": s.hot_of,
        "hot_groups": [asdict(group) for group in s.hot_groups],
        "lost_pages": s.so_far.lost_pages,
        "dropped_intervals": s.so_far.dropped,
        "source": s.provenance.source,
        "granularity": s.provenance.granularity,
        "blind_spots": list(s.provenance.blind_spots),
        "attach_s": s.target.attach_s,
        "collect_s": s.collect_s,
        "collect_median_s": s.collect_median_s,
        "collect_max_s": s.collect_max_s,
        "collect_share": s.so_far.collect_share,
        "stats_bytes": s.stats_bytes,
        "kernel": s.kernel,
        "regions": [_region(region) | asdict(s.by_region[region.name]) for region in s.regions],
    }


def _pattern(pattern: Pattern) -> dict[str, Any]:
    return {
        "kind": pattern.kind,
        "confidence": pattern.confidence,
        "sentence": pattern.sentence,
        "parts": dict(pattern.parts),
        **asdict(pattern.evidence),
        "period_s": pattern.period_s,
    }


def _verdict(summary: Summary) -> dict[str, Any] | None:
    found = summary.findings.intensity
    if found is None:
        return None
    outlook = found.outlook
    return {
        "memory_intensive": found.memory_intensive,
        "sentence": found.sentence,
        "advice": advice_text(found, summary.file),
        "bandwidth_Bps": found.bandwidth_Bps,
        "downtime_limit_s": found.downtime_limit_s,
        "zero_pages": found.zero_pages,
        "doubt": found.doubt,
        **{
            name: asdict(getattr(outlook, name)) if outlook else None
            for name in ("passes", "total_s", "sent_bytes", "downtime_s")
        },
        "least_limit_s": asdict(found.least_limit_s) if found.least_limit_s else None,
    }


def _page_size(regions: tuple[Region, ...]) -> int:
    """The smallest; each region tells its own."""
    return min(region.page_bytes for region in regions)


def _region(region: Region) -> dict[str, Any]:
    return {
        "name": region.name,
        "address": region.address,
        "pages": region.n_pages,
        "page_size": region.page_bytes,
    }
