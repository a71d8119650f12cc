"""`mempattern report`: the summary of a recorded trace, as it was seen live."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mempattern.cli.arguments import add_group_pages, add_migration
from mempattern.report.jsonlines import JsonView
from mempattern.report.target import Target
from mempattern.report.text import SummaryView, View
from mempattern.report.watch import Watch
from mempattern.sources import Replay


def add_to(commands: Any) -> None:
    report = commands.add_parser("report", help="sum up a recorded trace", description=__doc__)
    report.add_argument(
        "file", type=Path, metavar="FILE.mpt", help="what mempattern-trace -o wrote"
    )
    report.add_argument("--json", action="store_true",
                        help="the same objects that mempattern-trace --json prints")  # fmt: skip
    add_group_pages(report)
    add_migration(report)
    report.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    view: View = JsonView() if options.json else SummaryView()
    with Replay(options.file) as source:
        meta = source.trace.meta
        watch = Watch(
            source.regions, source.provenance, options.group_pages, Target.from_meta(meta),
            options.bandwidth, options.max_downtime, meta, options.file, is_replay=True,
        )  # fmt: skip
        watch.dropped = source.trace.dropped
        for interval in source.intervals():
            view.show(watch.observe(interval))
    view.show_summary(watch.summary())
    return 0
