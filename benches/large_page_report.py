"""docs/report-results.md from the raw values: python benches/large_page_report.py RESULTS.json"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

from large_page import ONCE, STAGES
from table import machine_line

PAGE = """\
# The report of a large guest

<!-- Made by benches/large_page_report.py; do not edit. -->

`make large-page` measures it anew into `{results}`, and makes this page.
{machine}

The trace is of {gib} GiB and {n_intervals:,} intervals of 0.1 s, {trace_mb:.0f} MB, made of the
corpus (`benches/large_trace.py`): every trace of it has a GiB of its own; two in ten intervals are
a night in which only those that idle are there, three in ten have a job over 16 GiB beside all
others. One run of `mempattern report` makes the page, Parquet, Arrow and Perfetto of it.

## Making it

| | CPU time |
| --- | --: |
{stages}

All of it is {all_cpu} of CPU time, {each:.0f} ms an interval; {all_s} passed, on a machine that had
other things to do. A bitmap of {gib} GiB is {bitmap_mib:.0f} MiB, which is inflated, checked and
counted: that takes as long however little is dirty. What follows reads it, and of its own memory
what is dirty.

## Memory

At most {peak}. After each tenth of the intervals, in MiB: {memory}.
From the second tenth to the last it grew by {grown}. The cells take 64 KiB a column, of which there
are 2000 at most: 125 MiB. Most of the rest is the C core's. For a guest of 1024 GiB it reserves
46 MiB for each length of windows, of which 10,000 intervals complete 26 and begin two more, 514 MiB
for the history of 16 intervals, and 56 MiB for the statistics. All that lies in huge pages, so that
a dirty page backs 2 MiB of each; and the job touches new memory every day.

## Files

| page | Parquet | Arrow | Perfetto |
| --: | --: | --: | --: |
| {html} | {parquet} | {arrow} | {perfetto} |

## The page in a browser

Chromium {version}, headless, 1280 by 900, no GPU. A zoom and a hover are timed until the frame
after them is drawn.

| | median | longest |
| --- | --: | --: |
{browser}
"""


def seconds(s: float) -> str:
    return f"{s / 60:.1f} min" if s >= 100 else f"{s:.2g} s"


def size(n_bytes: float) -> str:
    return f"{n_bytes / 1e6:.2f} MB"


def markdown(path: Path) -> str:
    found: dict[str, Any] = json.loads(path.read_text())
    report, browser, n = found["report"], found["browser"], found["n_intervals"]
    cpu_s, memory = report["cpu_s"], report["memory_bytes"]
    stages = [f"| {stage} | {1e3 * cpu_s[stage] / n:.2f} ms an interval |" for stage, *_ in STAGES]
    stages += [f"| {stage} | {seconds(cpu_s[stage])} once |" for stage, *_ in ONCE]
    acts = (("to load it and draw it", "load_ms"), ("a zoom", "zoom_ms"), ("a hover", "hover_ms"))
    grown = memory[-1] - memory[1]
    return PAGE.format(
        results=f"benches/results/{path.name}",
        machine=machine_line(found["machine_info"]),
        gib=found["gib"],
        n_intervals=n,
        trace_mb=found["trace_bytes"] / 1e6,
        stages="\n".join(stages),
        all_cpu=seconds(report["all_cpu_s"]),
        each=1e3 * report["all_cpu_s"] / n,
        all_s=seconds(report["all_s"]),
        bitmap_mib=found["gib"] / 32,
        peak=f"{report['peak_bytes'] / (1 << 30):.2f} GiB",
        memory=", ".join(f"{n_bytes / (1 << 20):.0f}" for n_bytes in memory),
        grown=f"{grown / (1 << 20):.0f} MiB",
        version=browser["version"],
        browser="\n".join(
            f"| {what} | {median(browser[key]):.0f} ms | {max(browser[key]):.0f} ms |"
            for what, key in acts
        ),
        **{kind: size(n_bytes) for kind, n_bytes in report["file_bytes"].items()},
    )


if __name__ == "__main__":
    print(markdown(Path(sys.argv[1])), end="")
