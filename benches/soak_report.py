"""docs/abuse.md from what was run: python benches/soak_report.py FUZZED.json TRACED.json"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

MIB = 1 << 20
FOUND = Path(__file__).with_name("soak-found.md")
TARGETS = {
    "stream": "QEMU's migration stream, whole and in pieces",
    "bitmaps": "counts, pages and tallies of bitmaps by every kernel, against plain loops",
    "bitmaps_simde": "the same, with AVX-512 and NEON emulated",
    "kernels": "statistics, histories and windows by every kernel, against plain loops",
    "kernels_simde": "the same, with AVX-512 and NEON emulated",
    "follow": "statistics, history and windows of regions that grow, against ones made anew",
    "trace_reader": "trace files, damaged and hostile",
    "qmp_replies": "what a QMP server answers",
    "texts": "QEMU's monitor and command line, lists of mappings, the facts in a trace",
}

HEAD = """\
# Proof against abuse

<!-- Made by benches/soak_report.py, with benches/soak-found.md; do not edit. -->

`make soak` runs all of this and makes this page of `{fuzzed}` and
`{traced}`; CI runs the short form. The times in the table are the defaults; what is below
comes of {ran}.

| what | in CI | `make soak` |
|---|---|---|
| C tests under AddressSanitizer and UndefinedBehaviorSanitizer | all (`make test-c`) | |
| C tests under ThreadSanitizer | `make test-threads` | also the slower ones (`SLOW_RACES`) |
| memory that runs out at every single call for it | `test_enomem` | |
| interrupted calls, half-read rings, memslots that change | `test_kvm_log`, `test_kvm_ring` | |
| failing calls on a process, clocks, stops | `test_process_faults`, `tests/test_clocks.py` | |
| interrupted and short reads of a stream | `test_interrupted` | |
| threads hammering one object of Python's | `tests/test_threads.py` | |
| full, slow, stuck and broken disks; kills at any moment | `tests/test_trace_disk.py` | |
| statistics, windows, traces under any order of calls | `tests/test_*stateful.py` | |
| properties, by hypothesis | 40 cases each, the same ones | 300 others each (`make search`) |
| flat memory, tracing a busy process | `tests/test_flat_memory.py` | an hour (`SOAK_MIN`) |
| coverage-guided fuzzing | 7 s a target (`make fuzz`) | beside it, as long in all (`FUZZ_S`) |

## Fuzzing

With libFuzzer, the C targets under AddressSanitizer and UndefinedBehaviorSanitizer; seeds are
recorded guests and streams of a real QEMU. Times and runs add up over all that was ever kept;
edges are those of the library that the last run reached, in Python its branches.

| target | what is fuzzed | time | runs | edges | found |
|---|---|---|---|---|---|
"""


def duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.1f} min"


def ran(fuzzed: dict[str, Any], traced: dict[str, Any]) -> str:
    """For how long, in words."""
    times = [of["seconds"] for of in fuzzed.values()]
    return (
        f"{duration(sum(times))} of fuzzing, {duration(min(times))} to {duration(max(times))} a "
        f"target, and {duration(60 * traced['minutes'])} of tracing"
    )


def tracing(found: dict[str, Any]) -> str:
    def change(name: str) -> str:
        return f"{found[name] / MIB:.1f} MiB, {found[name + '_growth'] / MIB:+.2f} MiB"

    return f"""
## A busy process, traced for {duration(60 * found["minutes"])}

It writes to a random tenth of 256 MiB again and again, maps and unmaps, makes and ends threads.
{found["intervals"]:,} intervals were recorded, {found["dropped"]} dropped, with
{found["lost_pages"]:,} pages lost. Growth is from the first third of the samples to the last, after
a tenth to warm up.

| | median, and its growth |
|---|---|
| memory of the tracer | {change("tracer_bytes")} |
| memory of the target | {change("target_bytes")} |
| descriptors of the tracer | {found["tracer_descriptors"]:.0f}, {found["tracer_descriptors_growth"]:+.0f} |
| descriptors of the target | {found["target_descriptors"]:.0f}, {found["target_descriptors_growth"]:+.0f} |
| the trace | {found["trace_bytes"] / MIB:.1f} MiB; per second in the second half {found["trace_rate_ratio"]:.2f} times that in the first |
"""  # noqa: E501


def page(fuzzed_in: Path, traced_in: Path) -> str:
    fuzzed, traced = (json.loads(path.read_text()) for path in (fuzzed_in, traced_in))
    rows = [
        f"| {target} | {what} | {duration(of['seconds'])} | {of['runs']:,} | {of['coverage']:,} | "
        f"{of['found']} |\n"
        for target, what in TARGETS.items()
        if (of := fuzzed.get(target))
    ]
    head = HEAD.format(
        fuzzed=fuzzed_in.as_posix(), traced=traced_in.as_posix(), ran=ran(fuzzed, traced)
    )
    return head + "".join(rows) + tracing(traced) + "\n" + FOUND.read_text()


if __name__ == "__main__":
    sys.stdout.write(page(*map(Path, sys.argv[1:])))
