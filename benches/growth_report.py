"""docs/growth.md from the raw values: python benches/growth_report.py RESULTS.json"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from table import machine_line

GOAL_BITS = 1.5

HEAD = """\
# How the cost grows

<!-- Made by benches/growth_report.py; do not edit. -->

`make growth` measures it anew into `{results}`, and makes this page and its picture.
{machine}

The guests are made of three traces of the corpus, tiled ({classes}; `benches/tiles.py` says how
they are chosen), three intervals in turn. Times are medians of the rounds, with their quartiles in
brackets; one thread unless it says otherwise, groups of 512 pages unless it says otherwise.

![Time by size, work, density, group size, threads; memory](growth.png)

*Bands are quartiles; colours are those of the first panel. Density: the darker, the more of the
groups are active. Threads: the grey line would be perfect. Memory: the dotted line is the goal for
statistics without history.*
"""
SIZE = """
## By guest size

Milliseconds an interval. `counts` are those by group, `update` is `GroupStats.update`, `windows`
`DistinctPages.update_all` of twelve intervals at once, by group, a twelfth of it. `hot pages` is a
call of `DirtyHistory.hot_pages` over sixteen intervals, a sixteenth of it. The last column only
reads the bitmaps, once; up to some 64 GiB the processor's caches hold all three.
"""
DENSITY = """
## By density

`GroupStats.update` on {gib} GiB, for each trace of the corpus and for pages anywhere.
"""
GROUP = """
## By group size

`GroupStats.update` on {gib} GiB, in milliseconds.
"""
THREADS = """
## By threads

Each thread updates statistics of a region of its own, of {gib} GiB; updates release the GIL.
Updates a second as a multiple of one thread's.
"""
MEMORY = """
## Memory

Reserved is what `n_bytes` says; backed is by how much the process grew, which is less where no
dirty page needed it. The goal, for statistics without history, is {goal} bits a guest page:
{verdict}.

`GroupStats` tells redirtied and fresh pages exactly, so it knows three states of each page: never
dirty, dirty in the last interval, dirty before that only. Where any page may be in any of them that
takes log2(3) = 1.58 bits, more than the goal allows. It takes 2, one bitmap for each question, and
{arrays:.2f} for the arrays of the groups: less with larger groups. What was never dirty takes none.
"""


def milliseconds(row: dict[str, Any]) -> str:
    n = row.get("n_intervals", 1)
    low, middle, high = (1e3 * seconds / n for seconds in quantiles(row["seconds"], n=4))
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    head = list(head)
    rules = ["---", *["--:"] * (len(head) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (head, rules, *rows)]


def size_lines(rows: list[dict[str, Any]]) -> list[str]:
    works = list(dict.fromkeys(row["work"] for row in rows))
    cells = {(row["gib"], row["kind"], row["work"]): milliseconds(row) for row in rows}
    guests = dict.fromkeys((gib, kind) for gib, kind, _ in cells)
    return table(
        ["guest", *works],
        ([f"{gib:g} GiB, {kind}", *(cells[gib, kind, work] for work in works)]
         for gib, kind in guests),
    )  # fmt: skip


def density_lines(rows: list[dict[str, Any]]) -> list[str]:
    ordered = sorted(rows, key=lambda row: (row["name"] is None, row["share"]))
    return table(
        ["trace", "dirty pages", "active groups", "ms"],
        ([f"`{row['name']}`" if row["name"] else "pages anywhere", f"{100 * row['share']:.3g} %",
          f"{100 * row['active']:.3g} %", milliseconds(row)] for row in ordered),
    )  # fmt: skip


def group_lines(rows: list[dict[str, Any]]) -> list[str]:
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    cells = {(row["group_pages"], row["kind"]): milliseconds(row) for row in rows}
    sizes = dict.fromkeys(pages for pages, _ in cells)
    return table(
        ["pages of a group", *kinds],
        ([f"{pages}", *(cells[pages, kind] for kind in kinds)] for pages in sizes),
    )


def thread_lines(rows: list[dict[str, Any]]) -> list[str]:
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    taken_s = {(row["threads"], row["kind"]): median(row["seconds"]) for row in rows}
    numbers = dict.fromkeys(n for n, _ in taken_s)
    return table(
        ["threads", *kinds],
        ([f"{n}", *(f"{n * taken_s[1, kind] / taken_s[n, kind]:.2f}" for kind in kinds)]
         for n in numbers),
    )  # fmt: skip


def bits(row: dict[str, Any], which: str) -> float:
    """A guest page."""
    return float(8 * row[f"{which}_bytes"] / row["n_pages"])


def memory_lines(rows: list[dict[str, Any]]) -> list[str]:
    def mib(row: dict[str, Any], which: str) -> str:
        gib = row["n_pages"] / (1 << 18)
        return f"{row[f'{which}_bytes'] / gib / (1 << 20):.3g}"

    return table(
        ["feature, guest", "reserved, bits a page", "MiB a guest GiB", "backed, bits a page",
         "MiB a guest GiB"],
        ([f"{row['feature']}, {row['kind']}", f"{bits(row, 'reserved'):.2f}", mib(row, "reserved"),
          f"{bits(row, 'backed'):.2f}", mib(row, "backed")] for row in rows),
    )  # fmt: skip


def array_bits(rows: list[dict[str, Any]]) -> float:
    """What is reserved beyond the two bitmaps."""
    return min(bits(row, "reserved") for row in rows if row["feature"] == "GroupStats") - 2


def verdict(rows: list[dict[str, Any]]) -> str:
    alone = [row for row in rows if row["feature"] == "GroupStats"]
    told = []
    for which in ("reserved", "backed"):
        most = max(bits(row, which) for row in alone)
        told.append(f"{which} {most:.2f}, {'reached' if most <= GOAL_BITS else 'MISSED'}")
    return "; ".join(told)


def markdown(path: Path) -> str:
    found = json.loads(path.read_text())
    head = HEAD.format(
        results=path.as_posix(), machine=machine_line(found["machine_info"]),
        classes=", ".join(f"{kind} is `{name}`" for kind, name in found["classes"].items()),
    )  # fmt: skip
    middle_gib, threaded_gib = found["middle_gib"], found["by_threads"][0]["gib"]
    memory = MEMORY.format(
        goal=GOAL_BITS, verdict=verdict(found["memory"]), arrays=array_bits(found["memory"])
    )
    parts = [
        [head],
        [SIZE, *size_lines(found["by_size"])],
        [DENSITY.format(gib=middle_gib), *density_lines(found["by_density"])],
        [GROUP.format(gib=middle_gib), *group_lines(found["by_group"])],
        [THREADS.format(gib=threaded_gib), *thread_lines(found["by_threads"])],
        [memory, *memory_lines(found["memory"])],
    ]
    return "\n".join(line for part in parts for line in part)


if __name__ == "__main__":
    print(markdown(Path(sys.argv[1])))
