"""A new trace file: in nobody's place unless that was asked for, and then only once it is made."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from mempattern.errors import TraceError
from mempattern.trace.schema import HEAD_STEPS, MOST_TEXT

_BESIDE = ("-wal", "-shm", "-journal")


def create(
    path: Path, make_head: Callable[[sqlite3.Connection], None], force: bool
) -> sqlite3.Connection:
    """The file with its head, open in WAL mode. `make_head` runs in a transaction.

    Raises `TraceError` if the file exists and must not be replaced, or is in use; `OSError` where
    none can be made, `sqlite3.Error`. Whatever is raised, an old file is still there.
    """
    # What is beside it lies beside what a link leads to. A circle: see touch() below.
    file = Path(os.path.realpath(path))
    new = file
    if file.exists():
        if not force:
            raise TraceError(
                f"{path} exists; name another file, or replace it with --force "
                "(force=True in Python)"
            )
        if not file.is_file():
            raise TraceError(f"{path} cannot be replaced: it is no regular file")
        new = file.with_name(f".{os.urandom(8).hex()}.mpt")
    try:
        new.touch(exist_ok=False)
    except OSError as error:
        error.filename = str(path)  # which SQLite's own error would not name
        raise
    try:
        with_head = _open(new)
        try:
            # No journal: until the head is there, whole and on the disk, there is no trace.
            with_head.execute("pragma journal_mode = memory")
            with_head.execute("begin")
            make_head(with_head)
            with_head.execute("commit")
        finally:
            with_head.close()
        if new != file:
            _let_go(path, file)
        for suffix in _BESIDE:  # of a file that was killed, copied or removed without them
            Path(f"{file}{suffix}").unlink(missing_ok=True)
        if new != file:
            new.replace(file)
        return _log_ahead(_open(file))
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _open(file: Path) -> sqlite3.Connection:
    database = sqlite3.connect(file, isolation_level=None)
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_TEXT)
    return database


def _log_ahead(database: sqlite3.Connection) -> sqlite3.Connection:
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, (1 << 31) - 1)
    database.execute("pragma journal_mode = wal")
    # Opens the -wal file, and with it takes the lock that tells others of us, before any interval.
    database.execute("select 1 from sqlite_master").fetchone()
    # One wait for the disk a commit, which is then safe; a second one for every MiB or so.
    database.execute("pragma synchronous = full")
    database.execute("pragma wal_autocheckpoint = 256")
    return database


def is_busy(error: sqlite3.Error) -> bool:
    """Somebody else has a lock, for whichever of SQLite's reasons."""
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


def _let_go(path: Path, old: Path) -> None:
    """Folds what is beside the old file into it. Raises `TraceError` if somebody has it open.

    Were it replaced under a recording that goes on, that would end by removing our -wal file.
    """
    database = sqlite3.connect(old, isolation_level=None, timeout=0.5)
    database.set_progress_handler(lambda: 1, HEAD_STEPS)  # it may be anything
    try:
        database.execute("pragma journal_mode = delete")
    except sqlite3.Error as error:
        if is_busy(error):
            raise TraceError(
                f"{path} cannot be replaced: another recording or program has it open"
            ) from None
    finally:
        database.close()
