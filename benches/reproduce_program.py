"""The guests that run the library's guest program: small, exact, and known to the last page."""

from __future__ import annotations

import os
import subprocess
import sys
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

sys.path.append(str(Path(__file__).parent.parent / "csrc/guest"))
import model  # type: ignore[import-not-found]

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

    def check(self, here: Machine) -> Checked:
        here.ask("stop")
        n_pages = next(int(word[6:]) for word in self.command_line.split() if word[:6] == "pages=")
        with Memory(here) as memory:
            counts = memory.page_counts(n_pages)
        n_writes = int(counts.sum(dtype=np.int64))
        expected = np.bincount(written(self.command_line)[:n_writes], minlength=n_pages)
        whole = n_writes <= _MODEL_STEPS and bool(np.array_equal(counts, expected))
        return Checked(whole, f"the model's count of writes for each of {n_pages} pages")


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

    def page_counts(self, n_pages: int) -> NDArray[np.uint32]:
        """How often each was written, as it says itself; of shape (n_pages,)."""
        said = os.pread(self._fd, n_pages * _PAGE, self._start + _PAGES_START)
        return np.frombuffer(said, np.uint32).reshape(n_pages, -1)[:, 0]


@cache
def written(command_line: str) -> NDArray[np.int64]:
    """The page of each write, in their order, as the program's model has it."""
    steps = islice(model.pages(command_line, _MODEL_STEPS), _MODEL_STEPS)
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
