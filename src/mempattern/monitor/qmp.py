"""A short conversation with a running QEMU over its QMP socket: ask, read, leave."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Coroutine
from types import ModuleType
from typing import Any, TypeVar

from mempattern._checks import positive_seconds
from mempattern._closing import Closing
from mempattern.errors import ClosedError, EndedError, QMPError

_T = TypeVar("_T")
_LEAVE_S = 1.0


class QMP(Closing):
    """A session with the QEMU of process `pid`, through the UNIX socket of its `-qmp`.

    It has `timeout_s` seconds for all it does, from connecting to the last answer. A context
    manager; not for use inside a running asyncio loop.
    Raises `QMPError` if the `qemu.qmp` package is missing, the socket is not this process's, or
    QEMU does not answer in time: a QMP socket serves one client at a time.
    """

    def __init__(self, path: str | os.PathLike[str], pid: int, timeout_s: float = 5.0) -> None:
        self._path = os.fspath(path)
        self._deadline = time.monotonic() + positive_seconds("timeout_s", timeout_s)
        self._qmp = library()
        connection = connect(self._path, timeout_s)
        try:
            self._check_owner(connection, pid)
            connection.setblocking(False)
            self._runner = _asyncio().Runner()
        except BaseException:
            connection.close()
            raise
        self._closed = False
        self._client = self._qmp.QMPClient()
        try:
            self._run(self._client.connect(connection))
        except BaseException:
            self.close()
            connection.close()
            raise

    def execute(self, command: str, **arguments: object) -> object:
        """What QEMU returns for the command. Raises `QMPError` if it refuses."""
        return self._run(self._client.execute(command, arguments or None))

    def hand_over(self, name: str, descriptor: int) -> None:
        """Give QEMU a duplicate of a file descriptor, under a name (`getfd`)."""
        self._run(self._hand_over(name, descriptor))

    async def _hand_over(self, name: str, descriptor: int) -> None:
        self._client.send_fd_scm(descriptor)
        await self._client.execute("getfd", {"fdname": name})

    def monitor(self, line: str) -> str:
        """What the human monitor prints for a line typed at it."""
        said = self.execute("human-monitor-command", **{"command-line": line})
        if not isinstance(said, str):
            raise QMPError(f"QEMU answered {line!r} with {type(said).__name__}, not with text")
        return said

    def close(self) -> None:
        """Hang up. May be called twice."""
        if self._closed:
            return
        self._closed = True
        try:
            self._runner.run(_asyncio().wait_for(self._client.disconnect(), _LEAVE_S))
        except Exception:  # whatever became of the connection: it has been said, or is over
            pass
        finally:
            self._runner.close()

    def _check_owner(self, connection: socket.socket, pid: int) -> None:
        owner = owner_of(connection)
        if owner != pid:
            raise QMPError(
                f"the QMP socket {self._path} belongs to process {owner}, not to process {pid}"
            )

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        if self._closed:
            work.close()
            raise ClosedError("this QMP session is closed; open another")
        remaining = self._deadline - time.monotonic()
        try:
            done: _T = self._runner.run(_asyncio().wait_for(work, max(remaining, 0)))
            return done
        except TimeoutError as error:
            raise QMPError(silence(self._path)) from error
        except (self._qmp.QMPError, OSError, EOFError, ValueError) as error:
            said = " ".join(str(error).split()) or type(error).__name__
            raise QMPError(f"the QMP socket {self._path}: {said}") from error


def _asyncio() -> ModuleType:
    """Imported on use, for it takes as long as all of mempattern."""
    import asyncio  # noqa: PLC0415

    return asyncio


def connect(path: str, timeout_s: float) -> socket.socket:
    """To the UNIX socket of a QEMU's `-qmp`. Raises `QMPError`."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(timeout_s)
        connection.connect(path)
    except (BlockingIOError, TimeoutError) as error:  # the queue of waiting clients is full
        connection.close()
        raise QMPError(silence(path)) from error
    except (OSError, ValueError) as error:
        connection.close()
        raise QMPError(
            f"the QMP socket {path}: {getattr(error, 'strerror', None) or error}. "
            f"QEMU opens one with -qmp unix:PATH,server=on,wait=off"
        ) from error
    return connection


def owner_of(connection: socket.socket) -> int:
    """The process that called listen(2) last, as the kernel knows it (unix(7), SO_PEERCRED)."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("3i", credentials)[0])


def silence(path: str) -> str:
    """The sentence for no answer."""
    return (
        f"QEMU does not answer on the QMP socket {path}: it serves one client at a time "
        f"(libvirt, another tool?), or it is busy or stopped. Give QEMU a second -qmp socket"
    )


def hung_up(path: str) -> QMPError:
    """The error for a connection that was lost."""
    with socket.socket(socket.AF_UNIX) as again:
        again.setblocking(False)
        try:
            again.connect(path)
        except ConnectionRefusedError:
            return EndedError(f"QEMU has ended: nobody serves the QMP socket {path} any more")
        except OSError:  # others wait to be served, or its name is gone
            pass
    return QMPError(f"QEMU hung up on the QMP socket {path}")


def library() -> ModuleType:
    """`qemu.qmp`, imported on use. Raises `QMPError` if it is not installed."""
    try:
        import qemu.qmp  # noqa: PLC0415 - an extra, imported on use
    except ImportError as error:
        raise QMPError(
            "talking to QEMU needs the package qemu.qmp: pip install 'mempattern[qemu]'"
        ) from error
    # Its log is for who asks for it; what goes wrong is raised here.
    import logging  # noqa: PLC0415 - for this alone

    logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())
    return qemu.qmp
