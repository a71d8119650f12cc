"""The guests that run the library's guest program: small, exact, and known to the last page."""

from __future__ import annotations

import os
import runpy
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
from blackout import Blackout
from numpy.typing import NDArray
from reproduce_guests import Checked, Guest, Machine

from mempattern.microvm import guest_path
from mempattern.qemu.ram import guest_ram_blocks

_MODEL = Path(__file__).parent.parent / "csrc/guest/model.py"
LINK_BPS = 25_000_000
"""6091 pages a second, with QEMU's header of 8 bytes."""
SLOW_LINK_BPS = 17_000_000
ARMS = ("log", "ring", "tcg")
PATIENCE_S = 20.0
"""About five times what MP takes."""
_PAGES_START, _PAGE = 16 << 20, 4096
_FILL_START, _FILL_BYTES = 104 << 20, 20 << 20
"""Behind the pages that the program works on: memory that is not zero, and that nobody writes."""
_MODEL_STEPS = 1 << 20


@dataclass(frozen=True)
class ProgramGuest(Guest):
    command_line: str = ""

    def options(self, folder: Path, name: str) -> list[str]:
        return ["-serial", f"file:{folder / name}.serial",
                "-kernel", str(guest_path()), "-append", self.command_line]  # fmt: skip

    def boot(self, folder: Path) -> list[str]:
        fill = folder / "fill"
        fill.write_bytes(os.urandom(1 << 20) * (_FILL_BYTES >> 20))
        return ["-device", f"loader,file={fill},addr={_FILL_START},force-raw=on"]

    def content(self) -> bytes:
        return guest_path().read_bytes() + self.command_line.encode()

    def wait_until_busy(self, here: Machine) -> None:
        here.wait_until_said("pattern=")

    @contextmanager
    def watch(self, here: Machine, there: Machine) -> Iterator[Blackout]:
        with (
            Memory(here) as near,
            Memory(there) as far,
            Blackout(near.steps, far.steps) as blackout,
        ):
            yield blackout

    def check(self, now: Machine, source: Machine) -> Checked:
        now.ask("stop")
        n_pages = next(int(word[6:]) for word in self.command_line.split() if word[:6] == "pages=")
        with Memory(now) as here, Memory(source) as there:
            wrong = _wrong(here, there, n_pages, written(self.command_line))
        return Checked(not wrong, wrong or _CHECKED)


_CHECKED = "its model: each page's count of writes, and those since it left; all else as it was"


def _wrong(here: Memory, source: Memory, n_pages: int, pages: NDArray[np.int64]) -> str:
    """What is wrong with the memory here, where the program has run on since it left the source;
    "" if nothing is. `pages` are those that it writes, in their order."""
    words = here.words(_PAGES_START, n_pages * _PAGE).reshape(n_pages, -1)
    n_writes, n_before = int(words[:, 0].sum(dtype=np.int64)), source.steps()
    if n_writes > len(pages) and len(pages):
        return "more pages were written than the model goes"
    if not np.array_equal(words[:, 0], np.bincount(pages[:n_writes], minlength=n_pages)):
        return f"page counts are not those of {n_writes} writes"
    if len(pages) and n_writes < n_before:
        return f"there are {n_writes} page writes, and the source did {n_before}"
    if words[:, 1:].any():
        return "pages hold what was never written there"
    filled, was = (each.words(_FILL_START, _FILL_BYTES) for each in (here, source))
    if not np.array_equal(filled, was):
        return "memory that nobody writes has changed"
    return ""


class Memory:
    """A machine's RAM, read from outside."""

    def __init__(self, machine: Machine) -> None:
        (block, *_) = guest_ram_blocks(machine.process.pid, machine.look).blocks
        self._start = block.host_start
        self._fd = os.open(f"/proc/{machine.process.pid}/mem", os.O_RDONLY)
        self._steps_at = self._start + _symbol("vcpus")  # its first word, `control.done`

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def steps(self) -> int:
        """That the program has done."""
        try:
            return int.from_bytes(os.pread(self._fd, 4, self._steps_at), "little")
        except OSError:  # its process is at its end
            return 0

    def words(self, start: int, n_bytes: int) -> NDArray[np.uint32]:
        """What is at a guest-physical address; of shape (n_bytes / 4,)."""
        return np.frombuffer(os.pread(self._fd, n_bytes, self._start + start), np.uint32)


@cache
def written(command_line: str) -> NDArray[np.int64]:
    """The page of each write, in their order, as the program's model has it."""
    pages = runpy.run_path(str(_MODEL))["pages"]
    steps = islice(pages(command_line, _MODEL_STEPS), _MODEL_STEPS)
    return np.fromiter((page for page in steps if page is not None), np.int64)


@cache
def _symbol(name: str) -> int:
    listed = subprocess.check_output(["nm", str(guest_path())], text=True)
    return next(int(line.split()[0], 16) for line in listed.splitlines() if line.endswith(name))


def _guest(
    name: str, what: str, is_intensive: bool, command_line: str, link_Bps: int = LINK_BPS
) -> ProgramGuest:
    return ProgramGuest(name, what, is_intensive, link_Bps, PATIENCE_S, 128, ARMS, command_line)


PROGRAM_GUESTS = (
    _guest("sweep", "one page after the other, of 6000", True,
           "pattern=sweep pages=6000 rate=9000 seed=1"),
    _guest("uniform", "random pages of 7000", True,
           "pattern=uniform pages=7000 rate=10000 seed=2"),
    _guest("zipf", "pages by a power law, of 20 000", True,
           "pattern=zipf pages=20000 rate=12000 seed=3", SLOW_LINK_BPS),
    _guest("phased", "1.5 s all over 8000 pages, 1.5 s in a hot set of 4500", True,
           "pattern=phased pages=8000 hot=4500 rate=10000 a=uniform b=hotset phase=15000 seed=4"),
    _guest("hot-sweep", "a hot set of 2500 pages and a sweep over 7000, in turns of 0.2 s", True,
           "pattern=phased pages=7000 hot=2500 rate=10000 a=hotset b=sweep phase=2000 seed=5"),
    _guest("grow", "laps over a working set that grows from 3000 pages to 12 000", True,
           "pattern=grow pages=12000 hot=3000 stride=180 rate=10000 seed=6"),
    _guest("idle", "writes nothing", False, "pattern=idle pages=1024 rate=1000 seed=7"),
    _guest("light-sweep", "one page after the other, of 4000, slowly", False,
           "pattern=sweep pages=4000 rate=1200 seed=8"),
    _guest("light-zipf", "pages by a power law, of 20 000, slowly", False,
           "pattern=zipf pages=20000 rate=2000 seed=9"),
    _guest("small-hot", "1000 pages, faster than the link", False,
           "pattern=uniform pages=1000 rate=10000 seed=10"),
)  # fmt: skip
