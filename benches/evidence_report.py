"""docs/evidence.md's tables from the raw outcomes.

python benches/evidence_report.py RESULTS.json > docs/evidence.md
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from statistics import median

from evidence_data import SETS, Migration, by_set, load, under_ceilings

from mempattern.migration.compare import judge, regret
from mempattern.migration.registry import POLICIES
from mempattern.migration.simulate import Outcome

BASELINES = [name for name in POLICIES if name not in ("best", "oracle")]
GOAL = 0.05
FREE = (
    "mp, free", "relaxed, smallest limit", "relaxed, MP's downtime", "nova, free",
    "kubevirt-ramp, free",
)  # fmt: skip

INTRODUCTION = """\
# The evidence: policies replayed over recorded traces

<!-- Made by benches/evidence_report.py; do not edit. -->

Each row is a policy of [policies.md](policies.md), replayed by the [simulator](simulate.md)
over traces of real guests: `make evidence` replays all of them again and makes this page, and
`benches/results/evidence.json` has every outcome. Three sets of traces:

{sets}

A recorded migration is replayed over its own link and over one of half the bandwidth, a trace
of the corpus over 100 and 250 Mbit/s and 1 Gbit/s, 10 s after its beginning. Past a trace's end
the guest goes on where it looked most as it did there; {beyond}.

QEMU's downtime limit is 300 ms to begin with. Each migration is given up after ten times what
sending all of RAM once takes, and at least a minute."""

THESIS = """\
## The claim of the thesis, in its own terms

"Memory intensive" is what stock QEMU does not migrate within the patience: so its success here
is 0 by definition, as it was in the thesis by measurement. MP may stop the guest for as long as
it takes (up to 10 s), as the thesis's does. It is compared with a QEMU that was relaxed until
it completes, in the thesis's two possible senses (the smallest fixed limit that completes,
which nobody knows beforehand; a ramp of limits, Nova's and KubeVirt's, up to the same 10 s),
and in a third one that the thesis does not have: a fixed limit as high as the downtime that MP
takes."""

CEILING = """\
## At an equal downtime ceiling

The stricter question: everybody may stop the guest for one second, or two, and not longer (and
2 %). *Moves* counts the migrations that end so, of those that the oracle moves; *elsewhere*, of
those that it does not (by throttling or deferral). *Over* counts those that end with a longer
downtime. *Early* are those of the guests that stock would have moved with its 300 ms, and that
were stopped for longer. The medians of time, data and regret (against the oracle) are of the
migrations that the policy and the oracle move; *throttled* is the largest share of a
migration's time taken from the guest. *Dominated* counts the migrations in which another
policy, whether it is in this table's first rows or last, was nowhere worse and somewhere
clearly better ([replay.md](replay.md)), or moved the guest where this one did not."""


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def middle(values: Iterable[float], show: Callable[[float], str] = percent) -> str:
    some = list(values)
    return show(median(some)) if some else "-"


def seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.0f} ms"


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def beyond(migrations: list[Migration]) -> str:
    """What of the stock and best replays is extrapolated."""
    parts = []
    for name, some in by_set(migrations):
        shares = [m.outcomes["best"].extrapolated_s / m.outcomes["best"].total_s for m in some
                  if m.outcomes["best"].success]  # fmt: skip
        parts.append(f"`{name}` {percent(sum(shares) / len(shares))}")
    return "of `best`'s time that is, on average, " + ", ".join(parts)


def thesis(free: list[Migration]) -> str:
    rows = []
    for name, some in by_set(free):
        rows += [thesis_row(name, policy, some) for policy in FREE]
    head = ["set", "policy", "success", "downtime", "MP's time against it", "MP's data against it"]
    return table(head, rows)


def thesis_row(name: str, policy: str, some: list[Migration]) -> list[str]:
    ended = [m for m in some if policy in m.outcomes and m.outcomes[policy].success]
    both = [m for m in ended if m.outcomes["mp, free"].success]
    against = [(m.outcomes["mp, free"], m.outcomes[policy]) for m in both]
    return [
        name, policy, f"{len(ended)} of {len(some)}",
        middle((m.outcomes[policy].downtime_s for m in ended), seconds),
        "" if policy == "mp, free" else middle(a.total_s / b.total_s - 1 for a, b in against),
        "" if policy == "mp, free" else middle(a.sent_bytes / b.sent_bytes - 1 for a, b in against),
    ]  # fmt: skip


def at_ceiling(some: list[Migration]) -> str:
    head = ["policy", "moves", "elsewhere", "over", "early", "time", "data", "regret: time", "data",
            "downtime", "throttled", "dominated"]  # fmt: skip
    rows = [policy_row(policy, some) for policy in POLICIES]
    return table(head, rows)


def policy_row(policy: str, some: list[Migration]) -> list[str]:
    possible = [m for m in some if m.moves("oracle")]
    others = [m for m in some if not m.moves("oracle")]
    moved = [m for m in possible if m.moves(policy)]
    one = [m.outcomes[policy] for m in moved]
    regrets = [regret(m.outcomes[policy], m.oracle) for m in moved]
    over = sum(m.outcomes[policy].success and not m.moves(policy) for m in some)
    all_moved = [m.outcomes[policy] for m in some if m.moves(policy)]
    return [
        f"**{policy}**" if policy == "best" else policy,
        f"{len(moved)} of {len(possible)}",
        f"{sum(m.moves(policy) for m in others)} of {len(others)}",
        str(over),
        str(sum(m.is_early(policy) for m in some)),
        middle((o.total_s for o in one), seconds),
        middle((o.sent_bytes for o in one), lambda n: f"{n / 1e6:.0f} MB"),
        middle(r.time for r in regrets if r),
        middle(r.bytes for r in regrets if r),
        middle((o.downtime_s for o in one), seconds),
        percent(max((o.throttled_s / o.total_s for o in all_moved), default=0.0)),
        "" if policy == "oracle" else str(len([m for m in some if rivals_of(policy, m)])),
    ]


def rivals_of(policy: str, migration: Migration) -> list[str]:
    """Those that did better."""
    if not migration.moves(policy):
        return [name for name in (*BASELINES, "best") if migration.moves(name)]
    outcomes = list(migration.outcomes.values())
    judged = {one.outcome.policy: one for one in judge(outcomes, migration.ceiling_s)}
    return list(judged[policy].dominated_by)


def goals(some: list[Migration]) -> str:
    possible = [m for m in some if m.moves("oracle")]
    missed = [m for m in possible if not m.moves("best")]
    regrets = [
        r for m in possible if m.moves("best") and (r := regret(m.outcomes["best"], m.oracle))
    ]
    early = [m for m in some if m.is_early("best")]
    beaten = [(m, rivals) for m in some if (rivals := rivals_of("best", m))]
    over = [m for m in some if m.outcomes["best"].success and not m.moves("best")]
    lines = [
        f"- Success wherever the oracle succeeds: {len(possible) - len(missed)} of {len(possible)}."
        + listed(missed),
        f"- Never over the ceiling: {len(over)} over." + listed(over),
        f"- Total time and data within {GOAL:.0%} of the oracle's, in the median: "
        f"{middle(r.time for r in regrets)}, {middle(r.bytes for r in regrets)}; "
        f"nine of ten within {tenth(r.time for r in regrets)}, {tenth(r.bytes for r in regrets)}.",
        f"- No early stop of a guest that stock would have moved: {len(early)} of "
        f"{sum(m.stock_completes for m in some)}." + told_early(early),
        f"- Dominated by no baseline: {len(beaten)} of {len(some)}."
        + "".join(f" {label(m)}: by {', '.join(rivals)} ({against(m, rivals[0])})."
                  for m, rivals in beaten),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def tenth(values: Iterable[float]) -> str:
    some = sorted(values)
    return percent(some[int(0.9 * (len(some) - 1))]) if some else "-"


def label(migration: Migration) -> str:
    return f"{migration.trace} at {migration.bandwidth_Bps * 8 / 1e6:.0f} Mbit/s"


def listed(some: list[Migration]) -> str:
    return "".join(f" {label(m)}: {told(m.outcomes['best'])}." for m in some)


def told(outcome: Outcome) -> str:
    if not outcome.success:
        return outcome.end
    return f"{outcome.total_s:.1f} s, {seconds(outcome.downtime_s)}"


def against(migration: Migration, rival: str) -> str:
    return f"{told(migration.outcomes['best'])}; {told(migration.outcomes[rival])}"


def told_early(early: list[Migration]) -> str:
    """What these stops saved."""
    if not early:
        return ""
    times = sorted(m.outcomes["stock"].total_s / m.outcomes["best"].total_s for m in early)
    return (
        f" Stock took {times[0]:.2f} to {times[-1]:.1f} times as long there, {median(times):.1f} "
        f"times in the median."
    )


def main() -> None:
    migrations = load(sys.argv[1])
    ceilings = under_ceilings(migrations)
    free = [m for m in migrations if "mp, free" in m.outcomes]
    sets = "\n".join(
        f"- `{name}`: {SETS[name]}; {len({m.trace for m in some})} traces, "
        f"{len({(m.trace, m.bandwidth_Bps) for m in some})} migrations."
        for name, some in by_set(ceilings)
    )
    print(INTRODUCTION.format(sets=sets, beyond=beyond(ceilings)) + "\n")
    print(THESIS + "\n")
    print(thesis(free))
    print(CEILING + "\n")
    for ceiling_s in sorted({m.ceiling_s for m in ceilings}):
        for name, some in by_set([m for m in ceilings if m.ceiling_s == ceiling_s]):
            print(f"### {ceiling_s:g} s, `{name}`\n")
            print(at_ceiling(some))
            print("Goals for `best`:\n")
            print(goals(some))


if __name__ == "__main__":
    main()
