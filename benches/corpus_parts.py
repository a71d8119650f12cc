"""What the cases of the corpus share: programs that never outlive us, and how one is traced."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mempattern.cli import attach
from mempattern.cli.trace import parse
from mempattern.sources import Source

PATIENCE_S = 300.0
"""For what takes longest to come up: Linux under TCG, with its load."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A source whose target runs and has warmed up, and facts for the trace file."""

    source: Source
    facts: dict[str, str]


@dataclass(frozen=True, slots=True)
class Case:
    """One trace. `packages` are Debian's; `start` is given a folder of its own to work in."""

    name: str
    what: str
    start: Callable[[Path], AbstractContextManager[Opened]]
    packages: tuple[str, ...] = ()
    seed: int | None = None


@contextmanager
def running(
    command: list[str], log: Path, *, user: str | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """The program, what it says in a file; the kernel ends it if we end without doing so."""
    leash = ["setpriv", "--pdeathsig", "KILL"]
    if user is not None:
        leash += ["--reuid", user, "--regid", user, "--clear-groups"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*leash, "--", *command], stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(what: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Until that is so. Raises `RuntimeError`, with the last it said, if the process ends first."""
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        over = "ended" if process.poll() is not None else "is not ready"
        if over == "ended" or time.monotonic() > deadline:
            said = log.read_text(errors="replace").split("\n")
            raise RuntimeError(f"{process.args!r} {over}: {' | '.join(said[-4:])}")
        time.sleep(0.05)


def says(log: Path, text: str) -> Callable[[], bool]:
    return lambda: log.exists() and text in log.read_text(errors="replace")


@contextmanager
def traced(
    pid: int, command: list[str], folder: Path, *options: str, accel: str = "none"
) -> Iterator[Opened]:
    """The process, or the guest in it, as `mempattern-trace` with these options attaches to it."""
    parsed = parse([*options, str(pid)])
    source, target = attach.open_source(pid, parsed, time.sleep)
    with source:
        facts = target.to_meta() | attach.content_of(source)
        yield Opened(source, facts | {"command": said(command, folder), "accel": accel})


def said(command: list[str], folder: Path) -> str:
    """As one would type it in that folder."""
    words = [word.replace(f"{folder}/", "").replace(str(folder), ".") for word in command]
    return shlex.join([Path(words[0]).name, *words[1:]])


def install(packages: tuple[str, ...]) -> dict[str, str]:
    """Have Debian's packages; gives their versions. Raises `RuntimeError` if they are to be had
    by root alone, or not at all."""
    versions = {package: _version(package) for package in packages}
    missing = [package for package, version in versions.items() if not version]
    if missing:
        words = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
        if os.geteuid() or shutil.which("apt-get") is None:
            raise RuntimeError(f"needs packages of Debian: sudo {shlex.join(words)}")
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        run = partial(
            subprocess.run, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            env=environment,
        )  # fmt: skip
        if run(words).returncode:
            run(["apt-get", "update", "-qq"])
            if run(words).returncode:
                raise RuntimeError(f"cannot install {', '.join(missing)}")
    return {package: version or _version(package) for package, version in versions.items()}


def _version(package: str) -> str:
    """Installed, else empty."""
    asked = ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", package]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    status, _, version = answer.partition(" ")
    return version if status == "installed" else ""
