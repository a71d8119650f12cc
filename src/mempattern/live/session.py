"""A QMP session that lasts as long as a migration, for asyncio."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from mempattern.errors import QMPError
from mempattern.monitor.qmp import connect, hung_up, library, owner_of, silence

_CONNECT_S = 5.0
_ANSWER_S = 2100.0
"""QEMU answers nobody while it sends what remains with the guest stopped, and takes downtime limits
up to 2000 s. Who knows that it must be less waits for less."""
_LEAVE_S = 1.0


class Session:
    """Commands to a QEMU and events from it, through the UNIX socket of its `-qmp`.

    An asynchronous context manager; leaving it hangs up.
    Raises `QMPError` if `qemu.qmp` is missing, nobody listens or speaks QMP there, or QEMU does not
    greet within 5 s: a QMP socket serves one client at a time.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: str = os.fspath(path)
        self.pid: int = 0
        """QEMU's process, as soon as it is connected to."""
        self._qmp = library()
        self._client = self._qmp.QMPClient()

    async def __aenter__(self) -> Self:
        connection = await asyncio.to_thread(connect, self.path, _CONNECT_S)
        try:
            self.pid = owner_of(connection)
            connection.setblocking(False)
            await self._greet(connection)
        except BaseException:
            await self._leave()
            connection.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._leave()

    async def execute(self, command: str, **arguments: object) -> object:
        """What QEMU returns for the command. Raises `QMPError` if it refuses, or is gone."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        try:
            said: object = await asyncio.wait_for(
                self._client.execute(command, named or None), _ANSWER_S
            )
            return said
        except TimeoutError as error:
            raise QMPError(
                f"QEMU did not answer {command} on the QMP socket {self.path} for {_ANSWER_S:g} s"
            ) from error
        except self._qmp.ExecuteError as error:
            raise QMPError(f"the QMP socket {self.path}: {_words(error)}") from error
        except (self._qmp.QMPError, OSError, EOFError, ValueError) as error:
            raise hung_up(self.path) from error

    def listen(self, names: Iterable[str]) -> Any:
        """From now on QEMU's events of these names: `get()` waits for the next one."""
        listener = self._qmp.EventListener(tuple(names))
        self._client.register_listener(listener)
        return listener

    async def _greet(self, connection: socket.socket) -> None:
        try:
            await asyncio.wait_for(self._client.connect(connection), _CONNECT_S)
        except TimeoutError as error:
            raise QMPError(silence(self.path)) from error
        except (self._qmp.QMPError, OSError, EOFError, ValueError) as error:
            raise QMPError(f"the QMP socket {self.path}: {_words(error)}") from error

    async def _leave(self) -> None:
        with suppress(Exception):  # whatever became of the connection: it has been said, or is over
            await asyncio.wait_for(self._client.disconnect(), _LEAVE_S)


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
