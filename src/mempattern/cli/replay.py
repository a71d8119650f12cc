"""`mempattern replay`: what each policy would have made of the migration of a traced VM."""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from mempattern.cli.arguments import Parser, count, quantity
from mempattern.cli.exits import FAILED, UNWRITTEN, UsageFault, note
from mempattern.cli.migration import CHUNKS, add_how, several
from mempattern.cli.outputs import check_outputs, kind_of, picture, whole_file
from mempattern.cli.workers import Ended, pool_of, progress_of
from mempattern.errors import UsageError
from mempattern.migration.bandwidth import Bandwidth
from mempattern.migration.compare import ORACLE
from mempattern.migration.fleet import Replayed, Settings, replay
from mempattern.migration.named import ALL, error_text, named_policies
from mempattern.migration.traces import MEMORY_SHARE
from mempattern.quantities import parse_changing_bandwidth, parse_duration
from mempattern.report.jsonlines import print_json
from mempattern.report.replay import Replays, replay_object
from mempattern.report.replay_tables import lines

_DESCRIPTION = "What each policy would have made of the migration of a traced VM."

_EXAMPLES = (
    ("mempattern replay guest.mpt --bandwidth 1Gbit --max-downtime 1s", "all policies, one link"),
    ("mempattern replay guest.mpt --policy stock,mp,best --bandwidth 1Gbit,10Gbit "
     "--max-downtime 300ms,1s", "some of them, in four cases"),
)  # fmt: skip


def fill(command: Parser) -> None:
    command.describe(
        _DESCRIPTION, _EXAMPLES,
        {0: "", 1: "a trace could not be replayed, and one line on stderr says why", 2: "",
         4: "", 130: "Ctrl-C: what was replayed until then is shown",
         143: "SIGTERM: likewise"},
    )  # fmt: skip
    add = command.add_argument
    add("files", type=Path, nargs="+", metavar="FILE.mpt", help="what mempattern-trace -o wrote")
    add("--policy", type=_names, default=[ALL], metavar="NAME[,NAME...]",
        help="those to replay (default all); one's own as in FILE.py:NAME or module:NAME",
    )  # fmt: skip
    add("--bandwidth", type=several(parse_changing_bandwidth), required=True, metavar="B[,B...]",
        help="of the link, as in 10Gbit or 1.25GB/s; as in 1Gbit+200Mbit@10s if it changes",
    )  # fmt: skip
    add("--max-downtime", type=several(parse_duration), required=True, metavar="D[,D...]",
        help="the ceiling: for how long the guest may stand still, as in 300ms")  # fmt: skip
    add("--downtime-limit", type=quantity(parse_duration), default="300ms", metavar="D",
        help="QEMU's setting, until a policy changes it (default 300ms)")  # fmt: skip
    add("--start", type=quantity(parse_duration), default=0.0, metavar="T",
        help="how far into the trace the migration begins (default at its beginning)")  # fmt: skip
    add("--past-end", choices=("loop", "refuse"), default="loop",
        help="what comes after a trace's end: it again (default), or the end of the replay",
    )  # fmt: skip
    add_how(command)
    add("--jobs", type=count, metavar="N",
        help="traces to replay at a time (default one a processor)")  # fmt: skip
    add("--json", action="store_true", help="one object on stdout")
    add("--parquet", type=Path, metavar="FILE", help="also write a table for other tools")
    add("--plot", type=picture, metavar="FILE.png|svg", help="also draw time against downtime")
    add("--force", action="store_true", help="overwrite files that exist")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    paths = list(dict.fromkeys(map(str, options.files)))
    jobs = min(options.jobs or len(os.sched_getaffinity(0)), len(paths))
    outputs = _outputs(options, len(paths))
    names = list(dict.fromkeys([*options.policy, ORACLE]))
    settings = Settings(
        downtime_limit_s=options.downtime_limit,
        start_s=options.start,
        past_end=options.past_end,
        zero_pages=options.zero_pages,
        chunk_pages=CHUNKS[options.accel],
        patience_s=options.max_time,
        memory_share=MEMORY_SHARE / jobs,
    )
    try:
        named_policies(names)
        bandwidths = [Bandwidth(*changes) for changes in options.bandwidth]
    except UsageError as error:
        raise UsageFault(str(error)) from None
    done: list[Replayed] = []
    ended = Ended()
    with ended, progress_of(len(paths)) as advance, pool_of(jobs) as pool:
        running = replay(
            paths, names, bandwidths, options.max_downtime, settings, executor=pool
        )  # fmt: skip
        with closing(running):
            for replayed in running:
                done.append(replayed)
                advance()
    done.sort(key=lambda replayed: paths.index(replayed.path))
    left = tuple(path for path in paths if path not in {replayed.path for replayed in done})
    return _show(Replays(tuple(done), left), options, outputs, ended.code)


# ---- what is shown and written -------------------------------------------------------------------

_Output = tuple[Path, Callable[[Replays, BinaryIO], None]]


def _outputs(options: argparse.Namespace, n_traces: int) -> list[_Output]:
    """Files to write, each with what writes it; before there is anything to lose."""
    found: list[_Output] = []
    if options.parquet is not None:
        parquet = importlib.import_module("mempattern.report.parquet")
        found.append((options.parquet, parquet.write_parquet))
    if options.plot is not None:
        pareto = importlib.import_module("mempattern.report.pareto")
        kind = kind_of(options.plot)
        try:
            pareto.check_panels(n_traces * len(options.bandwidth) * len(options.max_downtime))
        except UsageError as error:
            raise UsageFault(str(error)) from None
        found.append((options.plot, lambda replays, file: pareto.draw(replays, file, kind)))
    check_outputs((path for path, _ in found), map(Path, options.files), force=options.force)
    return found


def _show(replays: Replays, options: argparse.Namespace, outputs: list[_Output], code: int) -> int:
    for replayed in replays.results:
        if replayed.error:
            named = replayed.path in replayed.error
            note("mempattern", replayed.error if named else f"{replayed.path}: {replayed.error}")
            code = code or FAILED
    if replays.unfinished:
        note("mempattern", _interruption(len(replays.results), len(replays.unfinished)))
    if options.json:
        print_json(replay_object(replays))
    elif shown := lines(replays):
        print("\n".join(shown))
    if any(replayed.cases for replayed in replays.results):
        for path, write in outputs:
            try:
                with whole_file(path) as file:
                    write(replays, file)
            except Exception as error:  # whatever it is, the replays are not lost by it
                said = getattr(error, "strerror", None) or error_text(error)
                note("mempattern", f"{path} cannot be written: {said}")
                code = code or UNWRITTEN
    return code


def _interruption(done: int, left: int) -> str:
    if not done:
        return f"interrupted: none of {done + left} traces was replayed"
    were = "was replayed, and is" if done == 1 else "were replayed, and are"
    return f"interrupted: {done} of {done + left} traces {were} all that is shown"


# ---- arguments -----------------------------------------------------------------------------------


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty name")
    return names
