"""QEMU's settings, borrowed for one migration and put back after it, whatever happens."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mempattern.errors import QMPError, UsageError
from mempattern.live.guarding import Guard
from mempattern.live.session import Session
from mempattern.monitor.replies import capabilities_of, parameters_of


@contextmanager
def steering_alone(pid: int) -> Generator[int | None, None, None]:
    """Lock QEMU's directory in /proc, or another's settings would be taken for QEMU's own. None
    where it is not seen. A guard that is given the descriptor goes on holding the lock.

    Raises `UsageError` if somebody else holds it.
    """
    try:
        lock = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # in another container, or hidden
        lock = None
    if lock is None:
        yield None
        return
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"another mempattern steers the migration of this QEMU (process {pid}), or was "
                f"killed and its settings are just being put back: end it, or try again in a moment"
            ) from None
        yield lock
    finally:
        os.close(lock)


class Borrowed:
    """Migration parameters and capabilities, with what they were before.

    From the first change on a process of its own (`guard`) waits for ours to end. Unless all was
    put back by then, it does so, also after a SIGKILL.
    """

    def __init__(
        self, session: Session, now: dict[str, Any], capabilities: dict[str, bool],
        lock: int | None,
    ) -> None:  # fmt: skip
        self._session, self._lock = session, lock
        self.parameters: dict[str, Any] = now
        """As they are now."""
        self.capabilities: dict[str, bool] = capabilities
        self._were: dict[str, Any] = {}
        self._ours: dict[str, list[Any]] = {}
        """The value that each has from us, if it has, and the next one, which may not get there."""
        self._capabilities_were: dict[str, bool] = {}
        self._guard = Guard(lock)

    @classmethod
    async def of(cls, session: Session, lock: int | None) -> Borrowed:
        """Those of that QEMU, which is locked. Raises `QMPError`."""
        parameters = parameters_of(await session.execute("query-migrate-parameters"))
        capabilities = capabilities_of(await session.execute("query-migrate-capabilities"))
        return cls(session, parameters, capabilities, lock)

    def was(self, name: str) -> Any:
        """What is put back: the parameter as it was, or as somebody else has set it since."""
        return self._were.get(name, self.parameters[name])

    async def look(self) -> None:
        """At the parameters as they are now. Raises `QMPError`."""
        said = parameters_of(await self._session.execute("query-migrate-parameters"))
        gone = [name for name in self._were if name not in said]
        if gone:
            raise QMPError(f"QEMU tells its migration parameter {gone[0]} no longer")
        self.parameters = said
        for name, was in self._were.items():
            now = self.parameters[name]
            if now != was and now not in self._ours[name]:  # it is somebody else's
                self._were[name], self._ours[name] = now, []

    async def set(self, **parameters: int) -> None:
        """Change parameters. Raises `QMPError`."""
        await self.look()
        new = {name.replace("_", "-"): value for name, value in parameters.items()}
        new = {name: value for name, value in new.items() if self.parameters.get(name) != value}
        if not new:
            return
        unknown = [name for name in new if name not in self.parameters]
        if unknown:
            raise QMPError(f"this QEMU has no migration parameter {', '.join(unknown)}")
        for name, value in new.items():
            self._were.setdefault(name, self.parameters[name])
            now = self.parameters[name]
            self._ours[name] = [*([now] if now in self._ours.get(name, []) else []), value]
        self._tell_guard()
        await self._session.execute("migrate-set-parameters", **new)
        self.parameters |= new

    async def enable(self, *names: str) -> None:
        """Switch capabilities on, which QEMU allows only before a migration. Raises `QMPError`."""
        off = [name for name in names if not self.capabilities.get(name)]
        if not off:
            return
        self._capabilities_were |= dict.fromkeys(off, False)
        self._tell_guard()
        await self._set_capabilities(dict.fromkeys(off, True))

    async def put_back(self, *, with_capabilities: bool) -> None:
        """As it was, but for what somebody else has changed since. Raises `QMPError`.

        Capabilities only once no migration is under way, or QEMU refuses. They are the guard's
        otherwise.
        """
        if self._were:
            await self.look()
            ours = {name: was for name, was in self._were.items() if self.parameters[name] != was}
            if ours:
                await self._session.execute("migrate-set-parameters", **ours)
            self.parameters |= ours
            self._were, self._ours = {}, {}
        if with_capabilities and self._capabilities_were:
            await self._set_capabilities(self._capabilities_were)
            self._capabilities_were = {}
        self._tell_guard()

    def let_go(self) -> None:
        """The guard does what is left to do, and ends."""
        self._guard.let_go()

    async def _set_capabilities(self, states: dict[str, bool]) -> None:
        listed = [{"capability": name, "state": state} for name, state in states.items()]
        await self._session.execute("migrate-set-capabilities", capabilities=listed)
        self.capabilities |= states

    def _tell_guard(self) -> None:
        if not self._were and not self._capabilities_were:
            self._guard.tell({})
            return
        self._guard.tell({
            "socket": str(Path(self._session.path).absolute()),
            "pid": self._session.pid,
            "parameters": {name: [was, self._ours[name]] for name, was in self._were.items()},
            "capabilities": self._capabilities_were,
            **({} if self._lock is None else {"lock": self._lock}),
        })  # fmt: skip
