"""Who runs a migration, as its controller needs it: QEMU over QMP, or libvirt."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

from mempattern.live.figures import Figures
from mempattern.qemu.ram import GuestRam

OnNonconvergence = Literal["continue", "postcopy", "throttle", "cancel"]


class Migrator(Protocol):
    """Tells of a migration and takes orders. All raise `MonitorError` where it does not answer."""

    @property
    def facts(self) -> Mapping[str, str]:
        """Which version of what it is, for the trace."""
        ...

    @property
    def limit_ms(self) -> int:
        """The downtime limit in force; known from `check` on, as are those below."""
        ...

    @property
    def was_limit_ms(self) -> int:
        """The downtime limit that is put back: the first, or what somebody else has set since."""
        ...

    @property
    def handover_s(self) -> float:
        """For which the guest stands still beside what QEMU reckons with."""
        ...

    @property
    def bandwidth_Bps(self) -> float:
        """What a migration may send; 0: no limit."""
        ...

    @property
    def lowest_limit_ms(self) -> int:
        """Below which no limit is set; 0: any."""
        ...

    @property
    def no_throttle(self) -> str | None:
        """Why the guest cannot be throttled; None if it can."""
        ...

    async def check(
        self, *, starts: bool, traces: bool, on_nonconvergence: OnNonconvergence
    ) -> Figures:
        """Raises `UsageError`, before anything is changed, for what cannot be started or, if it was
        to be under way, steered."""
        ...

    async def prepare(
        self, *, on_nonconvergence: OnNonconvergence, auto_converges: bool,
        bandwidth_Bps: float | None,
    ) -> None:  # fmt: skip
        """Set what is taken only before a migration."""

    async def start(self, uri: str) -> None:
        """Begin."""

    async def figures(self) -> Figures:
        """Where it stands."""
        ...

    async def next_event(self, timeout_s: float) -> None:
        """Wait for the next sync, or a change of the status; for so long at most."""

    async def ram_bytes(self) -> int:
        """Of the guest."""
        ...

    async def look(self) -> None:
        """At the downtime limit, which somebody else may have changed."""

    async def set_limit(self, limit_ms: int) -> None:
        """Change the downtime limit."""

    async def throttle(self, percent: int) -> None:
        """Take so much of its time from the guest."""

    async def start_postcopy(self) -> None:
        """Raises `UsageError` for a migration that was not started so that it can."""

    async def cancel(self) -> None:
        """End it; the guest goes on where it is."""

    async def put_back(self, *, is_over: bool) -> None:
        """What was changed, as far as it can be yet; a guard does the rest."""


class Guest(Protocol):
    """A guest, and how to reach who runs it."""

    def open(self) -> AbstractAsyncContextManager[Migrator]:
        """For as long as the context lasts. Raises `MonitorError`."""
        ...

    def ram(self) -> tuple[int, GuestRam]:
        """QEMU's process, and the guest's memory in it; not while it is open.

        Raises `MonitorError`, `ProcessError`, `UsageError`.
        """
        ...
