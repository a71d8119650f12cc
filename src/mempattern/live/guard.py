"""Puts QEMU's settings back if whoever changed them is killed. A program of its own.

It reads lines of JSON from its standard input, the last of which counts, and waits for that to end,
as it does when the writer ends in whatever way. Then it connects to QEMU and sets what is not as it
was: parameters at once, capabilities once no migration is under way. A domain's downtime limit it
has libvirt set. What somebody else has changed since is left alone. It imports nothing but Python's
own, and libvirt if need be, so that it is there at once and whatever became of the rest.
"""

import contextlib
import json
import os
import socket
import struct
import sys
import time
from importlib import import_module
from typing import Any, TextIO

_TRY_S = 86_400.0
"""QEMU serves one client at a time, answers nobody while the guest is stopped, and does not take
capabilities before a migration is over."""
_TRY_LIBVIRT_S = 3600.0
"""Its daemon may be started anew, which does not take longer."""
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.2, 10.0
_PARAMETERS = "migrate-set-parameters"
_CAPABILITIES = "migrate-set-capabilities"


def main() -> None:
    wanted: dict[str, Any] = {}
    for line in sys.stdin:
        with contextlib.suppress(ValueError):  # the writer died in the middle of the line
            wanted = json.loads(line)
    unlock(wanted)
    try_s = _TRY_LIBVIRT_S if "domain" in wanted else _TRY_S
    deadline, pause_s = time.monotonic() + try_s, _FIRST_PAUSE_S
    while wanted:
        try:
            if "domain" in wanted:
                put_limit_back(wanted)
            else:
                put_back(wanted)
            wanted.clear()
        except (OSError, ValueError):
            if time.monotonic() > deadline:
                return
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, _LAST_PAUSE_S)


def unlock(wanted: dict[str, Any]) -> None:
    """Others may steer QEMU as soon as its parameters are as they were."""
    if not wanted.get("parameters") and "lock" in wanted:
        os.close(wanted.pop("lock"))


def put_back(wanted: dict[str, Any]) -> None:
    """Parameters once they are set are taken out of `wanted`. Raises `OSError` or `ValueError`: try
    again."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        try:
            connection.connect(wanted["socket"])
        except (FileNotFoundError, ConnectionRefusedError):  # QEMU has ended
            return
        if owner_of(connection) != wanted["pid"]:  # and another one has taken its place
            return
        with connection.makefile("rw") as lines:
            json.loads(lines.readline())  # the greeting
            ask(lines, "qmp_capabilities")
            now = ask(lines, "query-migrate-parameters")
            mine = {k: was for k, (was, ours) in wanted["parameters"].items() if now[k] in ours}
            if mine:
                ask(lines, _PARAMETERS, mine)
            wanted["parameters"] = {}
            unlock(wanted)
            if wanted["capabilities"]:
                states = [
                    {"capability": name, "state": was}
                    for name, was in wanted["capabilities"].items()
                ]
                ask(lines, _CAPABILITIES, {"capabilities": states})


def owner_of(connection: socket.socket) -> int:
    """As `mempattern.monitor.qmp` has it, which is not imported here."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("3i", credentials)[0])


def put_limit_back(wanted: dict[str, Any]) -> None:
    """Unless the domain has left. Raises `OSError`: try again."""
    sys.path.append(wanted["library"])
    libvirt = import_module("libvirt")  # of whoever changed it, and only if it was libvirt's
    was, ours = wanted["limit"]
    try:
        connection = libvirt.open(wanted["uri"])
        try:
            for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
                if domain.UUIDString() != wanted["domain"]:
                    continue
                now = domain.migrateGetMaxDowntime(0)
                if now is None:  # libvirt-python raises nothing here
                    raise OSError("libvirt gave no answer")
                if now in ours:
                    domain.migrateSetMaxDowntime(was, 0)
        finally:
            connection.close()
    except libvirt.libvirtError as error:
        raise OSError(str(error)) from error


def ask(lines: TextIO, command: str, arguments: object = None) -> Any:
    """The answer; raises `ValueError` for a refusal, and for the connection's end."""
    json.dump({"execute": command, "arguments": arguments or {}}, lines)
    lines.flush()
    while True:
        said = json.loads(lines.readline())
        if "error" in said:
            raise ValueError(said["error"])
        if "return" in said:
            return said["return"]


if __name__ == "__main__":
    main()
