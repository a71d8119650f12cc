"""Arguments of the commands that play migrations out."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, TypeVar

from mempattern.cli.arguments import quantity
from mempattern.errors import UsageError
from mempattern.migration.memory import CHUNK_PAGES
from mempattern.quantities import parse_duration

CHUNKS = {"kvm": CHUNK_PAGES, "tcg": 0}
"""By what runs the guest: pages of which QEMU clears the log of writes at a time."""
_LONGEST_S = 86_400.0
"""Of `--max-time`: what does not end is played out until then, and takes its time."""
_MOST = 16
"""Bandwidths and limits: a table is for reading."""
_Value = TypeVar("_Value", bound=Any)


def several(parse: Callable[[str], _Value]) -> Callable[[str], list[_Value]]:
    """Separated by commas."""

    def parsed(text: str) -> list[_Value]:
        parts = text.split(",")
        if len(parts) > _MOST:
            raise argparse.ArgumentTypeError(f"has {len(parts)} values; give {_MOST} at most")
        return sorted({quantity(parse)(part) for part in parts})

    return parsed


def _max_time(text: str) -> float:
    duration_s = parse_duration(text)
    if duration_s > _LONGEST_S:
        raise UsageError(f"{text!r} is more than a day; nobody waits so long, give less")
    return duration_s


def add_how(parser: argparse.ArgumentParser) -> None:
    """Of a migration, beside its link and its downtime."""
    add = parser.add_argument
    add("--max-time", type=quantity(_max_time), metavar="D",
        help="after which a migration would be given up (default: ten times what sending all "
        "memory once takes, at least 60s; at most a day)")  # fmt: skip
    add("--zero-pages", metavar="N|SIZE",
        help="how many pages, or how much memory, hold only zeros")  # fmt: skip
    add("--accel", choices=tuple(CHUNKS), default="kvm",
        help="what runs the guest (default kvm): when QEMU clears the log of writes")  # fmt: skip
