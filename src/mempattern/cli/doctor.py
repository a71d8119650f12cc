"""`mempattern doctor`: what works on this machine, and for this process, and what would help."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from typing import Any

from mempattern.cli.arguments import Parser, process_id
from mempattern.cli.exits import UNTRACEABLE
from mempattern.report.jsonlines import print_json

DOCTOR = "mempattern.doctor/1"
SOURCES = ("source uffd", "source soft-dirty")
"""Names of the checks that say whether a whole source works."""


_DESCRIPTION = "What works on this machine, and for this process, and what would help."

_EXAMPLES = (
    ("mempattern doctor", "on a process of our own"),
    ("mempattern doctor --json 1234", "on process 1234, for programs"),
)


def fill(doctor: Parser) -> None:
    doctor.describe(
        _DESCRIPTION, _EXAMPLES,
        {0: "a process can be traced", 1: "", 2: "", 3: "none of the sources works", 4: "",
         130: "", 143: ""},
    )  # fmt: skip
    doctor.add_argument("pid", type=process_id, nargs="?", metavar="PID",
                        help="the process; without it, one of our own is tried")  # fmt: skip
    doctor.add_argument("--json", action="store_true", help="one object on stdout")
    doctor.set_defaults(run=run)


def probe(pid: int | None) -> list[Any]:
    """The checks. The seam where tests put their own."""
    from mempattern.sources import doctor  # noqa: PLC0415

    checks: list[Any] = doctor.probe(pid)
    return checks


def run(options: argparse.Namespace) -> int:
    checks = probe(options.pid)
    works = any(check.ok for check in checks if check.name in SOURCES)
    if options.json:
        print_json(
            {
                "schema": DOCTOR,
                "pid": options.pid,
                "works": works,
                "checks": [asdict(check) for check in checks],
            }
        )
    else:
        _print_table(checks)
        target = "a process" if options.pid is None else f"process {options.pid}"
        print(f"{target} {'can' if works else 'cannot'} be traced here", file=sys.stdout)
    return 0 if works else UNTRACEABLE


def _print_table(checks: list[Any]) -> None:
    from rich.console import Console  # noqa: PLC0415  (slow to import)
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    marks = {
        True: Text("yes", style="green"), False: Text("no", style="red"), None: Text("-")
    }  # fmt: skip
    table = Table(box=None, pad_edge=False)
    for heading in ("check", "works", "what was found", "remedy"):
        table.add_column(heading, no_wrap=heading in ("check", "works"))
    for check in checks:
        table.add_row(Text(check.name), marks[check.ok], Text(check.detail), Text(check.remedy))
    Console().print(table)
