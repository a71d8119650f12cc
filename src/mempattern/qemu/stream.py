"""QEMU migrates into a socket of ours, and everything is put back afterwards.

What was changed in QEMU must be put back also when this process is killed. So a child of it, the
keeper (`keeper.py`), is told what to put back before anything is changed, and does it once its
standard input ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from mempattern.errors import QMPError
from mempattern.qemu.qmp import QMP

_FILE = "mempattern-stream"
CANCEL = "cancel\n"
_GIVE_UP_S = 30.0
_LOOK_S = 0.02
_UNDER_WAY = ("setup", "active", "device", "pre-switchover", "cancelling", "wait-unplug")

_ON = "return-path"
"""With it QEMU, having sent all, holds the guest until the receiver says that it has everything, or
is gone; without, all is over for the guest here once the last bytes lie in the socket."""
_STAYS = "events"


class OutgoingStream:
    """A migration of the QEMU of process `pid` into `descriptor`, under way once this is made.

    QEMU looks for written pages when less is left to send than it sends in 1 ms: the downtime limit
    is set to that, and every capability but return-path is switched off. `end` puts it all back.
    Raises `QMPError` if QEMU refuses, its guest does not run, or it migrates already.
    """

    def __init__(
        self, qmp: str | os.PathLike[str], pid: int, descriptor: int, bandwidth_Bps: int
    ) -> None:
        with QMP(qmp, pid) as session:
            _refuse(session)
            before, wanted = _settings(session, bandwidth_Bps)
            self._task: dict[str, Any] = {"qmp": os.fspath(qmp), "pid": pid, "before": before}
            self._keeper = _start_keeper(self._task)
            try:
                _apply(session, wanted)
                session.hand_over(_FILE, descriptor)
                session.execute("migrate", uri=f"fd:{_FILE}")
            except BaseException:
                self._keeper.communicate()
                raise

    def cancel(self) -> None:
        """Have QEMU end it. Read on until it does: with its pipe full QEMU may not listen."""
        pipe = self._keeper.stdin
        if pipe is not None and not pipe.closed:
            try:
                pipe.write(CANCEL)
                pipe.flush()
            except OSError:  # the keeper is gone, and the socket's end will do
                pass

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
    return _asked(session, "query-migrate").get("status") in _UNDER_WAY


def _asked(session: QMP, command: str) -> dict[str, Any]:
    said = session.execute(command)
    if not isinstance(said, dict):
        raise QMPError(f"QEMU answered {command} with {type(said).__name__}, not with an object")
    return said


def _settings(session: QMP, bandwidth_Bps: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is to be put back, and what is to be set for now."""
    listed = session.execute("query-migrate-capabilities")
    if not isinstance(listed, list):
        raise QMPError("QEMU answered query-migrate-capabilities with no list")
    now = {item["capability"]: item["state"] for item in listed}
    if _ON not in now:
        raise QMPError(f"this QEMU lacks the migration capability {_ON}; take 7.2 or later")
    wanted = {name: name == _ON for name, state in now.items() if name != _STAYS and state} | {
        _ON: True
    }
    parameters: dict[str, Any] = {"downtime-limit": 1, "max-bandwidth": bandwidth_Bps}
    has = _asked(session, "query-migrate-parameters")
    if has.get("tls-creds"):
        parameters["tls-creds"] = ""
    return (
        {
            "capabilities": {name: now[name] for name in wanted},
            "parameters": {name: has[name] for name in parameters},
        },
        {"capabilities": wanted, "parameters": parameters},
    )


def _apply(session: QMP, settings: dict[str, Any]) -> None:
    """Set these `parameters` and `capabilities`, each by its name."""
    capabilities = [{"capability": k, "state": v} for k, v in settings["capabilities"].items()]
    session.execute("migrate-set-parameters", **settings["parameters"])
    session.execute("migrate-set-capabilities", capabilities=capabilities)


def put_back(qmp: str, pid: int, before: dict[str, Any], is_to_cancel: bool = False) -> str:
    """Once the migration is over. Returns what went wrong, as a sentence, or nothing.

    A QMP socket serves one client at a time: who comes in between has half a minute to leave.
    """
    deadline = time.monotonic() + _GIVE_UP_S
    while True:
        try:
            with QMP(qmp, pid, timeout_s=_GIVE_UP_S) as session:
                if is_to_cancel:
                    session.execute("migrate_cancel")
                while _migrates(session):
                    time.sleep(_LOOK_S)
                _apply(session, before)
                return ""
        except QMPError as error:
            if _is_gone(pid):
                return ""
            if time.monotonic() > deadline:
                return f"{error}. They were {json.dumps(before)}"
        time.sleep(_LOOK_S)


def _is_gone(pid: int) -> bool:
    try:
        return not Path(f"/proc/{pid}/maps").read_bytes()  # a zombie
    except (FileNotFoundError, ProcessLookupError):
        return True
    except OSError:
        return False


def _start_keeper(task: dict[str, Any]) -> subprocess.Popen[str]:
    keeper = subprocess.Popen(
        [sys.executable, "-m", "mempattern.qemu.keeper"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a Ctrl-C at the terminal is not for it
    )
    assert keeper.stdin is not None
    keeper.stdin.write(json.dumps(task) + "\n")
    keeper.stdin.flush()
    return keeper
