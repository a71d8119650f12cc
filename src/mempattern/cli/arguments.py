"""What arguments may be: a parser that errs in one sentence, and the kinds of values."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import mempattern
from mempattern.cli.exits import MEANINGS, USAGE
from mempattern.errors import RegionError, UsageError
from mempattern.quantities import parse_bandwidth, parse_duration
from mempattern.regions import GROUP_PAGES, check_group_pages

_Value = TypeVar("_Value", bound=Any)


class Parser(argparse.ArgumentParser):
    """What all commands have: --version, --debug, and a help that ends with examples and exit
    codes. Wrong usage is one line and exit code 2.
    """

    def __init__(self, **named: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **named)
        self.examples: Sequence[tuple[str, str]] = ()
        """Commands, each with what it is for."""
        self.exits: Mapping[int, str] = {}
        """What each exit code means."""
        self.add_argument("--version", action="version",
                          version=f"mempattern {mempattern.__version__}",
                          help="print the version and end")  # fmt: skip
        # A command's parser would overwrite what mempattern's own has found with its default.
        self.add_argument("--debug", action="store_true", default=argparse.SUPPRESS,
                          help="print a traceback, too, if it fails")  # fmt: skip

    def describe(
        self,
        description: str | None,
        examples: Sequence[tuple[str, str]],
        exits: Mapping[int, str],
    ) -> None:
        """What the help says before and after the arguments; a code whose meaning is the usual one
        may be given as "".
        """
        self.description = description
        self.examples = examples
        self.exits = {code: meaning or MEANINGS[code] for code, meaning in exits.items()}
        lines = ["examples:"]
        for command, purpose in examples:
            lines += [f"  # {purpose}", " \\\n      ".join(_folded(f"  {command}", 72))]
        lines += ["", "exit codes:"]
        for code, meaning in self.exits.items():
            lines += _folded(f"  {code:<4} {meaning}", 79, indent=7)
        self.epilog: str | None = "\n".join(lines)

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        (file or sys.stderr).write(message)  # argparse's own hides that it cannot


def _folded(line: str, width: int, indent: int = 0) -> list[str]:
    return textwrap.wrap(line, width, subsequent_indent=" " * indent,
                         break_long_words=False, break_on_hyphens=False)  # fmt: skip


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.01 <= value <= 60:
        raise argparse.ArgumentTypeError(f"must be from 0.01 to 60 seconds, not {text!r}")
    return value


def long_seconds(text: str) -> float:
    """With a unit, too, as durations elsewhere have one."""
    try:
        value = parse_duration(text) if text[-1:].isalpha() else float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"must be a positive number of seconds, not {text!r}")
    return value


def count(text: str) -> int:
    if not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be from 1 to 999999999, not {text!r}")
    return int(text)


def process_id(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) < 1 << 31:
        raise argparse.ArgumentTypeError(f"must be a process id, as pidof prints it, not {text!r}")
    return int(text)


def group_pages(text: str) -> int:
    try:
        return check_group_pages(int(text) if text.isdecimal() and len(text) < 12 else 0)
    except RegionError:
        raise argparse.ArgumentTypeError(
            f"must be a positive multiple of 64 below 2**32, not {text!r}"
        ) from None


def add_group_pages(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--group-pages", type=group_pages, default=GROUP_PAGES, metavar="N",
                        help=f"pages in a group (default {GROUP_PAGES})")  # fmt: skip


def quantity(parse: Callable[[str], _Value]) -> Callable[[str], _Value]:
    """Of `mempattern.quantities`, with the error that argparse shows."""

    def parsed(text: str) -> _Value:
        try:
            return parse(text)
        except UsageError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parsed


def add_migration(parser: argparse.ArgumentParser) -> None:
    """What the verdict on a guest assumes; the defaults are those of `analysis.findings`."""
    add = parser.add_argument
    add("--bandwidth", type=quantity(parse_bandwidth), default="10Gbit", metavar="B",
        help="of a guest's migration, which the verdict is on (default 10Gbit)")  # fmt: skip
    add("--downtime-limit", type=quantity(parse_duration), default="300ms", metavar="D",
        help="QEMU's setting in that migration (default 300ms)")  # fmt: skip
