"""docs/reproduce.md's tables from the raw results.

python benches/reproduce_report.py RESULTS.jsonl > docs/reproduce.md
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from statistics import median

import reproduce_text as text
from reproduce import ROUNDS, cells
from reproduce_data import (
    CEILING_S,
    DEFAULT_LIMIT_S,
    GUESTS,
    TOLERANCE_S,
    Mean,
    Measure,
    Run,
    by_guest,
    change,
    load,
    mean,
)
from reproduce_run import AS_MP, LEAST, POLICIES

ARMS = {
    "log": "KVM, dirty log",
    "ring": "KVM, dirty ring",
    "tcg": "TCG",
}
THROTTLE = attrgetter("most_throttle_percent")
TIME, DOWNTIME, BLACKOUT = attrgetter("total_s"), attrgetter("downtime_s"), attrgetter("blackout_s")
DATA, PASSES = attrgetter("sent_mb"), attrgetter("n_passes")
RELAXED = (LEAST, AS_MP, "kubevirt-ramp", "relaxed-ceiling")
THESIS_TIME, THESIS_DATA = -0.22, -0.19
OURS = ("mp", "best")
LOW_LIMIT_S = 0.1


def report(runs: list[Run]) -> Iterator[str]:
    main = main_runs(runs)
    intensive = [run for run in main if run.guest.is_intensive]
    calm = [run for run in main if not run.guest.is_intensive]
    yield text.INTRODUCTION.format(
        ceiling=CEILING_S, n=len(runs), qemu=_listed(run.qemu for run in runs),
        kernel=_listed(run.kernel for run in runs), patience=patience(intensive),
        rounds=_complete_rounds(runs, at_home=True), arms=_complete_rounds(runs, at_home=False),
    )  # fmt: skip
    yield from guests(main)
    yield text.MAIN.format(
        tolerance=round(1000 * (DEFAULT_LIMIT_S + TOLERANCE_S)),
        throttle=_mean(mean(_of(intensive, policy="auto-converge"), THROTTLE), " %", 0),
    )
    yield from policies(intensive)
    yield text.PICTURE
    yield text.CLAIM
    yield from against(intensive)
    yield "\n".join(verdicts(intensive, calm, runs))
    yield limit_from_the_start(intensive, calm)
    yield text.CALM
    yield from policies(calm)
    yield text.ARMS
    yield from lost(runs)
    yield text.ARMS_TABLE
    yield from arms(runs)
    yield text.EACH
    yield from each(intensive)
    yield text.LIMIT
    yield from limits(runs)
    yield text.DOWNTIME
    yield from outside(runs)


def main_runs(runs: Sequence[Run]) -> list[Run]:
    """Those of each guest's first arm, where every policy runs."""
    return [run for run in runs if run.arm == run.guest.arms[0]]


def changed(runs: Sequence[Run], ours: str, base: str, measure: Measure) -> Mean | None:
    """By how much a policy's figure is more than another's, guest by guest."""
    return change(_of(runs, policy=ours), _of(runs, policy=base), measure)


def _complete_rounds(runs: Sequence[Run], *, at_home: bool) -> int:
    done = {(run.arm, run.guest.name, run.policy, run.number) for run in runs}
    return sum(set(cells(number, at_home=at_home)) <= done for number in range(ROUNDS))


def patience(intensive: Sequence[Run]) -> str:
    """How many times MP's time it is, by guest."""
    takes = by_guest(_of(intensive, policy="mp"), TIME)
    times = [GUESTS[name].patience_s / each.mean() for name, each in takes.items()]
    return f"{min(times):.1f} to {max(times):.1f}" if times else "several"


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
        if not own:
            continue
        rows.append((
            _bold(name), _success(own), _guests(own), _mean(mean(own, TIME), " s"),
            _mean(mean(own, DATA), " MB", 0), _mean(mean(own, DOWNTIME), " s"),
            _mean(mean(own, BLACKOUT), " s"), _mean(mean(own, PASSES), "", 0),
            str(sum(run.is_early for run in own)), str(sum(run.is_over for run in own)),
            str(sum(not run.intact for run in own)),
        ))  # fmt: skip
    yield from table(
        ("policy", "moved", "means over", "total time", "data", "downtime, QEMU's",
         "from outside", "passes", "early", "over", "not whole"), rows,
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
    moved = sorted(f"{r.guest.name} after {r.total_s:.1f} s" for r in stock if r.completed)
    yield _goal("stock moves none of the intensive guests", not moved,
                "; ".join([_success(stock), *moved]), stock)  # fmt: skip
    for name in OURS:
        own = _of(intensive, policy=name)
        yield _goal(
            f"`{name}` moves all of them", all(r.completed for r in own), _success(own), own
        )
        for measure, goal, what in ((TIME, THESIS_TIME, "time"), (DATA, THESIS_DATA, "data")):
            said = changed(intensive, name, LEAST, measure)
            is_met = said is not None and said.value <= goal
            less = f"at least {-goal:.0%} less {what} than `{LEAST}`"
            yield _goal(f"`{name}` takes {less}, in the mean", is_met, _change(said), own)
    more = changed(intensive, "best", "mp", TIME)
    yield _goal("`best` takes less time than `mp`", _is_less(more),
                _change(more), _of(intensive, policy="best"))  # fmt: skip
    for name in OURS:
        own = _of(calm, policy=name)
        early = sorted({f"{r.guest.name}, {r.downtime_s:.2f} s" for r in own if r.is_early})
        yield _goal(f"`{name}` stops none of the others early", not early,
                    "; ".join(early) or f"none of {len(own)}", own)  # fmt: skip
    seen = [run for run in runs if run.arm != "ring"]
    for name in OURS:
        own = [run for run in _of(seen, policy=name) if run.completed]
        over = [f"{run.guest.name} ({run.arm})" for run in own if run.is_over]
        yield _goal(f"`{name}` never exceeds the ceiling", not over,
                    "; ".join(over) or f"none of {len(own)} (without the dirty ring, see below)",
                    own)  # fmt: skip
    for arm, what in ARMS.items():
        own = [run for run in _of(runs, arm=arm) if run.completed]
        lost = sum(not run.intact for run in own)
        yield _goal(f"no data are lost, {what}", not lost, f"{lost} of {len(own)}", own)


def limit_from_the_start(intensive: Sequence[Run], calm: Sequence[Run]) -> str:
    """What a relaxed limit does as well, and what it costs those that do not need it."""
    base = "relaxed-ceiling"
    times = {name: changed(intensive, name, base, TIME) for name in ("mp", "best")}
    downtimes = {name: _mean(mean(_of(calm, policy=name), DOWNTIME), " s")
                 for name in (base, "mp", "best", "stock")}  # fmt: skip
    return text.LIMIT_FROM_THE_START.format(
        mp=_change(times["mp"]), best=_change(times["best"]), relaxed=downtimes[base],
        calm_mp=downtimes["mp"], calm_best=downtimes["best"], stock=downtimes["stock"],
    )  # fmt: skip


def lost(runs: Sequence[Run]) -> Iterator[str]:
    """Which guests did not arrive whole: ours against what traces nothing."""
    rows = []
    for (arm, what), is_program in itertools.product(ARMS.items(), (True, False)):
        moved = [
            run
            for run in _of(runs, arm=arm)
            if run.completed and ("log" in run.guest.arms) == is_program
        ]
        if not moved:
            continue
        low = [run for run in moved if run.last_limit_s < LOW_LIMIT_S]
        parts = (
            [run for run in moved if run.policy not in OURS and run not in low],
            [run for run in moved if run.policy in OURS and run not in low],
            low,
        )
        whose = "the guest program" if is_program else "Linux"
        rows.append(
            (what, whose, *(f"{sum(not r.intact for r in part)} of {len(part)}" for part in parts))
        )
    yield from table(
        ("not whole", "guests", "untraced", "traced (mp, best)",
         f"limit below {1000 * LOW_LIMIT_S:.0f} ms (best)"), rows,
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
        (
            "limit",
            "migrations",
            "longer than it",
            "by more than 7 % and 25 ms",
            "most, ms",
            "most, %",
        ),
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


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(set(words) - {""}))


def _guests(runs: Sequence[Run]) -> str:
    n_guests = len({run.guest.name for run in runs if run.completed})
    return f"{n_guests} guest{'s' * (n_guests != 1)}"


def _success(runs: Sequence[Run]) -> str:
    return f"{sum(run.completed for run in runs)} of {len(runs)}"


def _mean(value: Mean | None, unit: str, digits: int = 2) -> str:
    if value is None:
        return ""
    said = f"{value.value:.{digits}f}{unit}"
    if value.interval is None:
        return said
    low, high = (f"{each:.{digits}f}" for each in value.interval)
    return said if low == high else f"{said} ({low} to {high})"


def _change(value: Mean | None) -> str:
    if value is None:
        return "no guest that both move"
    if value.interval is None:
        return f"{value.value:+.0%}"
    low, high = value.interval
    return f"{value.value:+.0%} ({low:+.0%} to {high:+.0%})"


def _bold(name: str) -> str:
    return f"**{name}**" if name in ("mp", "best") else name


def _is_less(change: Mean | None) -> bool | None:
    """None where the interval has both signs, so that the runs do not settle it."""
    if change is None:
        return False
    if change.interval is not None and change.interval[0] < 0 < change.interval[1]:
        return None
    return change.value < 0


def _goal(what: str, is_met: bool | None, said: str, runs: Sequence[Run]) -> str:
    if not runs:
        return f"- **Open**: {what}: nothing of it has run."
    if is_met is None:
        return f"- **Open**: {what}: {said}, which these runs do not settle."
    return f"- **{'Met' if is_met else 'Missed'}**: {what}: {said}."


def main() -> None:
    print("\n\n".join(part for part in report(load(Path(sys.argv[1])))))


if __name__ == "__main__":
    main()
