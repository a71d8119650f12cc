"""Two QEMUs and a slow link between them, for tests, looked into by QMP sockets of their own."""

import os
import socket
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

import numpy as np
from guest_in_qemu import qemu_guest, wait_for

from mempattern.monitor.qmp import QMP
from mempattern.qemu.ram import guest_ram_blocks

_PIECE = 1 << 15
_PROGRAM = 2 << 20
"""Below are the firmware's pages, some of which differ between machines, and the program's own."""


class Link:
    """A UNIX socket that leads to another one at so many bytes/s; one migration goes through it."""

    def __init__(self, here: Path, there: Path, bytes_per_s: float) -> None:
        self._there, self.bytes_per_s = there, bytes_per_s
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(str(here))
        self._door.listen()
        self._cut = threading.Event()
        self._ends: list[socket.socket] = []
        self.uri = f"unix:{here}"
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self) -> None:
        """Nothing more goes through."""
        self._cut.set()
        for end in (self._door, *self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                source, _ = self._door.accept()
                target = socket.socket(socket.AF_UNIX)
                self._ends += [source, target]
                try:
                    target.connect(str(self._there))
                except OSError:
                    source.close()
                    continue
                source.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
                for pair in ((source, target, self.bytes_per_s), (target, source, 1e9)):
                    threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, bytes_per_s: float) -> None:
        due = time.monotonic()
        with suppress(OSError):
            while not self._cut.is_set() and (piece := source.recv(_PIECE)):
                target.sendall(piece)
                due = max(due + len(piece) / bytes_per_s, time.monotonic() - 0.02)
                time.sleep(max(0.0, due - time.monotonic()))
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@dataclass
class Pair:
    source: Popen
    qmp: Path
    target: Popen
    target_qmp: Path
    link: Link
    look: Path
    """Another QMP socket of the source's, while a controller has the first."""
    serial: Path

    def ask(self, command, **arguments):
        with QMP(self.look, self.source.pid) as session:
            return session.execute(command, **arguments)

    def ask_target(self, command, **arguments):
        with QMP(self.target_qmp, self.target.pid) as session:
            return session.execute(command, **arguments)

    def settings(self):
        """Migration parameters and capabilities that are on."""
        on = {one["capability"] for one in self.ask("query-migrate-capabilities") if one["state"]}
        return self.ask("query-migrate-parameters"), on

    def is_running(self):
        """On the source."""
        return self.ask("query-status")["status"] == "running"

    def moved_whole(self):
        """The target has, before it goes on, every byte of the guest program's that the source had
        when it stopped.

        Not to be asked under TCG: QEMU 7.2 then loses a guest's last writes when it is stopped in
        the middle of a pass, also where nobody steers or traces it.
        """
        assert self.ask("query-status")["status"] == "postmigrate"
        deadline = time.monotonic() + 10
        while (status := self.ask_target("query-status")["status"]) == "inmigrate":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert status == "paused", status
        ours, theirs = ram(self.source, self.look), ram(self.target, self.target_qmp)
        return bool(np.array_equal(ours[_PROGRAM:], theirs[_PROGRAM:]))


@contextmanager
def qemu_pair(accel, line, tmp_path, bytes_per_s, *options):
    """The guest runs at the source; the target waits for it, and would not start it by itself."""
    there, door = tmp_path / "there", tmp_path / "door"
    there.mkdir()
    target_qmp, qmp, look = tmp_path / "target.qmp", tmp_path / "qmp", tmp_path / "look"

    def served(path):
        return ("-qmp", f"unix:{path},server=on,wait=off")

    with ExitStack() as stack:
        target, *_ = stack.enter_context(qemu_guest(
            accel, line, there, "-S", "-incoming", f"unix:{door}", *served(target_qmp), *options,
        ))  # fmt: skip
        source, serial, _ = stack.enter_context(qemu_guest(
            accel, line, tmp_path, *served(qmp), *served(look), *options,
        ))  # fmt: skip
        link = Link(tmp_path / "channel", door, bytes_per_s)
        stack.callback(link.cut)
        wait_for(source, serial, "pattern=")
        yield Pair(source, qmp, target, target_qmp, link, look, serial)


def ram(process, qmp):
    """All of the guest's, as bytes."""
    parts = []
    fd = os.open(f"/proc/{process.pid}/mem", os.O_RDONLY)
    try:
        for block in guest_ram_blocks(process.pid, qmp).blocks:
            n_bytes = block.region.n_pages * block.region.page_bytes
            parts.append(np.frombuffer(os.pread(fd, n_bytes, block.host_start), np.uint8))
    finally:
        os.close(fd)
    return np.concatenate(parts)
