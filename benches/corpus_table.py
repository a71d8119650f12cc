"""The corpus as a table, for its README: python benches/corpus_table.py DIRECTORY"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from mempattern.regions import Region
from mempattern.trace import TraceReader

HEAD = """\
# The corpus

Dirty bitmaps of real guests and programs, recorded by `make corpus` (`benches/corpus.py`); this
table is made from them by `benches/corpus_table.py`. They hold bitmaps and facts about the
recording, and nothing of the memory itself, so the library's own license covers them. The facts
(command line, versions of the packages, seed, accelerator, date, kernel) are in each file:
`sqlite3 FILE.mpt "select * from meta"`.

*Held out*: no threshold, forecast or policy of the library was chosen by what it does on these.

RAM is what is traced: a guest's memory, or the spans of a process's writable addresses at the end.
Dirty pages are counted once an interval; the peak is the busiest interval's rate. Pages touched are
distinct ones. Of a process its own writes are seen, not those of processes that it shares memory
with: of PostgreSQL that is one backend. What a process has is no guest's RAM: it has no zero pages
to tell, and parts of its spans are not mapped. The table has no verdicts, on purpose.

Linux runs under TCG alone: the KVM of the machine that these are from runs the guest program, but
not Linux, which stops in its first instructions.

"""
COLUMNS = (
    "trace", "what ran", "seen by", "RAM, MiB", "s", "intervals",
    "dirty pages/s, mean", "peak", "pages touched", "kB",
)  # fmt: skip
N_WORDS = 3  # columns of them; the others are numbers


def n_pages(bitmap: np.ndarray) -> int:
    return int(np.bitwise_count(bitmap).sum())


def joined(ever: np.ndarray, was: Region, now: Region, words: np.ndarray) -> np.ndarray:
    """Both bitmaps of a region that may have grown since, to the front too."""
    grown = words.copy()
    first = (was.address - now.address) // now.page_bytes // 64  # it grows by whole groups
    grown[first : first + len(ever)] |= ever
    return grown


def row(path: Path) -> str:
    touched: dict[str, tuple[Region, np.ndarray]] = {}
    duration_s, dirty, peak = 0.0, 0, 0.0
    with TraceReader(path) as trace:
        for interval in trace:
            n = sum(map(n_pages, interval.bitmaps.values()))
            dirty, peak = dirty + n, max(peak, n / interval.duration_s)
            duration_s += interval.duration_s
            for region in interval.regions:
                words = interval.bitmaps[region.name]
                was, ever = touched.get(region.name, (region, words))
                touched[region.name] = region, joined(ever, was, region, words)
        mib = sum(region.n_pages * region.page_bytes for region in interval.regions) >> 20
        n_touched = sum(n_pages(ever) for _, ever in touched.values())
        return line(
            f"`{path.stem}`", trace.meta["what"], trace.provenance.source, mib,
            f"{duration_s:.1f}", len(trace), f"{dirty / duration_s:.0f}", f"{peak:.0f}",
            n_touched, f"{path.stat().st_size / 1e3:.0f}",
        )  # fmt: skip


def line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    paths = sorted(Path(sys.argv[1]).glob("*.mpt"))
    rules = ["---" if i < N_WORDS else "--:" for i in range(len(COLUMNS))]
    print(HEAD + "\n".join([line(*COLUMNS), line(*rules), *map(row, paths)]))
    print(f"\n{len(paths)} traces, {sum(path.stat().st_size for path in paths) / 1e6:.1f} MB.")


if __name__ == "__main__":
    main()
