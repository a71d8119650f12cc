"""`mempattern report`: a recorded trace, summed up as it was seen live, as a page, as tables."""

from __future__ import annotations

import argparse
import importlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mempattern.analysis.target import Target
from mempattern.analysis.watch import Row, Summary, Watch
from mempattern.cli.arguments import Parser, add_group_pages, add_migration
from mempattern.cli.outputs import check_outputs, kind_of, picture, whole_file
from mempattern.interval import Interval
from mempattern.report.jsonlines import JsonView
from mempattern.report.text import SummaryView, View
from mempattern.sources import Replay

_DESCRIPTION = "A recorded trace, summed up as it was seen live, as a page, as tables."

_EXAMPLES = (
    ("mempattern report redis.mpt", "the summary"),
    ("mempattern report redis.mpt --html redis.html", "also a page with a heat map"),
    ("mempattern report guest.mpt --json | tail -1", "the summary for programs"),
)


def fill(report: Parser) -> None:
    report.describe(_DESCRIPTION, _EXAMPLES, {0: "", 1: "", 2: "", 4: "", 130: "", 143: ""})
    add = report.add_argument
    add("file", type=Path, metavar="FILE.mpt", help="what mempattern-trace -o wrote")
    add("--json", action="store_true", help="the same objects that mempattern-trace --json prints")
    add("--html", type=Path, metavar="FILE", help="also write a page with an interactive heat map")
    add("--plot", type=picture, metavar="FILE.png|svg", help="also draw the heat map")
    add("--parquet", type=Path, metavar="FILE",
        help="also write a table, a row for each interval and active group")  # fmt: skip
    add("--arrow", type=Path, metavar="FILE", help="the same as an Arrow IPC file")
    add("--perfetto", type=Path, metavar="FILE", help="also write counters for ui.perfetto.dev")
    add("--force", action="store_true", help="overwrite files that exist")
    add_group_pages(report)
    add_migration(report)
    report.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    view: View = JsonView() if options.json else SummaryView()
    with ExitStack() as stack:
        outputs = _Outputs(options)
        source = stack.enter_context(Replay(options.file))
        meta = source.trace.meta
        watch = Watch(
            source.regions, source.provenance, options.group_pages, Target.from_meta(meta),
            options.bandwidth, options.downtime_limit, meta, options.file, is_replay=True,
        )  # fmt: skip
        watch.dropped = source.trace.dropped
        with ExitStack() as writing:
            outputs.begin(source, writing)
            for interval in source.intervals():
                row = watch.observe(interval)
                outputs.add(interval, row, watch)
                view.show(row)
            summary = watch.summary()
        outputs.finish(summary)
    view.show_summary(summary)
    return 0


class _Outputs:
    """The files that were asked for. Those that a trace is written to as it is read are begun with
    it; pages and pictures come of all of it.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        asked = (options.html, options.plot, options.parquet, options.arrow, options.perfetto)
        check_outputs([path for path in asked if path is not None], [options.file],
                      force=options.force)  # fmt: skip
        self._heatmap = _module("heatmap") if options.plot else None
        self._arrow = _module("arrow") if options.parquet or options.arrow else None
        self._tables: list[Any] = []
        self._counters: Any = None
        self._cells: Any = None
        self._start_ns: int | None = None

    def begin(self, source: Replay, stack: ExitStack) -> None:
        options, trace = self._options, source.trace
        regions = trace[len(trace) - 1].regions if len(trace) else trace.regions
        if options.html or options.plot:
            self._cells = _module("cells").Cells(regions, len(trace), options.group_pages)
        for kind in ("parquet", "arrow"):
            if path := getattr(options, kind):
                file = stack.enter_context(whole_file(path))
                assert self._arrow is not None
                table = self._arrow.GroupTable(file, kind, regions, trace.meta)
                self._tables.append(stack.enter_context(table))
        if options.perfetto:
            file = stack.enter_context(whole_file(options.perfetto))
            name = trace.meta.get("target") or options.file.name
            counters = _module("perfetto").PerfettoWriter(file, name)
            self._counters = stack.enter_context(counters)

    def add(self, interval: Interval, row: Row, watch: Watch) -> None:
        if self._start_ns is None:
            self._start_ns = interval.start_ns
        if self._cells is not None:
            self._cells.add(row)
        for table in self._tables:
            table.add(interval, watch.stats)
        if self._counters is not None:
            self._counters.add(interval, row)

    def finish(self, summary: Summary) -> None:
        if self._cells is None:
            return
        heat = self._cells.heat_map()
        if self._options.html:
            with whole_file(self._options.html) as file:
                _module("page").write_page(summary, heat, self._start_ns or 0, file)
        if self._heatmap is not None:
            with whole_file(self._options.plot) as file:
                self._heatmap.draw(summary, heat, file, kind_of(self._options.plot))


def _module(name: str) -> Any:
    """Imported when it is needed: some take long, or need a package that an extra installs."""
    return importlib.import_module(f"mempattern.report.{name}")
