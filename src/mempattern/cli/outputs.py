"""Files that commands write beside what they print: all of each or nothing."""

from __future__ import annotations

import argparse
import os
import secrets
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mempattern.cli.exits import Unwritable, said
from mempattern.cli.trace_file import check_output

_PICTURES = (".png", ".svg")


def picture(text: str) -> Path:
    """An argument."""
    path = Path(text)
    if path.suffix.lower() not in _PICTURES:
        raise argparse.ArgumentTypeError(f"must end in .png or .svg, not {text!r}")
    return path


def kind_of(picture: Path) -> str:
    """png or svg"""
    return picture.suffix[1:].lower()


def check_outputs(paths: Iterable[Path], read: Iterable[Path], *, force: bool) -> None:
    """Before there is anything to lose. Raises `Unwritable`."""
    taken = [_behind_links(path) for path in read]
    for path in paths:
        check_output(path, force)
        if _behind_links(path) in taken:
            raise Unwritable(f"{path} is a trace to read, or another file to write")
        taken.append(_behind_links(path))


def _behind_links(path: Path) -> Path:
    """Not `resolve()`: before Python 3.13 a circle of links is a RuntimeError to it."""
    return Path(os.path.realpath(path))


@contextmanager
def whole_file(path: Path) -> Generator[BinaryIO]:
    """A file that takes the place of `path` when all went well, and leaves nothing otherwise.

    Raises `Unwritable` where none can be made.
    """
    named, path = path, _behind_links(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:  # which has begun before there is a file: SIGTERM may end it between any two steps
        try:
            file = part.open("xb")
        except OSError as error:
            error.filename = named  # not the one beside it
            raise Unwritable(said(error)) from None
        with file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
