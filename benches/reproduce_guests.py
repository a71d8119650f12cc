"""What the experiment's guests have in common, and the link that they go over."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

from blackout import Blackout

from mempattern.monitor.qmp import QMP

CEILING_S = 1.5
KEPT = Path(__file__).parent.parent / "build/reproduce"
"""What is made once and serves all runs."""
_LONGEST_S = 90.0
"""For what takes longest to come up: Linux under TCG, with its load."""


class Machine:
    """A QEMU with two QMP sockets, one for the controller and one for us."""

    def __init__(self, process: Popen[bytes], folder: Path, name: str) -> None:
        self.process, self.folder, self.name = process, folder, name
        self.qmp, self.look = folder / f"{name}.qmp", folder / f"{name}.look"
        self.serial, self.log = folder / f"{name}.serial", folder / f"{name}.stderr"

    def ask(self, command: str, **arguments: Any) -> Any:
        with QMP(self.look, self.process.pid) as session:
            return session.execute(command, **arguments)

    def wait(self, status: str) -> None:
        """Until QEMU says so. Raises `RuntimeError` as `wait_for` does."""
        self.wait_for(
            lambda: self.look.exists() and self.ask("query-status")["status"] == status, status
        )

    def wait_until_said(self, text: str) -> None:
        """By the guest, on its serial port. Raises `RuntimeError` as `wait_for` does."""
        self.wait_for(
            lambda: self.serial.exists() and text in self.serial.read_text(errors="replace"), text
        )

    def wait_for(self, what: Callable[[], bool], name: str) -> None:
        """Raises `RuntimeError` if QEMU ends before, or it takes too long."""
        deadline = time.monotonic() + _LONGEST_S
        while not what():
            if self.process.poll() is not None or time.monotonic() > deadline:
                over = "ended" if self.process.poll() is not None else self.ask("query-status")
                log = self.log.read_text()[-300:]
                raise RuntimeError(f"the {self.name} never came to {name!r}: {over} {log}")
            time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Checked:
    """Whether a guest's memory is whole, and by what that is known."""

    intact: bool
    by: str


@dataclass(frozen=True)
class Guest(ABC):
    name: str
    what: str
    is_intensive: bool
    """On its link: meant to be, and shown by what stock QEMU makes of it."""
    bandwidth_Bps: int
    patience_s: float
    """A migration that takes longer has failed, whoever steers it."""
    ram_mib: int
    arms: tuple[str, ...]
    """In which it runs; all policies in the first."""

    @abstractmethod
    def options(self, folder: Path, name: str) -> list[str]:
        """QEMU's, for what is not the same for all guests; files of that name are the machine's."""

    @abstractmethod
    def boot(self, folder: Path) -> list[str]:
        """More of them, for its first start."""

    @abstractmethod
    def content(self) -> bytes:
        """What it runs: another content is another guest."""

    @abstractmethod
    def wait_until_busy(self, here: Machine) -> None:
        """After the first start."""

    @abstractmethod
    def watch(self, here: Machine, there: Machine) -> AbstractContextManager[Blackout]: ...

    @abstractmethod
    def check(self, now: Machine, source: Machine) -> Checked:
        """Of the guest where it runs now, which may be the source; it does not run on after it."""
