"""Every policy over every recorded trace: the evidence of docs/evidence.md, as raw outcomes.

python benches/evidence.py RESULTS.json

Three sets of traces: `design`, with which our policy was made; `held`, recorded in the same way
from another seed; `programs`, of the corpus: the guest program again, and real programs.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from migration_data import read, unpacked, while_it_ran

from mempattern.interval import Bitmap
from mempattern.migration.memory import CHUNK_PAGES
from mempattern.migration.policies import (
    KubeVirtLegacy,
    KubeVirtPostCopy,
    KubeVirtRamp,
    KubeVirtStall,
    MemoryPattern,
    Nova,
    OVirt,
    Proxmox,
    Relaxed,
)
from mempattern.migration.recording import Recording
from mempattern.migration.registry import POLICIES
from mempattern.migration.simulate import Outcome, simulate
from mempattern.migration.traces import read_migrant
from mempattern.trace import TraceReader

HERE = Path(__file__).parent
SETS = {"design": "dev", "held": "held", "programs": "corpus"}
CEILINGS_S = (1.0, 2.0)
SHARES = (0.5, 1.0)
"""Of the link that a recorded migration had."""
LINKS_BPS = (12.5e6, 31.25e6, 125e6)
"""For the corpus: 100 and 250 Mbit/s, 1 Gbit/s."""
OBSERVED_S = 10.0
"""Of a trace of the corpus, before the migration begins."""
LIMIT_S = 0.3
CLOCKED = (Nova, OVirt, Proxmox, KubeVirtLegacy, KubeVirtPostCopy, KubeVirtStall, KubeVirtRamp)
CLOCKED_S = 1800.0
"""Policies with a clock of their own, some of which do nothing for minutes, get so long; others ten
times what sending all of RAM takes, and at least a minute."""
FREE_S = 10.0
"""A ceiling that is none: what the thesis's MP, and a relaxed QEMU, may take."""
PRECISION = 1.02
"""By which factor the smallest limit that completes is known."""


@dataclass(frozen=True)
class Trace:
    """One to migrate, read."""

    recording: Recording
    zero: list[Bitmap] | None
    start_s: float
    chunk_pages: int
    links_Bps: tuple[float, ...]

    def play(self, policies, link_Bps: float, ceiling_s: float) -> list[Outcome]:
        """In the policies' order."""
        outcomes = {}
        for clocked in (True, False):
            some = {name: make for name, make in policies.items() if (make in CLOCKED) is clocked}
            for outcome in simulate(
                self.recording, some, link_Bps, ceiling_s, downtime_limit_s=LIMIT_S,
                start_s=self.start_s, zero=self.zero, chunk_pages=self.chunk_pages,
                patience_s=CLOCKED_S if clocked else None,
            ):  # fmt: skip
                outcomes[outcome.policy] = outcome
        return [outcomes[name] for name in policies]


def files() -> Iterator[tuple[str, Path]]:
    for name, directory in SETS.items():
        if directory == "corpus":
            found = sorted((HERE / "data/corpus").glob("*.mpt"))
        else:
            found = sorted(unpacked(directory).glob("*.json"))
        for path in found:
            yield name, path


def load(path: Path) -> Trace:
    if path.suffix == ".mpt":
        return corpus_trace(path)
    run = read(path)
    ran = while_it_ran(run)
    links_Bps = tuple(share * run.case.bandwidth_Bps for share in SHARES)
    return Trace(ran.recording, ran.zero, ran.start_s, run.chunk_pages, links_Bps)


def corpus_trace(path: Path) -> Trace:
    """With the dirty log cleared chunk by chunk where that is so: under KVM, without the ring."""
    with TraceReader(path) as trace:
        is_late = trace.provenance.source != "kvm-dirty-ring" and trace.meta.get("accel") != "tcg"
    migrant = read_migrant(path)
    zero = migrant.zero_bitmaps()
    return Trace(migrant.recording, None if zero is None else list(zero), OBSERVED_S,
                 CHUNK_PAGES if is_late else 0, LINKS_BPS)  # fmt: skip


def rows(job: tuple[str, Path]) -> list[dict[str, object]]:
    name, path = job
    trace, found = load(path), []
    for link_Bps in trace.links_Bps:
        where = {"set": name, "trace": path.stem, "bandwidth_Bps": link_Bps}
        for ceiling_s in CEILINGS_S:
            found += [
                {**where, "ceiling_s": ceiling_s, **asdict(outcome)}
                for outcome in trace.play(POLICIES, link_Bps, ceiling_s)
            ]
        found += [
            {**where, "ceiling_s": FREE_S, **asdict(outcome)}
            for outcome in without_ceiling(trace, link_Bps)
        ]
    return found


def without_ceiling(trace: Trace, link_Bps: float) -> list[Outcome]:
    """As the thesis has it, where stock does not end: MP, which stops when it is sure, and QEMU
    relaxed in three senses: the smallest limit that completes, found by trying; the downtime that
    MP took; ramps.
    """
    (stock,) = trace.play({"stock": POLICIES["stock"]}, link_Bps, FREE_S)
    if stock.success:
        return []
    free = {"mp, free": MemoryPattern, "nova, free": Nova, "kubevirt-ramp, free": KubeVirtRamp}
    outcomes = trace.play(free, link_Bps, FREE_S)
    smallest = smallest_limit(trace, link_Bps)
    limits_s = {
        "relaxed, smallest limit": smallest,
        "relaxed, MP's downtime": outcomes[0].downtime_s,
    }
    for name, limit_s in limits_s.items():
        if limit_s is not None and limit_s > 0:
            outcomes += trace.play({name: Relaxed}, link_Bps, limit_s)
    return outcomes


def smallest_limit(trace: Trace, link_Bps: float) -> float | None:
    """Nobody knows it beforehand."""
    low, high = LIMIT_S, FREE_S
    if not trace.play({"": Relaxed}, link_Bps, high)[0].success:
        return None
    while high / low > PRECISION:
        middle = (low * high) ** 0.5
        if trace.play({"": Relaxed}, link_Bps, middle)[0].success:
            high = middle
        else:
            low = middle
    return high


def main() -> None:
    (out,) = sys.argv[1:]
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        found = [row for some in workers.map(rows, files()) for row in some]
    names = ["set", "trace", "bandwidth_Bps", "ceiling_s", *(f.name for f in fields(Outcome))]
    table = {name: [rounded(row[name]) for row in found] for name in names}
    Path(out).write_text(json.dumps(table, separators=(",", ":")).replace("],", "],\n"))


def rounded(value: object) -> object:
    """NaN, which JSON has not, as null; a microsecond, or a byte, is as much as the rest tells."""
    if not isinstance(value, float):
        return value
    return None if math.isnan(value) else round(value, 6)


if __name__ == "__main__":
    main()
