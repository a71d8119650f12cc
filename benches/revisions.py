"""Two revisions against each other: the same benches, in turn, several times.

python benches/revisions.py BASE [BENCHES [ROUNDS]]

BASE is any revision that git knows; what it is compared with is the working tree, committed or not.
Each is built and installed by itself below build/compare. The working tree's benches measure both,
so that it is only the library that differs.

Of each bench: the best time of all rounds for either; and new / old by the medians of the runs of a
round, which followed each other, as the median of the rounds, with the lowest and the highest.
Below 1 the working tree is the faster.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parent.parent
COMPARE = ROOT / "build/compare"


@dataclass(frozen=True, slots=True)
class Times:
    """Of one bench in one run, in seconds."""

    best: float
    median: float


Run = dict[str, Times]


def unpack(revision: str, tree: Path) -> None:
    """The revision's files, with this tree's benches in place of its own."""
    shutil.rmtree(tree, ignore_errors=True)
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", revision], check=True, stdout=subprocess.PIPE
    )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(tree, filter="data")
    shutil.rmtree(tree / "benches")
    without = shutil.ignore_patterns("results", "__pycache__")
    shutil.copytree(ROOT / "benches", tree / "benches", ignore=without)


def install(tree: Path, environment: Path) -> None:
    """Into an environment of its own, whose other packages are ours."""
    venv.create(environment, clear=True)
    paths = {"base": str(environment), "platbase": str(environment)}
    site = Path(sysconfig.get_path("purelib", "venv", vars=paths))
    # Our editable install stays out of it: .pth files of a directory added like this are not read.
    (site / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n")
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(environment), "install", "-q",
         "--disable-pip-version-check", "--no-build-isolation", "--no-deps", "--force-reinstall",
         str(tree)],
        check=True,
    )  # fmt: skip


def measure(tree: Path, environment: Path, benches: str) -> Run:
    path = environment / "times.json"
    path.unlink(missing_ok=True)
    commands = os.pathsep.join([str(environment / "bin"), os.environ["PATH"]])
    done = subprocess.run(
        [environment / "bin/python", "-m", "pytest", "benches", "-q", "-k", benches,
         "-p", "no:cacheprovider", f"--benchmark-json={path}"],
        cwd=tree, env=os.environ | {"PATH": commands}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if not path.exists() or not path.stat().st_size:
        raise SystemExit(f"no bench ran in {tree}:\n{done.stdout}{done.stderr}")
    return {
        bench["name"].removeprefix("bench_"): Times(bench["stats"]["min"], bench["stats"]["median"])
        for bench in json.loads(path.read_text())["benchmarks"]
    }


def table(rounds: list[tuple[Run, Run]]) -> list[str]:
    """A line for each bench; rounds: the runs of the old revision and of the new one."""
    lines = [f"{'bench':<44} {'best old':>10} {'best new':>10} {'ratio':>6}  median, low to high"]
    every = [run for both in rounds for run in both]
    for name in dict.fromkeys(name for run in every for name in run):
        pairs = [(old[name], new[name]) for old, new in rounds if name in old and name in new]
        if not pairs:
            lines.append(f"{name:<44} in one of the two only")
            continue
        old_s, new_s = (min(times.best for times in side) for side in zip(*pairs, strict=True))
        ratios = [new.median / old.median for old, new in pairs]
        lines.append(
            f"{name:<44} {1e6 * old_s:>7.4g} us {1e6 * new_s:>7.4g} us {new_s / old_s:>6.3f}"
            f"  {median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}"
        )
    return lines


def main(base: str, benches: str = "", rounds: str = "5") -> None:
    n_rounds = int(rounds) if rounds.isdecimal() else 0
    if n_rounds == 0:
        raise SystemExit(f"ROUNDS must be a whole number from 1 on, not {rounds!r}")
    found = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--verify", "-q", base + "^{commit}"],
        stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if found.returncode:
        raise SystemExit(f"git knows no revision {base!r}: make bench-compare BASE=revision")
    old, new = COMPARE / "old", ROOT
    unpack(found.stdout.strip(), old)
    for tree, environment in ((old, COMPARE / "old-env"), (new, COMPARE / "new-env")):
        print(f"building {environment.name.removesuffix('-env')}", file=sys.stderr)
        install(tree, environment)
    measured = []
    for number in range(n_rounds):
        print(f"round {number + 1} of {n_rounds}", file=sys.stderr)
        measured.append(
            (measure(old, COMPARE / "old-env", benches), measure(new, COMPARE / "new-env", benches))
        )
    print(f"old: {base} ({found.stdout[:10]}); new: the working tree; {n_rounds} rounds")
    print("\n".join(table(measured)))


if __name__ == "__main__":
    main(*sys.argv[1:])
