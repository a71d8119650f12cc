"""How many instructions the pieces of work in count.c take, counted by valgrind's callgrind.

python benches/instructions.py benches/results/instructions.json

keeps them; tests/test_instructions.py counts again and holds them against what is kept. Unlike
times, the counts do not depend on what else the machine does: they are the same from run to run.
They depend on the compiler and on the C library (a bitmap is cleared by its memset).
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mempattern import kernels

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "benches/results/instructions.json"
TOLERANCE = 0.03


@dataclass(frozen=True, slots=True)
class Piece:
    instructions: int
    n: int
    """Units of input."""
    unit: str
    each: float
    """Instructions a unit, rounded, for readers."""


def tools() -> dict[str, str | None]:
    """What the counts depend on besides the source; None for what is missing."""
    return {
        "compiler": _compiler(),
        "libc": " ".join(platform.libc_ver()),
        "valgrind": _output(["valgrind", "--version"]),
        "processor": platform.machine() + (", AVX2" if "avx2" in kernels.available() else ""),
    }


def _compiler() -> str | None:
    """As it calls itself: clang has its name in its version, gcc has not."""
    said = _output([os.environ.get("CC", "cc"), "-E", "-P", "-"], "__VERSION__")
    return said and re.sub(r"^(?=\d)", "gcc ", said.strip('"'))


def _output(command: list[str], given: str = "") -> str | None:
    try:
        return subprocess.run(
            command, input=given, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def problem(kept: Path = KEPT) -> str | None:
    """Why counts made here cannot be held against those kept; None if they can."""
    here = tools()
    if here["valgrind"] is None:
        return "valgrind is not in PATH: apt-get install valgrind"
    theirs = json.loads(kept.read_text())["tools"]
    if here == theirs:
        return None
    differ = [
        f"{name} {theirs[name]}, here {here[name]}" for name in here if here[name] != theirs[name]
    ]
    return f"instructions were counted with {'; '.join(differ)}: make instructions counts here"


def count() -> dict[str, Piece]:
    """Build count.c with the core as a release is built, and count."""
    # Another compiler builds elsewhere: what the last one left would not be built anew.
    build = ROOT / "build" / re.sub(r"\W+", "-", f"count {_compiler()}")
    flags = {"CFLAGS", "CPPFLAGS", "LDFLAGS", "MEMPATTERN_KERNEL"}
    env = {name: value for name, value in os.environ.items() if name not in flags}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"  # of meson and ninja
    for command in (
        ["meson", "setup", str(build), str(ROOT), "-Dnative_tests=true"],
        ["meson", "compile", "-C", str(build), "count"],
    ):
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "callgrind.out"
        program = subprocess.run(
            ["valgrind", "--tool=callgrind", "--toggle-collect=counted", "--dump-after=counted",
             "--combine-dumps=yes", f"--callgrind-out-file={out}", str(build / "csrc/tests/count")],
            env=env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if program.returncode:
            raise RuntimeError(f"counting failed:\n{program.stderr}")
        totals = [int(total) for total in re.findall(r"^totals: (\d+)$", out.read_text(), re.M)]
    return pieces(program.stdout.splitlines(), totals)


def pieces(lines: list[str], totals: list[int]) -> dict[str, Piece]:
    """What the program printed, with callgrind's totals: one a piece, and one of the rest."""
    found = {}
    for line, total in zip(lines, totals[:-1], strict=True):
        name, unit, n = line.rsplit(",", 2)
        found[name] = Piece(total, int(n), unit, float(f"{total / int(n):.3g}"))
    return found


def load(path: Path) -> dict[str, Piece]:
    kept = json.loads(path.read_text())["pieces"]
    return {name: Piece(**fields) for name, fields in kept.items()}


def as_json(counted: dict[str, Piece]) -> str:
    whole: dict[str, Any] = {
        "tools": tools(),
        "pieces": {name: asdict(piece) for name, piece in counted.items()},
    }
    return json.dumps(whole, indent=1) + "\n"


def changes(kept: dict[str, Piece], counted: dict[str, Piece]) -> dict[str, float]:
    """Of each piece that is in both: the instructions added, as a part of those kept."""
    return {
        name: counted[name].instructions / kept[name].instructions - 1
        for name in kept
        if name in counted
    }


def worse(kept: dict[str, Piece], counted: dict[str, Piece]) -> list[str]:
    """A sentence for each piece that takes more than it may, and each that is in one only."""
    found = [
        f"{name} takes {change:.1%} more instructions than are kept"
        f" ({counted[name].instructions:,} instead of {kept[name].instructions:,})"
        for name, change in changes(kept, counted).items()
        if change > TOLERANCE
    ]
    found += [f"{name} is kept, but not counted any more" for name in kept if name not in counted]
    found += [f"{name} is counted, but not kept yet" for name in counted if name not in kept]
    return found


def main(path: Path) -> None:
    if tools()["valgrind"] is None:
        raise SystemExit("valgrind is not in PATH: apt-get install valgrind")
    kept = load(path) if path.exists() else {}
    counted = count()
    path.write_text(as_json(counted))
    before = changes(kept, counted)
    for name, piece in counted.items():
        print(
            f"{name:<42} {piece.instructions:>11,} {piece.each:>7.3g} / {piece.unit:<13}"
            + (f"{before[name]:>+7.1%}" if before.get(name) else "")
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
