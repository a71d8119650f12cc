"""QEMU migrates into a socket of ours, and everything is put back afterwards.

What was changed in QEMU must be put back also when this process is killed. So a child of it, the
keeper (`keeper.py`), is told what to put back before anything is changed, and does it once its
standard input ends.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mempattern._survivor import start_survivor
from mempattern.errors import QMPError
from mempattern.monitor.qmp import QMP
from mempattern.monitor.replies import as_object, capabilities_of, parameters_of

_FILE = "mempattern-stream"
READY, CANCEL = "ready\n", "cancel\n"
_GIVE_UP_S = 30.0
_GIVE_UP_UNHEARD_S = 86_400.0
"""As of the guard of a controlled migration (`live/guard.py`)."""
_LOOK_S, _LOOK_UNHEARD_S = 0.02, 5.0
_STAY_UNHEARD_S = 1.0
_OVER = (None, "none", "completed", "failed", "cancelled")

_ON = "return-path"
"""With it QEMU, having sent all, holds the guest until the receiver says that it has everything, or
is gone; without, all is over for the guest here once the last bytes lie in the socket."""
_STAYS = "events"
_LIMIT = "downtime-limit"
_LIMIT_MS = 1
_PLAIN = {
    "tls-creds": "",
    "avail-switchover-bandwidth": 0,  # QEMU 8.2: what the downtime limit is multiplied by, if any
    "mode": "normal",  # 8.2: cpr-reboot stops the guest first
    "zero-page-detection": "legacy",  # 9.0: with none, zero pages are sent as others
}
"""Parameters that would make it another stream, or other passes, where a QEMU has them."""


class OutgoingStream:
    """A migration of the QEMU of process `pid` into the socket `into`, under way once this is made.

    QEMU looks for written pages when less is left to send than it sends in 1 ms: the downtime limit
    is set to that, and every capability but return-path is switched off. `end` puts it all back.
    Raises `QMPError` if QEMU refuses, its guest does not run, it migrates already, or another of
    these is not at its end.
    """

    def __init__(
        self, qmp: str | os.PathLike[str], pid: int, into: socket.socket, bandwidth_Bps: int
    ) -> None:
        self._keeper = _start_keeper()
        try:
            with QMP(qmp, pid) as session:
                _refuse(session)
                before, wanted = _settings(session, bandwidth_Bps)
                self._task: dict[str, Any] = {"qmp": os.fspath(qmp), "pid": pid, "before": before}
                if not self._tell(json.dumps(self._task) + "\n"):
                    raise QMPError("the process that would put QEMU's settings back was killed")
                # The limit is set first and put back last: it tells who comes that all is borrowed.
                session.execute("migrate-set-parameters", **wanted["parameters"])
                _set_capabilities(session, wanted["capabilities"])
                session.hand_over(_FILE, into.fileno())
                session.execute("migrate", uri=f"fd:{_FILE}")
        except BaseException:
            into.shutdown(socket.SHUT_RDWR)  # it may be under way, its answer be late
            self._keeper.communicate()
            raise

    def cancel(self) -> bool:
        """Have QEMU end it, if the keeper lives. Read on until it does: with its pipe full QEMU may
        not listen."""
        return self._tell(CANCEL)

    def _tell(self, line: str) -> bool:
        assert self._keeper.stdin is not None
        try:
            self._keeper.stdin.write(line)
            self._keeper.stdin.flush()
        except OSError:  # it was killed
            return False
        return True

    def end(self) -> None:
        """Once the socket is closed: wait until the guest runs and everything is put back.

        Raises `QMPError` if that cannot be.
        """
        said, _ = self._keeper.communicate()
        if self._keeper.returncode:
            problem = said.strip() or put_back(**self._task)  # it was killed
            if problem:
                raise QMPError(f"QEMU's migration settings are not as they were: {problem}")


def _refuse(session: QMP) -> None:
    status = _asked(session, "query-status").get("status")
    if status != "running":
        raise QMPError(
            f"the guest is {status}, and a migration would leave it in another state: start it"
        )
    if _migrates(session):
        raise QMPError("QEMU migrates already: wait for the end of that")


def _migrates(session: QMP) -> bool:
    return _asked(session, "query-migrate").get("status") not in _OVER


def _asked(session: QMP, command: str) -> dict[str, object]:
    return as_object(command, session.execute(command))


def _settings(session: QMP, bandwidth_Bps: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is to be put back, and what is to be set for now."""
    now = capabilities_of(session.execute("query-migrate-capabilities"))
    if _ON not in now:
        raise QMPError(f"this QEMU lacks the migration capability {_ON}; take 7.2 or later")
    wanted = {name: name == _ON for name, state in now.items() if name != _STAYS and state} | {
        _ON: True
    }
    has = parameters_of(session.execute("query-migrate-parameters"))
    if has.get(_LIMIT) == _LIMIT_MS:
        raise QMPError(
            "QEMU has the settings of a MigrationStream that is not closed, or was killed with all "
            "its processes: close it, or set the downtime limit (and max-bandwidth and the "
            "capabilities) as they should be"
        )
    parameters = {name: plain for name, plain in _PLAIN.items() if has.get(name, plain) != plain}
    parameters |= {_LIMIT: _LIMIT_MS, "max-bandwidth": bandwidth_Bps}
    return (
        {
            "capabilities": {name: now[name] for name in wanted},
            "parameters": {name: has[name] for name in parameters},
        },
        {"capabilities": wanted, "parameters": parameters},
    )


def _set_capabilities(session: QMP, capabilities: dict[str, bool]) -> None:
    listed = [{"capability": name, "state": state} for name, state in capabilities.items()]
    session.execute("migrate-set-capabilities", capabilities=listed)


def put_back(
    qmp: str, pid: int, before: dict[str, Any], is_to_cancel: bool = False,
    is_heard: Callable[[], bool] = lambda: True,
) -> str:  # fmt: skip
    """Once the migration is over. Returns what went wrong, as a sentence, or nothing.

    A QMP socket serves one client at a time: who comes in between has half a minute to leave, and
    a day if nobody hears what went wrong.
    """
    began, look_s, stay_s = time.monotonic(), _LOOK_S, _GIVE_UP_S
    while True:
        try:
            with QMP(qmp, pid, timeout_s=stay_s) as session:
                if is_to_cancel:
                    session.execute("migrate_cancel")
                    is_to_cancel = False  # what may come next is somebody else's
                while _migrates(session):
                    time.sleep(_LOOK_S)
                _set_capabilities(session, before["capabilities"])
                session.execute("migrate-set-parameters", **before["parameters"])
                return ""
        except QMPError as error:
            if _is_gone(pid):
                return ""
            took_s = time.monotonic() - began
            if took_s > (_GIVE_UP_S if is_heard() else _GIVE_UP_UNHEARD_S):
                return f"{error}. They were {json.dumps(before)}"
            if took_s > _GIVE_UP_S:  # from now on others have the socket most of the time
                look_s, stay_s = _LOOK_UNHEARD_S, _STAY_UNHEARD_S
        time.sleep(look_s)


def _is_gone(pid: int) -> bool:
    try:
        return not Path(f"/proc/{pid}/maps").read_bytes()  # a zombie
    except (FileNotFoundError, ProcessLookupError):
        return True
    except OSError:
        return False


def _start_keeper() -> subprocess.Popen[str]:
    """Raises `QMPError` if it does not come up."""
    keeper = start_survivor(["-m", "mempattern.monitor.keeper"], stdout=subprocess.PIPE)
    assert keeper.stdout is not None
    if keeper.stdout.readline() != READY:
        keeper.communicate()
        raise QMPError("the process that would put QEMU's settings back could not be started")
    return keeper
