"""`mempattern`: one command, a subcommand for each thing to do."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Sequence
from importlib import import_module

from mempattern.cli.arguments import Parser
from mempattern.cli.exits import guard

COMMANDS = {
    "demo": "watch a real KVM guest go through several patterns",
    "report": "sum up a recorded trace",
    "predict": "say whether, when and at what cost a VM will migrate",
    "replay": "compare policies on the migration of a traced VM",
    "migrate": "migrate a running QEMU guest, steered by a policy",
    "doctor": "say what works here for tracing a process, and why not",
    "completion": "print what has your shell complete these commands",
}
"""Each is the module of its name in this package."""

_DESCRIPTION = """\
Know from a virtual machine's dirty pages whether and how it will live-migrate.
To trace a process or a QEMU guest: mempattern-trace."""

_EXAMPLES = (
    ("mempattern demo", "watch a guest's memory, no QEMU needed"),
    ("mempattern report redis.mpt", "sum up what mempattern-trace -o recorded"),
    ("mempattern predict guest.mpt --bandwidth 10Gbit --max-downtime 300ms",
     "will this guest migrate?"),
)  # fmt: skip


def parser(filled: Collection[str] = tuple(COMMANDS)) -> Parser:
    """`filled` are the commands whose arguments are wanted: the others take time to import."""
    root = Parser(prog="mempattern")
    root.describe(
        _DESCRIPTION, _EXAMPLES, {0: "", 1: "", 2: "", 3: "", 4: "", 130: "", 143: ""}
    )  # fmt: skip
    commands = root.add_subparsers(title="commands", metavar="COMMAND")
    for name, purpose in COMMANDS.items():
        command = commands.add_parser(name, help=purpose)
        if name in filled:
            import_module(f"mempattern.cli.{name}").fill(command)
    return root


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Exits with code 2 on wrong usage."""
    root = parser([name for name in COMMANDS if name in arguments])
    if arguments[:1] == ["trace"]:
        root.error("to trace is a command of its own: mempattern-trace PID")
    options = root.parse_args(arguments)
    if not hasattr(options, "run"):
        root.error(f"say what to do: {', '.join(COMMANDS)}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    return guard("mempattern", lambda: parse(sys.argv[1:] if arguments is None else arguments))


if __name__ == "__main__":
    sys.exit(main())
