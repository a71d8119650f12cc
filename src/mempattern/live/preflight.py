"""Whether a migration of that QEMU can be steered: what is refused before anything is changed."""

from __future__ import annotations

from mempattern.errors import QMPError, UsageError
from mempattern.live.borrowed import Borrowed
from mempattern.live.figures import UNDER_WAY, Figures
from mempattern.live.session import Session
from mempattern.monitor.replies import as_object, number

_OLDEST = (7, 2)
_HAS_MOVED = ("postmigrate", "inmigrate", "finish-migrate")


async def check_version(session: Session) -> str:
    """As in "7.2.22". Raises `QMPError` for a QEMU before 7.2."""
    said = await session.execute("query-version")
    numbers = as_object("query-version", as_object("query-version", said).get("qemu"))
    version = [int(number(numbers, part, "query-version")) for part in ("major", "minor", "micro")]
    text = ".".join(map(str, version))
    if tuple(version[:2]) < _OLDEST:
        raise QMPError(
            f"this is QEMU {text}; its migration can be steered from 7.2 on, and predicted from a "
            f"trace of any version (mempattern predict)"
        )
    return text


async def check_state(session: Session, *, starts: bool) -> Figures:
    """Raises `UsageError` unless a migration can be started, or is under way if it was to be."""
    figures = Figures.of(await session.execute("query-migrate"))
    is_running = figures.status in UNDER_WAY
    said = as_object("query-status", await session.execute("query-status"))
    status = str(said.get("status"))
    if starts and is_running:
        raise UsageError(
            f"a migration of this guest is under way ({figures.status}): steer it with --attach, "
            f"or cancel it first (migrate_cancel)"
        )
    if starts and status in _HAS_MOVED:
        where = "is to come here" if status == "inmigrate" else "has moved already"
        raise UsageError(f"there is nothing to migrate: the guest {where} (QEMU says {status})")
    if not starts and figures.status not in ("setup", "active"):
        raise UsageError(
            f"no migration is under way that could be steered (QEMU says {figures.status}); "
            f"start one with --to"
        )
    return figures


def check_capabilities(borrowed: Borrowed, *, starts: bool, traces: bool) -> None:
    """Raises `UsageError` for those that are on and clash with what we do."""
    on = {name for name, is_on in borrowed.capabilities.items() if is_on}
    if traces and "background-snapshot" in on:
        raise UsageError(
            "the capability background-snapshot is on: it protects the guest's memory in the way "
            "that tracing does, and only one of them can; switch it off, or do without tracing "
            "(--no-trace)"
        )
    if starts and "pause-before-switchover" in on:
        raise UsageError(
            "the capability pause-before-switchover is on: QEMU would stop the guest and wait for "
            "somebody to say migrate-continue, which nobody here does; switch it off, or start the "
            "migration yourself and use --attach"
        )
