"""`mempattern`: one command, a subcommand for each thing to do."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Sequence
from importlib import import_module

import mempattern
from mempattern.cli.arguments import Parser
from mempattern.cli.exits import EPILOG, guard

COMMANDS = {
    "demo": "watch the memory of a real KVM guest as it goes through several patterns",
    "report": "sum up a recorded trace",
    "predict": "say whether, when and at what cost a VM will migrate",
    "replay": "compare policies on the migration of a traced VM",
    "migrate": "migrate a running QEMU guest, steered by a policy",
    "doctor": "say what works here for tracing a process, and why not",
}
"""What each does; it is `mempattern.cli.NAME`."""


def parser(wanted: Collection[str] = COMMANDS.keys()) -> argparse.ArgumentParser:
    """Knows all commands, and the arguments of the wanted ones: only these are imported, as the
    others would take longer than most of what there is to do.
    """
    root = Parser(
        prog="mempattern",
        description="Know from a virtual machine's dirty pages whether and how it will "
        "live-migrate. To trace a process or a QEMU guest: mempattern-trace.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"mempattern {mempattern.__version__}")
    commands = root.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, does in COMMANDS.items():
        if name in wanted:
            import_module(f"mempattern.cli.{name}").add_to(commands, does)
        else:
            commands.add_parser(name, help=does)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    options = parser(COMMANDS.keys() & set(given)).parse_args(given)

    def run() -> int:
        code: int = options.run(options)
        return code

    return guard("mempattern", run)


if __name__ == "__main__":
    sys.exit(main())
