"""Text from outside (names, files, facts), made fit for a terminal and for a shell."""

from __future__ import annotations

import os
import shlex


def printable(text: str) -> str:
    """Nothing in it gets at the terminal's controls."""
    return text if text.isprintable() else repr(text)


def quoted(path: str) -> str:
    """A word for a shell, which is printable; in bash's $'' where it must be."""
    if path.isprintable():
        return shlex.quote(path)
    return "$'" + "".join(f"\\x{byte:02x}" for byte in os.fsencode(path)) + "'"
