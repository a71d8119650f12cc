"""Does anything grow while a busy process is traced? python benches/soak.py MINUTES OUT.json

The target writes to a random tenth of its memory again and again, maps and unmaps, makes and ends
threads. The tracer's and the target's resident memory, their descriptors and the trace's size are
sampled; what was sampled in the first tenth is warming up.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

from mempattern.trace import TraceReader

EVERY_MS = 100
N_SAMPLES = 300
MIB = 1 << 20
FLAT_BYTES = 4 * MIB
"""What resident memory may grow by after the first tenth: what allocators keep comes and goes."""

TARGET = """
import mmap, random, sys, threading, time
random.seed(1)
memory = mmap.mmap(-1, 256 << 20)
for at in range(0, len(memory), 4096):
    memory[at] = 1
print("ready", flush=True)
while True:
    more = mmap.mmap(-1, 4 << 20)
    begin = random.randrange(0, len(memory) * 9 // 10 // 4096)
    for page in range(begin, begin + len(memory) // 40960):
        memory[page * 4096] = page & 255
    for at in range(0, len(more), 8192):
        more[at] = 1
    thread = threading.Thread(target=time.sleep, args=(0.001,))
    thread.start()
    thread.join()
    more.close()
    time.sleep(0.02)
"""


def sample(tracer: int, target: int, trace: Path) -> dict[str, float]:
    found: dict[str, float] = {"at_s": time.monotonic(), "trace_bytes": size_of(trace)}
    for name, pid in (("tracer", tracer), ("target", target)):
        process = Path(f"/proc/{pid}")
        pages = int((process / "statm").read_text().split()[1])
        found[f"{name}_bytes"] = pages * os.sysconf("SC_PAGESIZE")
        found[f"{name}_descriptors"] = len(os.listdir(process / "fd"))
    return found


def size_of(trace: Path) -> int:
    """With its log."""
    parts = [trace, Path(f"{trace}-wal")]
    return sum(part.stat().st_size for part in parts if part.exists())


def growth(samples: list[dict[str, float]], name: str) -> float:
    """From the first third to the last, medians, without what was warming up."""
    values = [one[name] for one in samples[len(samples) // 10 :]]
    third = max(len(values) // 3, 1)
    return median(values[-third:]) - median(values[:third])


def run(minutes: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="mempattern-soak-") as directory:
        trace = Path(directory) / "soak.mpt"
        target = subprocess.Popen([sys.executable, "-c", TARGET], stdout=subprocess.PIPE)
        assert target.stdout is not None
        target.stdout.readline()
        command = ["mempattern-trace", str(target.pid), "--interval", str(EVERY_MS / 1000),
                   "--duration", str(minutes * 60), "--quiet", "-o", str(trace)]  # fmt: skip
        tracer = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        samples = []
        try:
            while tracer.poll() is None:
                time.sleep(minutes * 60 / N_SAMPLES)
                if tracer.poll() is None and trace.exists():
                    with suppress(OSError):  # it may end meanwhile
                        samples.append(sample(tracer.pid, target.pid, trace))
        finally:
            tracer.terminate()
            tracer.wait()
            if target.poll() is not None:
                raise SystemExit("the target has ended, which tracing must never cause")
            target.kill()
            target.wait()
        if tracer.returncode != 0:
            raise SystemExit(f"the tracer ended with {tracer.returncode}")
        return summary(minutes, samples, trace)


def summary(minutes: float, samples: list[dict[str, float]], trace: Path) -> dict[str, Any]:
    with TraceReader(trace) as reader:
        n_intervals, dropped = len(reader), reader.dropped
        lost_pages = sum(interval.lost_pages for interval in reader)
    half, last = samples[len(samples) // 2], samples[-1]
    first = samples[len(samples) // 10]
    rates = [
        (b["trace_bytes"] - a["trace_bytes"]) / (b["at_s"] - a["at_s"])
        for a, b in ((first, half), (half, last))
    ]
    names = ("tracer_bytes", "target_bytes", "tracer_descriptors", "target_descriptors")
    return {
        "minutes": minutes,
        "intervals": n_intervals,
        "dropped": dropped,
        "lost_pages": lost_pages,
        "trace_bytes": last["trace_bytes"],
        "trace_rate_ratio": rates[1] / rates[0],  # second half to first: 1 is linear
        **{name: median(one[name] for one in samples) for name in names},
        **{f"{name}_growth": growth(samples, name) for name in names},
        "samples": samples,
    }


def main(minutes: str, out: str) -> None:
    # Who makes both end is heard, though a shell has what it runs in the background ignore Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    found = run(float(minutes))
    Path(out).write_text(json.dumps(found, indent=1) + "\n")
    for name, value in found.items():
        if isinstance(value, int | float):
            print(f"{name:28} {value:,.2f}".rstrip("0").rstrip("."))
    if found["tracer_bytes_growth"] > FLAT_BYTES or found["tracer_descriptors_growth"] > 0:
        raise SystemExit("the tracer's memory or its descriptors grow")


if __name__ == "__main__":
    main(*sys.argv[1:])
