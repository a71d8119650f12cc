"""`mempattern demo`: a real KVM guest goes through several patterns, and you watch its memory."""

from __future__ import annotations

import argparse
import json
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from errno import ENOMEM
from importlib.resources import files
from pathlib import Path
from typing import Any

from mempattern._checks import whole_number
from mempattern.analysis.watch import Watch
from mempattern.cli.arguments import Parser, seconds
from mempattern.cli.exits import INTERRUPTED, Unwritable, note
from mempattern.cli.trace_file import check_output
from mempattern.errors import GuestError, KVMError, TraceError
from mempattern.interval import Interval
from mempattern.microvm import PATTERNS, MicroVM, Workload
from mempattern.regions import Region
from mempattern.report.jsonlines import JsonView
from mempattern.report.text import PlainView, View
from mempattern.sources import Replay, Source
from mempattern.trace import TraceReader, TraceWriter

# Two memslots whose sizes are no multiple of anything, as real ones may be.
REGIONS = (Region("ram0", 30_011), Region("ram1", 20_017))
_N_PAGES = sum(region.n_pages for region in REGIONS)
_RATE = 10_000

SHOW = (
    Workload("idle", _N_PAGES, rate=_RATE),
    Workload("sweep", _N_PAGES, rate=_RATE),
    Workload("stride", _N_PAGES, rate=_RATE, stride=40),
    Workload("uniform", _N_PAGES, rate=_RATE, seed=2),
    Workload("zipf", _N_PAGES, rate=_RATE, seed=3),
    Workload("phased", _N_PAGES, rate=_RATE, phases=("hotset", "idle"), phase_steps=4000),
    Workload("hotset", _N_PAGES, rate=_RATE, hot_pages=600, seed=5),
)

_LONGEST_PAUSE_S = 2.0
_INTERVAL_S = 0.1
_PER_PATTERN = 20
_MOST_OF_A_PATTERN = 10_000
_LABELS = "demo_labels"  # in the trace's meta: [[pattern, intervals], ...]


_DESCRIPTION = "A real KVM guest goes through several patterns, and you watch its memory."

_EXAMPLES = (
    ("mempattern demo", "a guest of our own, or a recorded one where there is no KVM"),
    ("mempattern demo --logging ring --record demo.mpt", "by KVM's dirty ring, and recorded"),
    ("mempattern demo --replay demo.mpt", "what was recorded, at the speed it had"),
)


def fill(demo: Parser) -> None:
    demo.describe(
        _DESCRIPTION, _EXAMPLES,
        {0: "", 1: "", 2: "", 4: "", 130: "Ctrl-C: ended early, with the summary",
         143: "SIGTERM: likewise"},
    )  # fmt: skip
    guest = demo.add_argument_group("of a running guest", "not with --replay")
    guest.add_argument("--interval", type=seconds, metavar="S",
                       help=f"seconds between collections (default {_INTERVAL_S})")  # fmt: skip
    guest.add_argument("--per-pattern", type=_count, metavar="N",
                       help=f"intervals of each pattern (default {_PER_PATTERN})")  # fmt: skip
    guest.add_argument("--logging", choices=("log", "manual", "initially-set", "ring"),
                       help="how KVM logs dirty pages (default log)")  # fmt: skip
    files_ = demo.add_mutually_exclusive_group()
    files_.add_argument("--record", type=Path, metavar="FILE.mpt",
                      help="also write the intervals to a new trace file")  # fmt: skip
    files_.add_argument("--replay", type=Path, metavar="FILE.mpt",
                      help="show a recorded demo instead of running a guest")  # fmt: skip
    demo.add_argument("--force", action="store_true", help="overwrite the trace file if it exists")
    demo.add_argument("--json", action="store_true", help="an object an interval, and the summary")
    demo.set_defaults(run=run, refuse=demo.error)


def run(options: argparse.Namespace) -> int:
    if options.replay is not None:
        _refuse_options_of_a_guest(options)
        return _show_recorded(options.replay, options)
    options.interval = options.interval or _INTERVAL_S
    options.per_pattern = options.per_pattern or _PER_PATTERN
    options.logging = options.logging or "log"
    if options.record is not None:
        check_output(options.record, options.force)
    try:
        vm = MicroVM(REGIONS, SHOW[0], logging=options.logging)
    except (KVMError, GuestError) as error:
        if options.record is not None or (isinstance(error, KVMError) and error.errno == ENOMEM):
            raise  # there is no guest to record, and nothing that a recording would mend
        note("mempattern", f"{error}; showing a recorded guest instead")
        return _show_recorded(sample_path(), options)
    with vm, vm.dirty_source() as source:
        try:
            return _show_live(vm, source, options)
        except TraceError as error:
            raise Unwritable(str(error)) from None


def _refuse_options_of_a_guest(options: argparse.Namespace) -> None:
    for name in ("interval", "per_pattern", "logging"):
        if getattr(options, name) is not None:
            option = name.replace("_", "-")
            options.refuse(f"--{option} is of a running guest, and --replay shows a recorded one")


def sample_path() -> Path:
    """The recorded demo that comes with the package."""
    return Path(str(files("mempattern") / "sample" / "demo.mpt"))


def _show_live(vm: MicroVM, source: Source, options: argparse.Namespace) -> int:
    labels = [(workload.pattern, options.per_pattern) for workload in SHOW]
    writer: Any = nullcontext()
    if options.record is not None:
        meta = {_LABELS: json.dumps(labels)}
        writer = TraceWriter(options.record, source.regions, source.provenance, meta,
                             force=options.force)  # fmt: skip
    with writer as trace:

        def intervals() -> Iterator[tuple[str, Interval]]:
            for label, interval in _run_patterns(vm, source, options):
                if trace is not None:
                    trace.write(interval)
                yield label, interval

        code = _show(f"a KVM guest, {options.logging}", source, intervals(), options)
    if trace is not None and trace.dropped:
        note("mempattern", f"{trace.dropped} intervals are not in {options.record}: the disk "
             "could not keep up; record to a faster one")  # fmt: skip
    return code


def _run_patterns(
    vm: MicroVM, source: Source, options: argparse.Namespace
) -> Iterator[tuple[str, Interval]]:
    for workload in SHOW:
        vm.reboot(workload)
        vm.resume()
        for interval in source.intervals(options.interval, options.per_pattern - 1):
            vm.check()
            yield workload.pattern, interval
        time.sleep(options.interval)
        vm.pause()  # first: what is written after the last collection would be the next pattern's
        yield workload.pattern, source.collect()


def recorded_labels(trace: TraceReader) -> Callable[[Interval], str]:
    """Says the pattern of an interval of a recorded demo; "" for those of another trace.

    Raises `TraceError` where the trace has labels that are none.
    """
    labels: list[str] = []
    ends: list[int] = []
    try:
        for label, count in json.loads(trace.meta.get(_LABELS, "[]")):
            if label not in PATTERNS or whole_number(count, 1, _MOST_OF_A_PATTERN) is None:
                raise ValueError(f"{label!r}, {count!r}")
            labels.append(label)
            ends.append(count + (ends[-1] if ends else 0))
    except (ValueError, TypeError, RecursionError) as error:
        raise TraceError(f"{trace.path}: its demo labels make no sense: {error}") from None
    labels.append("")
    return lambda interval: labels[bisect_right(ends, interval.index)]


def _show_recorded(path: Path, options: argparse.Namespace) -> int:
    with Replay(path) as source:
        label_of = recorded_labels(source.trace)

        def intervals() -> Iterator[tuple[str, Interval]]:
            for interval in source.intervals():
                time.sleep(min(interval.duration_s, _LONGEST_PAUSE_S))
                yield label_of(interval), interval

        return _show(f"a recorded KVM guest, {path.name}", source, intervals(), options, path)


def _show(
    title: str,
    source: Source,
    intervals: Iterator[tuple[str, Interval]],
    options: argparse.Namespace,
    replayed: Path | None = None,
) -> int:
    """Row by row, then the summary, also after Ctrl-C. Returns the exit code."""
    from rich.console import Console  # noqa: PLC0415  (slow to import)

    from mempattern.report.live import LiveView, draws  # noqa: PLC0415

    file: Path | None = replayed or options.record
    console = Console()
    watch = Watch(source.regions, source.provenance, file=file)
    view: View = JsonView() if options.json else PlainView(labelled=True)
    if not options.json and draws(console):
        view = LiveView(title, console, watch.findings, labelled=True)
    code = 0
    with view:
        try:
            for label, interval in intervals:
                view.show(watch.observe(interval, label))
        except KeyboardInterrupt:
            code = INTERRUPTED
    view.show_summary(watch.summary())
    return code


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_OF_A_PATTERN:
        raise argparse.ArgumentTypeError(f"must be from 1 to {_MOST_OF_A_PATTERN}, not {text!r}")
    return int(text)
