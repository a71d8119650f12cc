"""MP and its rivals on real QEMUs: every guest under every policy, again and again.

python benches/reproduce.py RESULTS.jsonl [short | ROUNDS]

Each line of the results is one migration. A round has each of them once, in an order of its own:
first every policy where the guest is at home, then some of them in the other arms. What is in the
file already is not done again, so that it can be interrupted at any time. Needs
root, /dev/kvm, qemu-system-x86_64, `ip` and `tc` of iproute2, and what `reproduce_linux.py` puts
into its guests.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from reproduce_guests import Guest
from reproduce_linux import LINUX_GUESTS
from reproduce_program import PROGRAM_GUESTS
from reproduce_run import AS_MP, LEAST, POLICIES, migrate

ARMS = {"log": "kvm", "ring": "kvm,dirty-ring-size=65536", "tcg": "tcg"}
"""How QEMU learns what is written: KVM's dirty log, its dirty ring, or its own emulation.

Here KVM (a paravirtual one) puts a page of its own into the ring at every exit: the usual 4096
entries overflow, and QEMU loses writes, whoever steers. 65536, the most, do not overflow."""
FEW = ("stock", "relaxed-ceiling", "mp", "best")
"""What runs in each arm; the others run under the dirty log only (Linux guests: under TCG)."""
ROUNDS = 5
LADDER_S = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4)
"""Limits that are tried for `relaxed-least`."""

Cell = tuple[str, str, str, int]
"""Arm, guest, policy, round."""
SHORT: tuple[Cell, ...] = (
    *(("log", "sweep", policy, 0) for policy in ("stock", "mp", "best")),
    *(("log", "small-hot", policy, 0) for policy in ("mp", "best")),
    ("tcg", "redis", "mp", 0),
)
"""A few minutes' worth."""
GUESTS: dict[str, Guest] = {guest.name: guest for guest in (*PROGRAM_GUESTS, *LINUX_GUESTS)}


class Results:
    """A file with a line each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self._done = {_cell(one): one for one in map(json.loads, lines)}

    def __contains__(self, cell: Cell) -> bool:
        return cell in self._done

    def __getitem__(self, cell: Cell) -> dict[str, Any]:
        return self._done[cell]

    def add(self, cell: Cell, outcome: dict[str, Any]) -> None:
        arm, guest, policy, number = cell
        one = {"arm": arm, "guest": guest, "policy": policy, "round": number, **outcome}
        self._done[cell] = one
        with self._path.open("a") as out:
            out.write(json.dumps(one) + "\n")


def _cell(one: dict[str, Any]) -> Cell:
    return one["arm"], one["guest"], one["policy"], one["round"]


def cells(number: int, *, at_home: bool) -> list[Cell]:
    """Of a round, in its order: those of each guest's first arm, or the others."""
    all_of_them = [
        (arm, guest.name, policy, number)
        for arm, guest, policy in itertools.product(ARMS, GUESTS.values(), POLICIES)
        if arm in guest.arms
        and at_home == (arm == guest.arms[0])
        and (at_home or policy in FEW)
        and (guest.is_intensive or policy != AS_MP)  # stock's limit allows what it took of others
    ]
    random.Random(number).shuffle(all_of_them)
    return all_of_them


def limit_s(cell: Cell, results: Results) -> float | None:
    """QEMU's before anybody steers; None: its own."""
    _, name, policy, _ = cell
    if policy == LEAST:
        return least_limit_s(GUESTS[name], results)
    return as_mp_limit_s(GUESTS[name], results) if policy == AS_MP else None


def as_mp_limit_s(guest: Guest, results: Results) -> float:
    """A tenth above the longest downtime that MP took so far, in the first round at least."""
    taken = [
        results[cell]["end"]["downtime_s"] or 0.0
        for number in range(ROUNDS)
        if (cell := (guest.arms[0], guest.name, "mp", number)) in results
    ]
    if not taken:
        raise LookupError(f"MP has not migrated {guest.name} yet")
    return round(1.1 * max(taken), 2)


def least_limit_s(guest: Guest, results: Results) -> float | None:
    """The lowest of the ladder with which it migrates in time; None if it does by QEMU's own.

    Found by bisection, a migration a step: these count as rounds of their own, below zero.
    """
    if not guest.is_intensive:
        return None
    low, high = 0, len(LADDER_S) - 1
    while low < high:
        middle = (low + high) // 2
        cell = (guest.arms[0], guest.name, LEAST, -1 - middle)
        if cell not in results:
            perform(cell, results, LADDER_S[middle])
        if results[cell]["end"]["status"] == "completed":
            high = middle
        else:
            low = middle + 1
    return LADDER_S[low]


def perform(cell: Cell, results: Results, limit_s: float | None) -> None:
    arm, name, policy, number = cell
    begun_s = time.monotonic()
    outcome = migrate(GUESTS[name], ARMS[arm], policy, limit_s)
    results.add(cell, outcome)
    end = outcome["end"]
    print(f"{number:3} {arm:4} {name:11} {policy:15} {end['status']:9} {end['total_s']:6.2f} s, "
          f"{end['sent_bytes'] / 1e6:6.1f} MB, {end['downtime_s'] or 0:5.3f} s"
          f"{'' if outcome['intact'] else ', NOT INTACT'} "
          f"(took {time.monotonic() - begun_s:.1f} s)", flush=True)  # fmt: skip


def run(wanted: Iterable[Cell], results: Results) -> None:
    """What is not there yet. What fails is told and left out, to be tried again the next time."""
    for cell in wanted:
        if cell in results:
            continue
        try:
            perform(cell, results, limit_s(cell, results))
        except Exception:
            print(f"{cell}: left out", flush=True)
            traceback.print_exc()


def main() -> None:
    path, *more = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # with everything cleaned up
    os.nice(-10)  # what else the machine does must not slow the guest
    results = Results(Path(path))
    if more == ["short"]:
        run(SHORT, results)
        return
    for at_home in (True, False):
        for number in range(int(more[0]) if more else ROUNDS):
            run(cells(number, at_home=at_home), results)


if __name__ == "__main__":
    main()
