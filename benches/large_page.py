"""The report of a large guest's trace: python benches/large_page.py RESULTS.json [INTERVALS]

Makes the trace (large_trace.py), reports on it with a page and every export, by stage, and opens
the page in a headless Chromium. It takes half an hour, 1.2 GiB, and some 300 MB in TMPDIR.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import large_trace
import machine

from mempattern.analysis.findings import Findings
from mempattern.analysis.watch import Watch
from mempattern.classify.patterns import PatternDetector
from mempattern.cli import report as command
from mempattern.cli.main import main
from mempattern.distinct import DistinctPages
from mempattern.report.arrow import GroupTable
from mempattern.report.cells import Cells
from mempattern.report.perfetto import PerfettoWriter
from mempattern.stats import GroupStats
from mempattern.trace import TraceReader

STAGES: tuple[tuple[str, type, str], ...] = (
    ("reading the trace", TraceReader, "__getitem__"),
    ("statistics by group", GroupStats, "update"),
    ("windows of D(t)", DistinctPages, "update_all"),
    ("pattern", PatternDetector, "observe"),
    ("cells of the map", Cells, "add"),
    ("Parquet and Arrow", GroupTable, "add"),
    ("Perfetto", PerfettoWriter, "add"),
)
"""Of every interval."""
ONCE: tuple[tuple[str, type, str], ...] = (
    ("verdict", Findings, "intensity"),
    ("page", command._Outputs, "finish"),
)
SAMPLES = 10
"""Of the memory."""
KINDS = ("html", "parquet", "arrow", "perfetto")
LOADS, ZOOMS, HOVERS = 5, 20, 60


@contextlib.contextmanager
def timed(n_intervals: int) -> Iterator[dict[str, Any]]:
    """CPU seconds of the stages, and the memory after each tenth of the intervals."""
    cpu_s: dict[str, float] = defaultdict(float)
    memory: list[int] = []
    counted = 0

    def wrap(stage: str, function: Any) -> Any:
        def measured(*args: Any, **kwargs: Any) -> Any:
            start_s = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                cpu_s[stage] += time.thread_time() - start_s

        return measured

    observe = Watch.observe

    def counting(*args: Any, **kwargs: Any) -> Any:
        nonlocal counted
        counted += 1
        if counted * SAMPLES % n_intervals < SAMPLES:
            memory.append(machine.resident_bytes())
        return observe(*args, **kwargs)

    with contextlib.ExitStack() as undo:
        for stage, owner, name in (*STAGES, *ONCE):
            was = vars(owner)[name]
            function = getattr(was, "func", was)  # of a cached property
            new = wrap(stage, function)
            if function is not was:
                new = type(was)(new)
                new.__set_name__(owner, name)
            setattr(owner, name, new)
            undo.callback(setattr, owner, name, was)
        Watch.observe = counting  # type: ignore[method-assign]
        undo.callback(setattr, Watch, "observe", observe)
        yield {"cpu_s": cpu_s, "memory_bytes": memory}


def report(trace: Path, outputs: dict[str, Path], n_intervals: int) -> dict[str, Any]:
    asked = [part for kind, path in outputs.items() for part in (f"--{kind}", str(path))]
    with timed(n_intervals) as found:
        start_s, start_cpu_s = time.perf_counter(), time.process_time()
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            assert main(["report", str(trace), *asked]) == 0
        found["cpu_s"]["page"] -= found["cpu_s"]["verdict"]  # which it asks for
        return found | {
            "cpu_s": dict(found["cpu_s"]),
            "all_cpu_s": time.process_time() - start_cpu_s,
            "all_s": time.perf_counter() - start_s,
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "file_bytes": {kind: path.stat().st_size for kind, path in outputs.items()},
        }


DRAWN = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
DO = """async ([n, act]) => {
  const heat = document.getElementById("heat"), box = heat.getBoundingClientRect(), taken = [];
  const acts = {
    hover: (i) => heat.dispatchEvent(new PointerEvent("pointermove", { bubbles: true,
      clientX: box.left + 180 + (box.width - 200) * ((i * 37 % n) / n),
      clientY: box.top + 10 + (box.height - 20) * ((i * 23 % n) / n) })),
    zoom: (i) => document.querySelector(i % 10 < 6 ? "[data-do=in]" : "[data-do=out]").click(),
  };
  for (let i = 0; i < n; i++) {
    await new Promise((done) => requestAnimationFrame(done));
    const start = performance.now();
    acts[act](i); // which asks for a frame: what is asked for later is called after it
    await new Promise((done) => requestAnimationFrame(done));
    const drawn = performance.now();
    taken.push(drawn - start);
  }
  return taken;
}"""


def browse(page_file: Path, browser: Any) -> dict[str, Any]:
    """Milliseconds until it is drawn, of a zoom and of a hover, each with its frame."""
    loads = []
    for _ in range(LOADS):
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        start_s = time.perf_counter()
        page.goto(page_file.as_uri())
        page.wait_for_selector("#explorer:not([hidden])")
        page.evaluate(DRAWN)
        loads.append(1e3 * (time.perf_counter() - start_s))
    found = {
        "load_ms": loads,
        "zoom_ms": page.evaluate(DO, [ZOOMS, "zoom"]),
        "hover_ms": page.evaluate(DO, [HOVERS, "hover"]),
        "version": browser.version,
    }
    page.close()
    return found


def measure(n_intervals: int, gib: int, folder: Path, browser: Any) -> dict[str, Any]:
    trace = folder / "large.mpt"
    large_trace.write(trace, n_intervals, gib)
    outputs = {kind: folder / f"large.{kind}" for kind in KINDS}
    return {
        "machine_info": machine.info(),
        "n_intervals": n_intervals,
        "gib": gib,
        "report": report(trace, outputs, n_intervals),
        "trace_bytes": trace.stat().st_size,
        "browser": browse(outputs["html"], browser),
    }


if __name__ == "__main__":
    from playwright.sync_api import sync_playwright

    intervals = int(sys.argv[2]) if len(sys.argv) > 2 else large_trace.N_INTERVALS
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        result = measure(intervals, large_trace.GIB, Path(temporary), chromium)
        chromium.close()
    Path(sys.argv[1]).write_text(json.dumps(result, indent=1) + "\n")
