"""docs/reproduce.md's tables from the raw results.

python benches/reproduce_report.py RESULTS.jsonl > docs/reproduce.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from statistics import median

from reproduce_data import (
    CEILING_S,
    DEFAULT_LIMIT_S,
    GUESTS,
    Mean,
    Measure,
    Run,
    change,
    load,
    mean,
)
from reproduce_run import LEAST, POLICIES

ARMS = {
    "log": "KVM, dirty log",
    "ring": "KVM, dirty ring",
    "tcg": "TCG",
}
TIME, DOWNTIME, BLACKOUT = attrgetter("total_s"), attrgetter("downtime_s"), attrgetter("blackout_s")
DATA, PASSES = attrgetter("sent_mb"), attrgetter("n_passes")
RELAXED = (LEAST, "kubevirt-ramp", "relaxed-ceiling")
THESIS_TIME, THESIS_DATA = -0.22, -0.19


def report(runs: list[Run]) -> Iterator[str]:
    main = main_runs(runs)
    intensive = [run for run in main if run.guest.is_intensive]
    calm = [run for run in main if not run.guest.is_intensive]
    yield INTRODUCTION.format(
        ceiling=CEILING_S, n=len(runs), rounds=1 + max(run.number for run in main)
    )
    yield from guests(main)
    yield MAIN
    yield from policies(intensive)
    yield "![Success, time and downtime by policy, on the memory-intensive guests](reproduce.png)"
    yield CLAIM
    yield from against(intensive)
    yield "\n".join(verdicts(intensive, calm, runs))
    yield limit_from_the_start(intensive, calm)
    yield CALM
    yield from policies(calm)
    yield ARMS_TEXT
    yield from arms(runs)
    yield EACH
    yield from each(intensive)
    yield LIMIT_TEXT
    yield from limits(runs)
    yield DOWNTIME_TEXT
    yield from outside(runs)


def main_runs(runs: Sequence[Run]) -> list[Run]:
    """Those of each guest's first arm, where every policy runs."""
    return [run for run in runs if run.arm == run.guest.arms[0]]


def changed(runs: Sequence[Run], ours: str, base: str, measure: Measure) -> Mean | None:
    """By how much a policy's figure is more than another's, guest by guest."""
    return change(_of(runs, policy=ours), _of(runs, policy=base), measure)


def guests(runs: Sequence[Run]) -> Iterator[str]:
    rows = []
    for guest in GUESTS.values():
        stock = _of(runs, guest=guest.name, policy="stock")
        limits = {run.limit_s for run in _of(runs, guest=guest.name, policy=LEAST)}
        least = "" if limits <= {None} else f"{max(filter(None, limits)):.1f} s"
        rows.append((
            f"`{guest.name}`", guest.what, "yes" if guest.is_intensive else "no",
            f"{guest.bandwidth_Bps / 1e6:g} MB/s", _success(stock), least,
        ))  # fmt: skip
    yield from table(
        ("guest", "what it does", "meant to be intensive", "link", "stock moves", "least limit"),
        rows,
    )


def policies(runs: Sequence[Run]) -> Iterator[str]:
    rows = []
    for name in POLICIES:
        own = _of(runs, policy=name)
        rows.append((
            _bold(name), _success(own), _mean(mean(own, TIME), " s"),
            _mean(mean(own, DATA), " MB", 0), _mean(mean(own, DOWNTIME), " s"),
            _mean(mean(own, BLACKOUT), " s"), _mean(mean(own, PASSES), "", 0),
            str(sum(run.is_early for run in own)), str(sum(run.is_over for run in own)),
            str(sum(not run.intact for run in own)),
        ))  # fmt: skip
    yield from table(
        ("policy", "moved", "total time", "data", "downtime, QEMU's", "from outside", "passes",
         "early", "over", "not whole"), rows,
    )  # fmt: skip


def against(runs: Sequence[Run]) -> Iterator[str]:
    rows = []
    for ours in ("mp", "best"):
        for base in RELAXED:
            said = [_change(changed(runs, ours, base, one)) for one in (TIME, DATA, DOWNTIME)]
            rows.append((_bold(ours), base, *said))
    yield from table(("policy", "against", "time", "data", "downtime"), rows)


def verdicts(intensive: Sequence[Run], calm: Sequence[Run], runs: Sequence[Run]) -> Iterator[str]:
    stock = _of(intensive, policy="stock")
    yield _goal("stock moves none of the intensive guests", not any(r.completed for r in stock),
                _success(stock))  # fmt: skip
    for name in ("mp", "best"):
        own = _of(intensive, policy=name)
        yield _goal(f"`{name}` moves all of them", all(r.completed for r in own), _success(own))
        for measure, goal, what in ((TIME, THESIS_TIME, "time"), (DATA, THESIS_DATA, "data")):
            said = changed(intensive, name, LEAST, measure)
            yield _goal(f"`{name}` takes at least {-goal:.0%} less {what} than `{LEAST}`",
                        said is not None and said.value <= goal, _change(said))  # fmt: skip
    for name in ("mp", "best"):
        own = _of(calm, policy=name)
        early = [run for run in own if run.is_early]
        text = "; ".join(sorted({f"{r.guest.name}, {r.downtime_s:.2f} s" for r in early}))
        yield _goal(f"`{name}` stops none of the others early, nor above {DEFAULT_LIMIT_S:g} s",
                    not early, text or f"none of {len(own)}")  # fmt: skip
    for name in ("mp", "best"):
        own = [run for run in runs if run.policy == name and run.completed]
        over = [
            f"{run.guest.name} ({run.arm}), {run.downtime_s:.2f} s" for run in own if run.is_over
        ]
        yield _goal(f"`{name}` never exceeds the ceiling", not over,
                    "; ".join(over) or f"none of {len(own)}")  # fmt: skip
    kvm = [run for run in runs if run.arm == "log"]
    lost = sum(not run.intact for run in kvm)
    yield _goal("no data are lost (KVM, dirty log)", not lost, f"{lost} of {len(kvm)}")


def limit_from_the_start(intensive: Sequence[Run], calm: Sequence[Run]) -> str:
    """What a relaxed limit does as well, and what it costs those that do not need it."""
    base = "relaxed-ceiling"
    times = {name: changed(intensive, name, base, TIME) for name in ("mp", "best")}
    downtimes = {name: _mean(mean(_of(calm, policy=name), DOWNTIME), " s")
                 for name in (base, "mp", "best", "stock")}  # fmt: skip
    return LIMIT_FROM_THE_START.format(
        mp=_change(times["mp"]), best=_change(times["best"]), relaxed=downtimes[base],
        calm_mp=downtimes["mp"], calm_best=downtimes["best"], stock=downtimes["stock"],
    )  # fmt: skip


def arms(runs: Sequence[Run]) -> Iterator[str]:
    rows = []
    programs = [run for run in runs if "log" in run.guest.arms]
    for is_intensive in (True, False):
        for arm, what in ARMS.items():
            for name in ("stock", "relaxed-ceiling", "mp", "best"):
                own = _of(programs, arm=arm, policy=name, is_intensive=is_intensive)
                if own:
                    rows.append((
                        "yes" if is_intensive else "no", what, _bold(name), _success(own),
                        _mean(mean(own, TIME), " s"), _mean(mean(own, DATA), " MB", 0),
                        _mean(mean(own, DOWNTIME), " s"), str(sum(run.is_over for run in own)),
                        f"{sum(not run.intact for run in own)} of {len(own)}",
                    ))  # fmt: skip
    yield from table(
        ("intensive", "writes seen by", "policy", "moved", "total time", "data", "downtime",
         "over", "not whole"), rows,
    )  # fmt: skip


def each(runs: Sequence[Run]) -> Iterator[str]:
    rows = []
    for guest in GUESTS.values():
        for name in POLICIES:
            own = _of(runs, guest=guest.name, policy=name)
            if own:
                rows.append((
                    f"`{guest.name}`", _bold(name), _success(own), _mean(mean(own, TIME), " s"),
                    _mean(mean(own, DATA), " MB", 0), _mean(mean(own, DOWNTIME), " s"),
                ))  # fmt: skip
    yield from table(("guest", "policy", "moved", "total time", "data", "downtime"), rows)


def limits(runs: Sequence[Run]) -> Iterator[str]:
    rows = []
    kept = [run for run in runs if run.completed and run.arm != "ring"]
    for what, low, high in (
        ("up to 300 ms", 0.0, 0.301), ("up to 1 s", 0.301, 1.0), ("above", 1.0, 10.0)
    ):  # fmt: skip
        own = [run for run in kept if low < run.last_limit_s <= high]
        more = [(run.downtime_s or 0) - run.last_limit_s for run in own]
        shares = [each / run.last_limit_s for each, run in zip(more, own, strict=True)]
        if own:
            rows.append((
                what, str(len(own)), str(sum(each > 0 for each in more)),
                str(sum(each > 0.025 and share > 0.07
                        for each, share in zip(more, shares, strict=True))),
                f"{1000 * max(more):.0f} ms", f"{max(shares):.0%}",
            ))  # fmt: skip
    yield from table(
        ("limit", "migrations", "longer than it", "by more than 7 % and 25 ms", "most", "most"),
        rows,
    )


def outside(runs: Sequence[Run]) -> Iterator[str]:
    rows = []
    for arm, what in ARMS.items():
        more = [
            1000 * (run.blackout_s - run.downtime_s)
            for run in _of(runs, arm=arm)
            if run.blackout_s is not None and run.downtime_s is not None
        ]
        if more and arm != "ring":
            rows.append((what, str(len(more)), f"{median(more):.1f} ms", f"{min(more):.1f} ms",
                         f"{max(more):.1f} ms"))  # fmt: skip
    yield from table(("", "migrations", "median", "least", "most"), rows)


# ---- cells ---------------------------------------------------------------------------------------


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    lines = [f"| {' | '.join(heads)} |", f"| {' | '.join('---' for _ in heads)} |"]
    yield "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _of(
    runs: Sequence[Run],
    *,
    guest: str | None = None,
    policy: str | None = None,
    arm: str | None = None,
    is_intensive: bool | None = None,
) -> list[Run]:
    return [
        run
        for run in runs
        if guest in (None, run.guest.name)
        and policy in (None, run.policy)
        and arm in (None, run.arm)
        and is_intensive in (None, run.guest.is_intensive)
    ]


def _success(runs: Sequence[Run]) -> str:
    return f"{sum(run.completed for run in runs)} of {len(runs)}"


def _mean(value: Mean | None, unit: str, digits: int = 2) -> str:
    if value is None:
        return ""
    low, high = f"{value.low:.{digits}f}", f"{value.high:.{digits}f}"
    return f"{value.value:.{digits}f}{unit} ({low} to {high})"


def _change(value: Mean | None) -> str:
    if value is None:
        return "no guest that both move"
    return f"{value.value:+.0%} ({value.low:+.0%} to {value.high:+.0%})"


def _bold(name: str) -> str:
    return f"**{name}**" if name in ("mp", "best") else name


def _goal(what: str, is_met: bool, said: str) -> str:
    return f"- **{'Met' if is_met else 'Missed'}**: {what}: {said}."


INTRODUCTION = """\
# MP on real QEMU-KVM, reproduced

<!-- Made by benches/reproduce_report.py; do not edit. -->

{n} live migrations of real guests between two unpatched QEMUs (7.2), over a rate-limited link,
each by [`mempattern migrate`](migrate.md) with one policy. `make reproduce` does it all again;
the raw results, pass by pass and decision by decision, are in `benches/results/reproduce.jsonl`.
Every guest meets every policy once a round, in random order; {rounds} rounds.

Everybody may stop the guest for {ceiling:g} s and not longer. A migration that takes longer than
20 s (Linux guests: 40 s), some five times what MP takes, is cancelled and counts as failed.
`best` watches its guest for four seconds before it starts; that is not in its time. Only `mp` and
`best` look at pages, so only their guests are traced.

- `stock`: QEMU's own limit of 300 ms. `auto-converge`: QEMU's own throttling, with its defaults.
- `relaxed-least`: the smallest limit (in steps of a tenth of a second) with which this guest was
  seen to migrate in time, found beforehand by up to four migrations that are not counted here.
  Nobody knows it in practice. `relaxed-ceiling`: the limit is as high as the ceiling allows, from
  the start.
- `kubevirt-ramp`, `kubevirt-stall`: KubeVirt's two, as [policies.md](policies.md) has them, but
  with clocks a tenth as long. They are made for guests of many gigabytes; theirs would wait
  longer between two steps than our small guests take to migrate.

The processor here is a virtual one and its KVM a paravirtual one: ratios carry over to hardware,
seconds do not. *Least limit* is what `relaxed-least` has for a guest."""
MAIN = """\
## Memory-intensive guests

KVM with the dirty log; the Linux guests under TCG. Means over guests of those that completed,
with 95 % intervals. *From outside* is for how long the guest's own step counter stood still, read
in the memory of both processes (Linux: a character every 5 ms on a serial port). *Early*: above
300 ms. *Over*: above the ceiling. *Not whole*: the guest's memory was wrong afterwards (the model
of the program, page by page; the Linux guests check their data themselves)."""
CLAIM = """\
## The thesis's claim

It has MP take 22 % less time and about 19 % less data than a QEMU whose downtime limit was
relaxed until the migration ended. Each guest is compared with itself; only guests that both move
count."""
LIMIT_FROM_THE_START = """\
**A limit as high as the ceiling from the start** moves every intensive guest sooner still:
against it `mp`'s time is {mp}, and `best`'s {best}. MP spends passes on watching; `best` knows
beforehand, and sets nearly that limit, 2 % below for safety. What the high limit costs is paid by
the guests that did not need it: it stops them for {relaxed}, where `best` does for {calm_best},
`mp` for {calm_mp} and stock for {stock}. So who knows that a guest is intensive need not watch
it, and who does not know should not relax."""
CALM = """\
## Guests that are not memory intensive"""
ARMS_TEXT = """\
## By how QEMU sees the writes

The guest program's guests. *Not whole* under the dirty ring and under TCG is QEMU's doing, as
`stock` and `relaxed-ceiling` show, which trace nothing and leave QEMU to itself:

- **Dirty ring.** The paravirtual KVM of this machine puts a page of its own into the ring at every
  exit. The ring overflows, though it has its most entries (65536; the kernel warns of it in
  `kvm_dirty_ring_push`), and QEMU loses writes. The figures below are of guests that arrived
  broken, and compare no policies. The ring as such is covered where our own code reads it
  ([embedding.md](embedding.md), `csrc/kvm/ring.c`).
- **TCG.** QEMU 7.2 loses a guest's last writes in some migrations under TCG
  ([migrate.md](migrate.md)). A guest that has few of them to lose, or is lucky, stays whole."""
EACH = """\
## Each memory-intensive guest"""
LIMIT_TEXT = """\
## How well QEMU keeps its downtime limit

Whoever set it; without the dirty ring. The controller stays 7 %, and at least 25 ms, below the
ceiling for what QEMU gets wrong, since its measure of the bandwidth is up to 100 ms old."""
DOWNTIME_TEXT = """\
## QEMU's downtime and the one seen from outside

By how much the second is longer."""


def main() -> None:
    print("\n\n".join(part for part in report(load(Path(sys.argv[1])))))


if __name__ == "__main__":
    main()
