"""The ratio table of a bench run, from the values of its rounds.

python benches/table.py RESULTS.json... > docs/benchmarks.md
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

HEAD = """# Benchmarks

Made by `benches/table.py` from {results}, which `make bench-docs` measures anew;
`make bench` only prints. {machine}

Everything in a row was measured in turn in one run: each round times the peer and then ours, each
after a call that warms the caches for it. `x` is the peer's time divided by ours, the median of the
rounds with their quartiles. Times of KVM are this host's, where KVM is nested and slow, and not
hardware's.
"""


@dataclass(frozen=True)
class Row:
    bench: str
    against: str
    values: list[float]
    unit: str
    at_least: float | None
    at_most: float | None

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def spread(self) -> str:
        if len(self.values) == 1:  # counted, or measured once
            return ""
        low, _, high = quantiles(self.values, n=4)
        return f"{low:.3g} to {high:.3g}"

    @property
    def goal(self) -> str:
        if self.at_least is not None:
            met = self.median >= self.at_least
            return f"at least {self.at_least:.3g}: {'reached' if met else 'MISSED'}"
        if self.at_most is not None:
            met = self.median <= self.at_most
            return f"at most {self.at_most:.3g}: {'reached' if met else 'MISSED'}"
        return ""


def rows_of(name: str, extra_info: dict[str, Any]) -> list[Row]:
    return [Row(name.removeprefix("bench_"), **row) for row in extra_info.get("rows", [])]


def text_lines(rows: list[Row]) -> list[str]:
    lines = [f"{'bench':<36} {'against':<28} {'median':>9}  {'quartiles':<18} goal"]
    for row in rows:
        value = f"{row.median:.3g} {row.unit}"
        lines.append(f"{row.bench:<36} {row.against:<28} {value:>9}  {row.spread:<18} {row.goal}")
    return lines


def machine_line(machine: dict[str, Any]) -> str:
    """From what pytest-benchmark knows of the machine."""
    return (
        f"Machine: {machine['cpu'].get('brand_raw', machine['processor'])}, "
        f"{machine['cpu']['count']} CPUs, {machine['system']} {machine['release']}, "
        f"Python {machine['python_version']}, NumPy {machine['numpy']};\nshared and noisy."
    )


def markdown(paths: list[Path]) -> str:
    runs = [json.loads(path.read_text()) for path in paths]
    results = ", ".join(f"`{path.as_posix()}`" for path in paths)
    head = HEAD.format(results=results, machine=machine_line(runs[0]["machine_info"]))
    lines = [head, "| bench | against | median | quartiles | goal |", "|---|---|---|---|---|"]
    for bench in (bench for run in runs for bench in run["benchmarks"]):
        for row in rows_of(bench["name"], bench["extra_info"]):
            value = f"{row.median:.3g} {row.unit}"
            lines.append(f"| {row.bench} | {row.against} | {value} | {row.spread} | {row.goal} |")
    notes = Path(__file__).with_name("notes.md").read_text()
    return "\n".join([*lines, "", notes.rstrip()])


if __name__ == "__main__":
    print(markdown([Path(name) for name in sys.argv[1:]]))
