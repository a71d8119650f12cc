"""`mempattern migrate`: migrate a QEMU guest, steered by a policy."""

from __future__ import annotations

import argparse
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mempattern.cli.arguments import Parser, quantity
from mempattern.cli.exits import (
    FAILED,
    INTERRUPTED,
    LOST,
    TERMINATED,
    UNWRITTEN,
    Unwritable,
    UsageFault,
    flush_stdout,
    note,
)
from mempattern.errors import TraceError, UsageError
from mempattern.quantities import parse_bandwidth, parse_duration

if TYPE_CHECKING:
    from mempattern.report.migrating import JSONLines, Lines, LiveMigration

_CODES = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}

_EXITS = {
    0: "the guest has moved",
    1: "it has not: the migration failed or was cancelled, and the guest is at the source",
    2: "wrong usage, or a migration that cannot be steered; nothing was begun",
    3: "QEMU or libvirt does not answer or refuses, or the guest cannot be traced; nothing "
    "was begun",
    4: "the trace cannot be written, and nothing was begun; or the guest has moved, and not "
    "all is in the trace",
    LOST: "QEMU or libvirt was lost on the way; the migration goes on without us if QEMU lives",
    130: "Ctrl-C: cancelled, and the guest is at the source; with --attach, or pressed twice, "
    "let go: the migration goes on without us",
    143: "SIGTERM: likewise",
}

_EXAMPLES = (
    ("mempattern migrate --qmp /run/vm/qmp.sock --to tcp:10.0.0.2:4444 --max-downtime 1s "
     "--observe 5s", "watch the guest for 5 s, then move it"),
    ("mempattern migrate --domain web --attach --max-downtime 1s",
     "steer a migration that virsh has begun"),
    ("mempattern migrate --qmp /run/vm/qmp.sock --to tcp:10.0.0.2:4444 --max-downtime 1s "
     "--policy mp --json", "by another policy, for programs"),
)  # fmt: skip


def fill(migrate: Parser) -> None:
    migrate.describe("Migrate a QEMU guest, steered by a policy.", _EXAMPLES, _EXITS)
    add = migrate.add_argument
    which = migrate.add_mutually_exclusive_group(required=True)
    which.add_argument("--qmp", metavar="SOCKET", help="where QEMU, 7.2 or later, serves QMP")
    which.add_argument("--domain", metavar="NAME", help="a domain of libvirt's, with --attach")
    add("--connect", metavar="URI", help="libvirt's, as virsh takes it (default: as virsh)")
    where = migrate.add_mutually_exclusive_group(required=True)
    where.add_argument("--to", metavar="URI", help="as QEMU takes it, as in tcp:10.0.0.2:4444")
    where.add_argument("--attach", action="store_true",
                       help="steer the migration that is under way")  # fmt: skip
    add("--policy", default="best", metavar="NAME",
        help="as in mempattern replay (default best): mp, stock, kubevirt-ramp, FILE.py:NAME, ...",
    )  # fmt: skip
    add("--max-downtime", type=quantity(parse_duration), required=True, metavar="D",
        help="the ceiling: for how long the guest may stand still, as in 1s")  # fmt: skip
    add("--bandwidth", type=quantity(parse_bandwidth), metavar="B",
        help="to send with, as in 10Gbit; also set in QEMU, but not with --attach (default: what "
        "QEMU has)")  # fmt: skip
    add("--observe", type=quantity(parse_duration), metavar="D",
        help="trace the guest for so long before, as in 10s")  # fmt: skip
    add("--on-nonconvergence", choices=("continue", "postcopy", "throttle", "cancel"),
        default="continue", metavar="WHAT", help="after --max-time: continue (default), postcopy, "
        "throttle, with which the policy may throttle before, too, or cancel")  # fmt: skip
    add("--max-time", type=quantity(parse_duration), metavar="D",
        help="in which it is to end (default: ten times what sending all memory once takes, at "
        "least 60s)")  # fmt: skip
    add("--no-trace", dest="traces", action="store_false",
        help="do not look at the pages; for policies that go by QEMU's figures")  # fmt: skip
    add("-o", "--output", type=Path, metavar="FILE.mpt", help="write all that was seen and done")
    add("--force", action="store_true", help="replace the file")
    add("--json", action="store_true", help="one object a pass, a decision, and the end")
    migrate.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    import asyncio  # noqa: PLC0415 - as what else takes long to import

    try:
        return asyncio.run(_migrate(options))
    except UsageError as error:
        raise UsageFault(str(error)) from None
    except TraceError as error:
        raise Unwritable(str(error)) from None


async def _migrate(options: argparse.Namespace) -> int:
    import asyncio  # noqa: PLC0415

    from mempattern.live.controller import MigrationController  # noqa: PLC0415
    from mempattern.live.over_libvirt import Domain  # noqa: PLC0415
    from mempattern.migration.named import named_policies  # noqa: PLC0415
    from mempattern.report.migrating import LiveMigration  # noqa: PLC0415

    named = named_policies([options.policy])
    (make,) = named.values() if len(named) == 1 else (None,)
    if make is None:
        raise UsageFault(f"{options.policy!r} cannot steer a real migration: name one policy")
    view = _view(options)
    if options.connect and not options.domain:
        raise UsageFault("--connect says where libvirt is: it needs --domain")
    domain = Domain(options.domain, options.connect) if options.domain else None
    controller = MigrationController(
        domain or options.qmp, None if options.attach else options.to, make(),
        max_downtime_s=options.max_downtime, bandwidth_Bps=options.bandwidth,
        observe_s=options.observe or 0.0, on_nonconvergence=options.on_nonconvergence,
        patience_s=options.max_time, traces=options.traces, output=options.output,
        force=options.force, listener=view,
    )  # fmt: skip
    came: list[signal.Signals] = []
    running = asyncio.ensure_future(controller.run())

    def take(number: signal.Signals) -> None:
        came.append(number)
        may_cancel = controller.is_under_way and not options.attach
        if len(came) == 1 and (may_cancel or controller.figures.is_over):
            controller.cancel()
        else:
            running.cancel()

    loop = asyncio.get_running_loop()
    for number in _CODES:
        loop.add_signal_handler(number, take, number)
    try:
        result = await running
    except asyncio.CancelledError:
        if controller.is_under_way:
            how = f"virsh domjobabort {options.domain}" if domain else "migrate_cancel"
            note("mempattern", f"let go; QEMU goes on by its own rules (to end it: {how})")
        elif controller.figures.is_over:
            note("mempattern", f"the migration had ended: {controller.figures.status}")
            return 0 if controller.figures.status == "completed" else FAILED
        else:
            note("mempattern", "ended before the migration was started")
        return _CODES[came[0] if came else signal.SIGINT]  # which asyncio had before us
    finally:
        with suppress(OSError, SystemExit):  # nobody looks any more, and rich exits for it
            if isinstance(view, LiveMigration):
                view.close()
        flush_stdout()
    if result.trace_failure:
        note("mempattern", result.trace_failure)
    if came and not result.completed:
        return _CODES[came[0]]
    if result.completed and result.trace_failure:
        return UNWRITTEN
    return 0 if result.completed else FAILED


def _view(options: argparse.Namespace) -> Lines | JSONLines | LiveMigration:
    from rich.console import Console  # noqa: PLC0415

    from mempattern.report.live import draws  # noqa: PLC0415
    from mempattern.report.migrating import JSONLines, Lines, LiveMigration  # noqa: PLC0415

    if options.json:
        return JSONLines()

    console = Console()
    if not draws(console):
        return Lines()
    where = "under way" if options.attach else f"to {options.to}"
    return LiveMigration(f"migration {where}, policy {options.policy}", console)
