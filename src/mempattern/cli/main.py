"""`mempattern`: one command, a subcommand for each thing to do."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import mempattern
from mempattern.cli import demo, doctor, migrate, predict, replay, report
from mempattern.cli.arguments import Parser
from mempattern.cli.exits import EPILOG, guard


def parser() -> argparse.ArgumentParser:
    root = Parser(
        prog="mempattern",
        description="Know from a virtual machine's dirty pages whether and how it will "
        "live-migrate. To trace a process or a QEMU guest: mempattern-trace.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"mempattern {mempattern.__version__}")
    commands = root.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (demo, report, predict, replay, migrate, doctor):
        command.add_to(commands)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)

    def run() -> int:
        code: int = options.run(options)
        return code

    return guard("mempattern", run)


if __name__ == "__main__":
    sys.exit(main())
