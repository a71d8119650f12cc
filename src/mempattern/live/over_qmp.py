"""A migration that QEMU runs for us, over its QMP socket."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from mempattern.errors import UsageError
from mempattern.live.borrowed import Borrowed, steering_alone
from mempattern.live.figures import Figures
from mempattern.live.migrator import Migrator, OnNonconvergence
from mempattern.live.preflight import check_capabilities, check_state, check_version
from mempattern.live.session import Session
from mempattern.live.steering import GENTLEST, STRONGEST
from mempattern.monitor.qmp import connect, owner_of
from mempattern.monitor.replies import as_object, number
from mempattern.qemu.ram import GuestRam, guest_ram_blocks

_CONNECT_S = 5.0
_NEEDS = {"postcopy": "postcopy-ram", "throttle": "auto-converge"}


@dataclass(frozen=True, slots=True)
class QMPSocket:
    """The guest of the QEMU that serves QMP there. It serves one client at a time."""

    path: str | os.PathLike[str]
    """Of the UNIX socket."""

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Migrator, None]:
        """Reach who runs the guest, for as long as the context lasts.

        Raises `MonitorError`, `UsageError`.
        """
        async with Session(self.path) as session:
            facts = {"qemu": await check_version(session)}
            is_emulated = await emulates(session)
            with steering_alone(session.pid) as lock:
                borrowed = await Borrowed.of(session, lock)
                try:
                    yield QMPMigrator(session, borrowed, facts, emulates=is_emulated)
                finally:
                    borrowed.let_go()

    def ram(self) -> tuple[int, GuestRam]:
        """QEMU's process id, and the guest's memory in it; not while it is `open`.

        Raises `MonitorError`, `ProcessError`, `UsageError`.
        """
        with connect(os.fspath(self.path), _CONNECT_S) as connection:
            pid = owner_of(connection)
        return pid, guest_ram_blocks(pid, self.path)


async def emulates(session: Session) -> bool:
    """Whether the guest runs under TCG. Raises `QMPError`."""
    return not as_object("query-kvm", await session.execute("query-kvm")).get("enabled")


class QMPMigrator:
    """See `Migrator`."""

    handover_s: float = 0.0

    def __init__(
        self, session: Session, borrowed: Borrowed, facts: Mapping[str, str], *, emulates: bool
    ) -> None:
        self._session, self._borrowed = session, borrowed
        self.facts: Mapping[str, str] = facts
        self._emulates = emulates
        self._events = session.listen(("MIGRATION_PASS", "MIGRATION"))
        self._number = 0
        self.no_throttle: str | None = "it takes --on-nonconvergence throttle"

    @property
    def lowest_limit_ms(self) -> int:
        """Under TCG QEMU 7.2 loses writes, the more the lower its limit (docs/reproduce.md)."""
        return self.was_limit_ms if self._emulates else 0

    @property
    def limit_ms(self) -> int:
        return int(self._borrowed.parameters["downtime-limit"])

    @property
    def was_limit_ms(self) -> int:
        return int(self._borrowed.was("downtime-limit"))

    @property
    def bandwidth_Bps(self) -> float:
        return float(self._borrowed.parameters["max-bandwidth"])

    async def check(
        self, *, starts: bool, traces: bool, on_nonconvergence: OnNonconvergence
    ) -> Figures:
        now = await check_state(self._session, starts=starts)
        check_capabilities(self._borrowed, starts=starts, traces=traces)
        needed = _NEEDS.get(on_nonconvergence)
        if not starts and needed and not self._borrowed.capabilities.get(needed):
            raise UsageError(
                f"the migration was started without the capability {needed}, and QEMU does not "
                f"take it on the way: choose another --on-nonconvergence"
            )
        if not starts and on_nonconvergence == "throttle":
            self.no_throttle = None
        return now

    async def prepare(
        self, *, on_nonconvergence: OnNonconvergence, auto_converges: bool,
        bandwidth_Bps: float | None,
    ) -> None:  # fmt: skip
        await self._borrowed.enable("events")
        if on_nonconvergence == "postcopy":
            await self._borrowed.enable("postcopy-ram")
        if auto_converges:
            await self._borrowed.enable("auto-converge")
        elif on_nonconvergence == "throttle":
            await self._allow_throttling()
        if bandwidth_Bps is not None:
            await self._borrowed.set(max_bandwidth=int(bandwidth_Bps))

    async def _allow_throttling(self) -> None:
        """QEMU has no command for it: its auto-converge, which it begins by itself, is kept at 1 %
        until there is to be more."""
        await self._borrowed.enable("auto-converge")
        await self._borrowed.set(
            cpu_throttle_initial=GENTLEST, max_cpu_throttle=GENTLEST,
            throttle_trigger_threshold=100,
        )  # fmt: skip
        self.no_throttle = None

    async def start(self, uri: str) -> None:
        await self._session.execute("migrate", uri=uri)

    async def figures(self) -> Figures:
        figures = Figures.of(await self._session.execute("query-migrate"))
        if figures.status == "active" and figures.number != self._number:
            self._number = figures.number
            await self.look()
        return figures

    async def next_event(self, timeout_s: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._events.get(), timeout_s)

    async def ram_bytes(self) -> int:
        command = "query-memory-size-summary"
        said = as_object(command, await self._session.execute(command))
        plugged = number(said, "plugged-memory", command, 0)
        return int(number(said, "base-memory", command) + plugged)

    async def look(self) -> None:
        await self._borrowed.look()

    async def set_limit(self, limit_ms: int) -> None:
        await self._borrowed.set(downtime_limit=limit_ms)

    async def throttle(self, percent: int) -> None:
        await self._borrowed.set(
            cpu_throttle_initial=percent, cpu_throttle_increment=STRONGEST,
            max_cpu_throttle=percent, throttle_trigger_threshold=1,
        )  # fmt: skip

    async def start_postcopy(self) -> None:
        if not self._borrowed.capabilities.get("postcopy-ram"):
            raise UsageError(
                "post-copy was not enabled before the migration, as QEMU requires: "
                "--on-nonconvergence postcopy, and the capability postcopy-ram on the destination"
            )
        await self._session.execute("migrate-start-postcopy")

    async def cancel(self) -> None:
        await self._session.execute("migrate_cancel")

    async def put_back(self, *, is_over: bool) -> None:
        await self._borrowed.put_back(with_capabilities=is_over)
