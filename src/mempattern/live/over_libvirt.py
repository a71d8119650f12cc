"""A migration that libvirt runs: steered by libvirt's own calls, never by its QEMU's monitor."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from mempattern.errors import LibvirtError, ProcessError, UsageError
from mempattern.live.borrowed import steering_alone
from mempattern.live.figures import Figures
from mempattern.live.guarding import Guard
from mempattern.live.libvirtd import Connection, binding_folder
from mempattern.live.migrator import Migrator, OnNonconvergence
from mempattern.qemu.ram import GuestRam, guest_ram_blocks, qemu_of_uuid

# libvirt-domain.h
_ACTIVE = 1  # VIR_CONNECT_LIST_DOMAINS_ACTIVE
_JOBS_UNDER_WAY = (1, 2)  # VIR_DOMAIN_JOB_BOUNDED, _UNBOUNDED
_MIGRATION_OUT = 5  # VIR_DOMAIN_JOB_OPERATION_
_SUSPENDED, _RESUMED, _STOPPED = 3, 4, 5  # VIR_DOMAIN_EVENT_
_STATUS_AFTER = {
    (_SUSPENDED, 1): "device",  # ..._SUSPENDED_MIGRATED: stop-and-copy
    (_SUSPENDED, 7): "postcopy-active",  # ..._SUSPENDED_POSTCOPY
    (_STOPPED, 3): "completed",  # ..._STOPPED_MIGRATED
}
_STATUS_OTHERWISE = {_RESUMED: "active", _STOPPED: "stopped"}
_UNLIMITED_MIB = 1 << 40
_END_S, _LOOK_S = 5.0, 0.05
"""The events about the end come in their own time."""


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain of the libvirt at `uri`, as `virsh --connect` takes it, by its name."""

    name: str
    """The domain's, as `virsh list` shows it; it must run."""
    uri: str | None = None
    """None: what libvirt takes by default."""

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Migrator, None]:
        """Reach who runs the guest, for as long as the context lasts.

        Raises `MonitorError`, `UsageError`.
        """
        connection, domain = await asyncio.to_thread(self._find)
        try:
            pid = await asyncio.to_thread(_pid, connection, domain)
            with steering_alone(pid) as lock:
                migrator = DomainMigrator(connection, domain, lock)
                await migrator.begin()
                try:
                    yield migrator
                finally:
                    migrator.let_go()
        finally:
            await asyncio.to_thread(connection.close)

    def ram(self) -> tuple[int, GuestRam]:
        """QEMU's process id, and the guest's memory in it; not while it is `open`.

        Raises `MonitorError`, `ProcessError`, `UsageError`.
        """
        connection, domain = self._find()
        try:
            if urlsplit(connection.uri).hostname:
                raise UsageError(
                    f"{connection.uri} is another host, whose guests' pages are not seen from "
                    f"here: run it there, or do without tracing (--no-trace)"
                )
            uuid = str(connection.ask("UUIDString", of=domain))
        finally:
            connection.close()
        pid = qemu_of_uuid(uuid)
        return pid, guest_ram_blocks(pid)

    def _find(self) -> tuple[Connection, Any]:
        """Raises `LibvirtError`, and `UsageError` for a domain that does not run."""
        with ExitStack() as stack:
            connection = Connection(self.uri)
            stack.callback(connection.close)
            kind = connection.ask("getType")
            if kind != "QEMU":
                raise UsageError(f"{connection.uri} runs no QEMU but {kind}: nothing to steer")
            running = {one.name(): one for one in connection.ask("listAllDomains", _ACTIVE)}
            if self.name not in running:
                raise self._no_such(connection, sorted(running))
            stack.pop_all()  # it stays open
            return connection, running[self.name]

    def _no_such(self, connection: Connection, running: list[str]) -> LibvirtError | UsageError:
        try:
            connection.ask("lookupByName", self.name)
        except LibvirtError as error:
            names = f"; running are {', '.join(running)}" if running else ""
            return LibvirtError(f"{error}{names}")
        return UsageError(f"the domain {self.name} is shut off: there is nothing to migrate")


def _pid(connection: Connection, domain: Any) -> int:
    """Its QEMU's; 0 if that is not seen from here."""
    with suppress(ProcessError):
        if not urlsplit(connection.uri).hostname:
            return qemu_of_uuid(str(connection.ask("UUIDString", of=domain)))
    return 0


class DomainMigrator:
    """See `Migrator`. What only who starts a migration can do is left to them."""

    handover_s: float = 0.04
    """The guest was seen to stand still for 21 to 61 ms, once for 95 ms, beside the sending of what
    remained, and QEMU's headroom is 25 ms (docs/libvirt.md)."""
    lowest_limit_ms = 0
    no_throttle = "libvirt throttles only what was started with --auto-converge, by itself"

    def __init__(self, connection: Connection, domain: Any, lock: int | None) -> None:
        self._connection, self._domain = connection, domain
        self._guard = Guard(lock)
        self._happened = asyncio.Event()
        self._status = "active"
        self._end: Mapping[str, Any] | None = None
        self._last = Figures("none")
        self._is_cancelled = False
        self.limit_ms: int = 0
        self.was_limit_ms: int = 0
        self.bandwidth_Bps: float = 0.0
        self._ours: list[int] = []
        """The limit in force, if it is from us, and the next one, which may not get there."""

    async def begin(self) -> None:
        """Raises `LibvirtError`."""
        events: dict[str, Callable[..., None]] = {
            "LIFECYCLE": self._changed,
            "MIGRATION_ITERATION": self._passed,
            "JOB_COMPLETED": self._ended,
        }
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._connection.watch, self._domain, events, loop)
        version = await asyncio.to_thread(self._connection.ask, "getLibVersion")
        self.facts: dict[str, str] = {
            "libvirt": f"{version // 10**6}.{version // 1000 % 1000}.{version % 1000}"
        }

    async def check(
        self, *, starts: bool, traces: bool, on_nonconvergence: OnNonconvergence
    ) -> Figures:
        if on_nonconvergence == "throttle":
            raise UsageError(
                "libvirt cannot be told to throttle a guest on the way: start the migration with "
                "virsh migrate --auto-converge, and choose another --on-nonconvergence"
            )
        said = await self._ask("jobStats", 0)
        if said["type"] not in _JOBS_UNDER_WAY or said.get("operation") != _MIGRATION_OUT:
            raise UsageError(
                "no migration of the domain is under way that could be steered: start one with "
                "virsh migrate --live"
            )
        self.limit_ms = self.was_limit_ms = int(await self._ask("migrateGetMaxDowntime", 0))
        speed_mib = int(await self._ask("migrateGetMaxSpeed", 0))
        self.bandwidth_Bps = 0.0 if speed_mib >= _UNLIMITED_MIB else speed_mib * 2.0**20
        return job_figures(said, self._status)

    async def prepare(
        self, *, on_nonconvergence: OnNonconvergence, auto_converges: bool,
        bandwidth_Bps: float | None,
    ) -> None:  # fmt: skip
        raise UsageError("libvirt starts a migration itself (virsh migrate --live)")

    async def start(self, uri: str) -> None:
        raise UsageError("libvirt starts a migration itself (virsh migrate --live)")

    async def figures(self) -> Figures:
        """Raises `LibvirtError` also if the domain was stopped by somebody."""
        said: Mapping[str, Any] = {"type": 0}
        try:
            said = await self._ask("jobStats", 0)
        except LibvirtError:  # a monitor that broke is told of before its domain's end is
            deadline = time.monotonic() + _END_S
            while await self._is_active():
                if time.monotonic() > deadline:
                    raise
                await self.next_event(_LOOK_S)
        if said["type"] in _JOBS_UNDER_WAY:
            self._last = job_figures(said, self._status)
            return self._last
        if await self._is_active():
            status = "cancelled" if self._is_cancelled else "failed"
            return replace(self._last, status=status)
        deadline = time.monotonic() + _END_S
        while self._end is None and self._status != "stopped" and time.monotonic() < deadline:
            await self.next_event(_LOOK_S)
        if self._status != "completed":
            raise LibvirtError("the domain was stopped while it migrated, and not by its arrival")
        if self._end is None:
            return replace(self._last, status="completed")
        return job_figures(self._end, "completed")

    async def next_event(self, timeout_s: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._happened.wait(), timeout_s)
        self._happened.clear()

    async def ram_bytes(self) -> int:
        return int(await self._ask("maxMemory")) * 1024

    async def look(self) -> None:
        self.limit_ms = int(await self._ask("migrateGetMaxDowntime", 0))
        if self.limit_ms not in (self.was_limit_ms, *self._ours):  # it is somebody else's
            self.was_limit_ms, self._ours = self.limit_ms, []

    async def set_limit(self, limit_ms: int) -> None:
        self._ours = [*([self.limit_ms] if self.limit_ms in self._ours else []), limit_ms]
        self._guard.tell({
            "uri": self._connection.uri,
            "domain": self._domain.UUIDString(),
            "limit": [self.was_limit_ms, self._ours],
            "library": binding_folder(),
        })  # fmt: skip
        await self._ask("migrateSetMaxDowntime", limit_ms, 0)
        self.limit_ms = limit_ms

    async def throttle(self, percent: int) -> None:
        raise UsageError(self.no_throttle)

    async def start_postcopy(self) -> None:
        await self._ask("migrateStartPostCopy", 0)

    async def cancel(self) -> None:
        self._is_cancelled = True
        await self._ask("abortJob")

    async def put_back(self, *, is_over: bool) -> None:
        if self._ours and await self._is_active():
            await self.look()
            if self.limit_ms != self.was_limit_ms:
                await self._ask("migrateSetMaxDowntime", self.was_limit_ms, 0)
        self._ours = []
        self._guard.tell({})

    def let_go(self) -> None:
        """The guard does what is left to do, and ends."""
        self._guard.let_go()

    async def _ask(self, function: str, *arguments: Any) -> Any:
        """What the domain's call returns. Raises `LibvirtError`."""
        ask = self._connection.ask
        said = await asyncio.to_thread(ask, function, *arguments, of=self._domain)
        if said is None:  # as libvirt-python has it for migrateGetMaxDowntime
            raise LibvirtError(f"libvirt at {self._connection.uri} gave no answer to {function}")
        return said

    async def _is_active(self) -> bool:
        """Here. Raises `LibvirtError` if libvirt does not answer."""
        active = await asyncio.to_thread(self._connection.ask, "listAllDomains", _ACTIVE)
        uuid = self._domain.UUIDString()
        return any(one.UUIDString() == uuid for one in active)

    # ---- events, in the loop ---------------------------------------------------------------------

    def _changed(self, event: int, detail: int) -> None:
        otherwise = _STATUS_OTHERWISE.get(event, self._status)
        self._status = _STATUS_AFTER.get((event, detail), otherwise)
        self._happened.set()

    def _passed(self, number: int) -> None:
        self._happened.set()

    def _ended(self, stats: Mapping[str, Any]) -> None:
        self._end = stats
        self._happened.set()


def job_figures(said: Mapping[str, Any], status: str) -> Figures:
    """From what `virDomainGetJobStats` returns. Raises `LibvirtError` if that makes no sense.

    The downtime of a migration that has completed is libvirt's own: until the guest runs at the
    destination, with all that libvirt does in between.
    """
    try:
        downtime_s = None if said.get("downtime") is None else int(said["downtime"]) / 1000
        is_over = status == "completed"
        return Figures(
            status=status,
            at_s=int(said.get("time_elapsed", 0)) / 1000,
            number=int(said.get("memory_iteration", 0)),
            sent_bytes=int(said.get("memory_processed", 0)),
            remaining_bytes=int(said.get("memory_remaining", 0)),
            page_bytes=int(said.get("memory_page_size", 4096)),
            bandwidth_Bps=float(said.get("memory_bps", 0)),
            dirty_pages_per_s=int(said.get("memory_dirty_rate", 0)),
            expected_downtime_s=None if is_over else downtime_s,
            downtime_s=downtime_s if is_over else None,
            setup_s=None if said.get("setup_time") is None else int(said["setup_time"]) / 1000,
            throttle=int(said.get("auto_converge_throttle", 0)) / 100,
        )
    except (TypeError, ValueError) as error:
        raise LibvirtError(f"libvirt's job statistics make no sense: {error}") from None
