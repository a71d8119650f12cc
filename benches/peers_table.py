"""The peers' table of a bench run, one row a piece of work: python benches/peers_table.py
RESULTS.json >> docs/benchmarks.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import peers
from peers.work import MAIN, WORK
from table import Row, rows_of

Found = tuple[str, dict[str, Any]]
"""A bench's name and its extra_info."""
COLUMNS = tuple(name for name in peers.MODULES if name != peers.OURS)

HEAD = """
## Peers

The same work on the same bitmaps, in one run, and in one thread but where it says otherwise; from
`{results}`. `ours` is the library's time, the median; below a peer is its time divided by ours, the
median of the rounds and in brackets their quartiles. A peer slower than {patience_s:g} s a call was
timed once, just before the rounds, and has no quartiles. What each peer found was compared with
what ours found before anything was timed. `limit` is what only reads the same bitmaps, or moves
what has to be moved (of traces: the raw bytes of the file).

`overlap` and `runs` are all of `bitmaps.seen`. Work on windows is `break_off` and `update_all` of
twelve intervals at once, as all peers have them at once, with one group a region for `windows`.
Once all bitmaps have been seen no page is fresh: what is timed of `overlap` and `update` finds
redirtied pages, and fresh ones only in the calls before.

The bitmaps are those of `benches/data/corpus`: *corpus* is all {n_traces} traces one after another,
as they are; the others are one trace tiled to a guest's size ({classes}; `benches/tiles.py` has the
rule). Sets (pyroaring, CRoaring) and arrays (bitarray) are made of them beforehand, which is not
timed, though KVM gives bitmaps. Traces are read back into what each peer works with. Only ours
are checksummed, synced to the disk as they are written, and safe whatever happens to the process; a
second thread of ours does that.

`-`: {absent}. Missed: below 1 for a peer; in the main rows (bold) below 10 for one of Python's
world, and below 0.8 for the limit.{missing}
"""
ABSENT = (
    "the peer has no such operation: counts by group in windows and whole updates are beyond sets "
    "and arrays of bits, Debian's CRoaring cannot shift a set to count its runs, and has the same "
    "files as pyroaring; Numba and plain C leave files to others"
)


def is_of_peers(name: str) -> bool:
    return name.startswith("bench_peers[")


def parts_of(name: str) -> list[str]:
    """Work, size, class."""
    return name.removeprefix("bench_peers[").removesuffix("]").split("-")


def cells(found: Found) -> tuple[float, dict[str, Row]]:
    """Ours in ms, and the others' rows by name."""
    rows = {row.against: row for row in rows_of(*found)}
    return rows.pop(peers.OURS).median, rows


def missed(rows: dict[str, Row]) -> str:
    return ", ".join(n for n in COLUMNS if n in rows and rows[n].goal.endswith("MISSED"))


def peers_lines(benches: Iterable[Found]) -> list[str]:
    """For a terminal; nothing where no bench is of peers."""
    ours = [found for found in benches if is_of_peers(found[0])]
    if not ours:
        return []
    columns = " ".join(f"{name:>9}" for name in COLUMNS)
    lines = [f"{'their time / ours':<32} {'ours, ms':>9} {columns}  missed"]
    for found in ours:
        my_ms, rows = cells(found)
        ratios = [f"{rows[name].median:9.3g}" if name in rows else f"{'-':>9}" for name in COLUMNS]
        start = f"{' '.join(parts_of(found[0])):<32} {my_ms:9.3g}"
        lines.append(" ".join([start, *ratios]) + f"  {missed(rows)}")
    why = {why: None for _, info in ours for why in info["missing"].values()}
    return lines + list(why)


def markdown(path: Path) -> str:
    benches = json.loads(path.read_text())["benchmarks"]
    found = [(bench["name"], bench["extra_info"]) for bench in benches]
    one = found[0][1]
    head = HEAD.format(
        results=path.as_posix(), patience_s=one["patience_s"], n_traces=one["n_traces"],
        classes=", ".join(f"*{kind}* is `{name}`" for kind, name in one["classes"].items()),
        absent=ABSENT, missing="".join(f" Not measured: {why}." for why in one["missing"].values()),
    )  # fmt: skip
    lines = [head, row_of("work", "bitmaps", "ours", *COLUMNS, "missed")]
    lines.append(row_of(*["---"] * 2, *["--:"] * (len(COLUMNS) + 1), "---"))
    for bench in sorted(found, key=lambda bench: list(WORK).index(parts_of(bench[0])[0])):
        work, *bitmaps = parts_of(bench[0])
        my_ms, rows = cells(bench)
        name = f"**{work}**" if work in MAIN else work
        ratios = [ratio(rows[name]) if name in rows else "-" for name in COLUMNS]
        lines.append(row_of(name, ", ".join(bitmaps), f"{my_ms:.3g} ms", *ratios, missed(rows)))
    lines += ["", "| work | what is found |", "|---|---|"]
    return "\n".join([*lines, *(row_of(work, what) for work, what in WORK.items())])


def ratio(row: Row) -> str:
    return f"{row.median:.3g}" + (f" ({row.spread})" if row.spread else "")


def row_of(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(markdown(Path(sys.argv[1])))
