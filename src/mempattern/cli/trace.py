"""`mempattern-trace`: record which pages a process or a QEMU guest writes, as it runs."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from errno import ESRCH
from pathlib import Path

from mempattern.analysis.target import Target
from mempattern.analysis.watch import Watch
from mempattern.cli import attach
from mempattern.cli.arguments import (
    Parser,
    add_group_pages,
    add_migration,
    count,
    long_seconds,
    process_id,
    seconds,
)
from mempattern.cli.exits import (
    HUNG_UP,
    INTERRUPTED,
    TERMINATED,
    UNTRACEABLE,
    UNWRITTEN,
    guard,
    note,
)
from mempattern.cli.follow import Followed, open_executed
from mempattern.cli.stop import Stop
from mempattern.cli.trace_file import TraceFile, check_output
from mempattern.errors import ProcessError
from mempattern.interval import Interval
from mempattern.report.jsonlines import JsonView
from mempattern.report.text import PlainView, SummaryView, View
from mempattern.sources import Source

PROGRAM = "mempattern-trace"
_GRACE_S = 1.0  # for a command to follow us after Ctrl-C, so that its exit code is known
_SIGNALLED = {"SIGHUP": HUNG_UP, "SIGINT": INTERRUPTED, "SIGTERM": TERMINATED}
_EXIT_S = 0.2  # from the end of a process's memory to that of the process


_DESCRIPTION = """\
Record which pages a running process or QEMU guest writes, interval by interval,
and say how much memory it works with. The target goes on as if nothing were;
the cost is a page fault at the first write to a page in each interval."""

_EXAMPLES = (
    ("mempattern-trace -o redis.mpt --duration 10 $(pidof -s redis-server)",
     "a process for ten seconds, recorded"),
    ("mempattern-trace --qmp /run/vm/qmp.sock $(pidof -s qemu-system-x86_64)",
     "a QEMU guest's RAM"),
    ("mempattern-trace --json --region heap -- ./server --port 80",
     "the heap of a command that it starts, for programs"),
)  # fmt: skip

_EXITS = {
    0: "done, also when the target ended",
    1: "", 2: "", 3: "",
    4: "the trace file or the output could not be written; what was seen is summed up",
    129: "SIGHUP, as when its terminal closes: ended early, with the summary",
    130: "Ctrl-C: likewise",
    143: "SIGTERM: likewise",
}  # fmt: skip


def parser() -> Parser:
    root = Parser(prog=PROGRAM, usage=f"{PROGRAM} [options] PID | -- COMMAND [ARG ...]")
    root.describe(_DESCRIPTION, _EXAMPLES, _EXITS)
    add = root.add_argument
    add("pid", type=_process_id, nargs="?", metavar="PID", help="the process to trace")
    add("--interval", type=seconds, default=0.1, metavar="S",
        help="seconds between collections (default 0.1)")  # fmt: skip
    end = root.add_mutually_exclusive_group()
    end.add_argument("--duration", type=long_seconds, metavar="S",
                     help="end at the collection nearest to S seconds")  # fmt: skip
    end.add_argument("--count", type=count, metavar="N", help="end after N intervals")
    add_group_pages(root)
    add("--source", choices=("auto", "uffd", "soft-dirty"), default="auto",
        help="how writes are seen (default auto: the best that works)")  # fmt: skip
    add("--region", default="auto", metavar="auto|all|NAME|START-END",
        help="what to trace: auto (default) is a QEMU guest's RAM, else all writable memory; "
        "a name, as heap, of a mapping, a RAM block or a printed region; hexadecimal addresses",
    )  # fmt: skip
    add("--qmp", type=Path, metavar="SOCKET",
        help="QEMU's monitor: ask it for the RAM blocks and their addresses")  # fmt: skip
    add_migration(root)
    add("-o", "--output", type=Path, metavar="FILE.mpt", help="record to a new trace file")
    add("--force", action="store_true", help="overwrite the trace file if it exists")
    add("--json", action="store_true",
        help="on stdout an object an interval, and the summary as the last")  # fmt: skip
    add("--no-split-thp", dest="split_thp", action="store_false",
        help="refuse if tracing would split the target's huge pages")  # fmt: skip
    add("--quiet", action="store_true", help="print nothing but the summary, or the JSON")
    return root


def _process_id(text: str) -> int:
    try:
        return process_id(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(
            f"{error}; to start a command, write -- before it"
        ) from None


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """All after the first -- is the command. Exits with code 2 on wrong usage."""
    root = parser()
    ours, command = list(arguments), []
    if "--" in ours:
        dashes = ours.index("--")
        ours, command = ours[:dashes], ours[dashes + 1 :]
        if not command:
            root.error("there is no command after --")
    options = root.parse_args(ours)
    options.run = _run
    options.command = command
    if options.pid is None and not command:
        root.error("give a PID (pidof prints none if nothing of that name runs), or -- and a "
                   "COMMAND to start")  # fmt: skip
    if options.pid is not None and command:
        root.error("give a PID or a COMMAND, not both")
    if options.force and options.output is None:
        root.error("--force is about -o FILE.mpt, which is not given")
    if options.duration is not None and options.duration < options.interval:
        root.error(f"--duration must be at least one --interval, {options.interval} seconds")
    addresses = attach.parse_addresses(options.region)
    if not options.region or (addresses is not None and addresses[0] >= addresses[1]):
        root.error(f"--region must be auto, all, a name or START-END, not {options.region!r}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    return guard(PROGRAM, lambda: parse(sys.argv[1:] if arguments is None else arguments))


def _run(options: argparse.Namespace) -> int:
    if options.output is not None:
        check_output(options.output, options.force)
    with Stop() as stop:
        if not options.command:
            stop.watch(options.pid)
            return _trace(options, stop, None)
        attach.prepare()
        # With --json stdout is for the objects; without, the command has it for itself.
        process = attach.start(options.command, sys.stderr if options.json else None)
        try:
            stop.watch(process.pid)
            code = _trace(options, stop, process)
        except BaseException as error:
            if isinstance(error, ProcessError) and (early := attach.exit_code(process)) is not None:
                raise ProcessError(
                    ESRCH, f"the command ended (exit code {early}) before it could be traced"
                ) from None
            attach.end(process)
            raise
        if stop.signal is None:
            _wait_for(process)
        return code


def _wait_for(process: subprocess.Popen[bytes]) -> None:
    """A command that was traced is not ours to end: in the foreground it goes on, and we wait."""
    if process.poll() is None:
        note(PROGRAM, f"pid {process.pid} goes on, not traced; waiting for its end")
        process.wait()


def _trace(options: argparse.Namespace, stop: Stop, process: subprocess.Popen[bytes] | None) -> int:
    pid = options.pid if process is None else process.pid
    source, target = _open(pid, options, stop)
    with Followed(source, target, options, stop) as followed:
        meta = target.to_meta()
        if options.output is not None or target.is_guest:
            meta |= attach.content_of(source)
        trace_file = TraceFile(options.output, source, meta, force=options.force)
        if not options.quiet:
            how = f"by {source.provenance.source}: {target.traced} ({attach.size_of(source)})"
            note(PROGRAM, f"tracing {target} {how}; Ctrl-C ends it")
        watch = Watch(
            source.regions, source.provenance, options.group_pages, target,
            options.bandwidth, options.downtime_limit, meta, options.output,
        )  # fmt: skip
        view = _view(options, watch)
        code, ended = 0, ""

        def take(interval: Interval) -> bool:
            trace_file.write(interval)
            watch.dropped = trace_file.dropped
            view.show(watch.observe(interval))
            return trace_file.failure is None

        def executed() -> None:
            watch.target = followed.target
            if not options.quiet:
                note(PROGRAM, f"it executed another program; now tracing {followed.target}")

        with trace_file, view:
            try:
                ended = _collect(followed.intervals(executed), options, stop, take)
            except ProcessError as error:
                note(PROGRAM, str(error))
                code, ended = UNTRACEABLE, "error"
            followed.close()  # the target is let go of before anything else
    if trace_file.failure is not None:
        note(PROGRAM, trace_file.failure)
        code = UNWRITTEN
    watch.dropped = trace_file.dropped
    if ended == "exit" and not (stop.ended_within(_EXIT_S) or attach.is_ending(pid)):
        ended = "exec"
    exit_code = None
    if process is not None and ended in ("exit", *_SIGNALLED):
        with suppress(subprocess.TimeoutExpired):
            exit_code = process.wait(_GRACE_S)
    view.show_summary(watch.summary(ended, exit_code, followed.execs, followed.huge_bytes))
    return code or _SIGNALLED.get(ended, 0)


def _open(pid: int, options: argparse.Namespace, stop: Stop) -> tuple[Source, Target]:
    if not options.command:
        return attach.open_source(pid, options, stop.wait)
    try:
        return open_executed(lambda: attach.open_source(pid, options, stop.wait), stop)
    except EOFError:
        raise KeyboardInterrupt from None


def _collect(
    intervals: Iterable[Interval],
    options: argparse.Namespace,
    stop: Stop,
    take: Callable[[Interval], bool],
) -> str:
    """Interval by interval, while `take` wants more. Returns what ended it, a key of ENDINGS."""
    start = time.monotonic()
    for taken, interval in enumerate(intervals, 1):
        if not take(interval):
            return "file"
        if stop.signal is not None:
            break
        if taken == options.count:
            return "count"
        if options.duration is not None:
            left = start + options.duration - time.monotonic()
            if left < options.interval / 2:
                return "duration"
    if stop.signal is not None:
        return stop.signal.name
    return "exit"


def _view(options: argparse.Namespace, watch: Watch) -> View:
    """Data is on stdout; but a command has that for itself, and then ours goes to stderr."""
    if options.json:
        return JsonView()
    out = sys.stderr if options.command else sys.stdout
    # Two on one screen would draw over each other.
    is_ours = out.isatty() and not (options.command and sys.stdout.isatty())
    if is_ours and not options.quiet:
        from rich.console import Console  # noqa: PLC0415  (slow to import)

        from mempattern.report.live import LiveView, draws  # noqa: PLC0415

        console = Console(file=out)
        if draws(console):
            title = f"{PROGRAM}  {watch.target}  {watch.provenance.source}"
            return LiveView(title, console, watch.findings)
    return SummaryView(out) if options.quiet or options.command else PlainView(out)


if __name__ == "__main__":
    sys.exit(main())
