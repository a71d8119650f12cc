"""The corpus: dirty bitmaps of guests and programs that run here, recorded as traces.

python benches/corpus.py DIRECTORY [NAME...] [--seconds S]

Each case gives NAME.mpt, collected ten times a second for 40 seconds. Those that exist are kept, so
that an interrupted run goes on; one that fails is told, and the others are recorded all the same.
Needs /dev/kvm for the guest program, the right to trace processes, and packages of Debian, which
are installed when run as root. Nothing is left running, also when this is killed.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from corpus_guests import LINUX, MICRO_VMS
from corpus_parts import Case, install
from corpus_programs import PROGRAMS

from mempattern.trace import TraceWriter

PERIOD_S = 0.1
SECONDS = 40.0
CASES = {case.name: case for case in (*MICRO_VMS, *PROGRAMS, *LINUX)}


def record(case: Case, directory: Path, seconds: float = SECONDS) -> Path:
    """NAME.mpt, whole or not at all. Raises `RuntimeError`, `OSError` or `MempatternError`."""
    path = directory / f"{case.name}.mpt"
    partial = directory / f"{case.name}.partial"
    versions = install(case.packages)
    n_intervals = round(seconds / PERIOD_S)
    try:
        with tempfile.TemporaryDirectory(prefix="corpus-") as folder:
            with case.start(Path(folder)) as opened:
                versions |= json.loads(opened.facts.get("versions", "{}"))
                facts = {
                    "case": case.name,
                    "what": case.what,
                    "date": datetime.now(UTC).isoformat(timespec="seconds"),
                    "recorder": shlex.join(["benches/corpus.py", "DIRECTORY", case.name]),
                    "python": sys.version.split()[0],
                } | ({} if case.seed is None else {"seed": str(case.seed)})
                facts = opened.facts | facts | {"versions": json.dumps(versions)}
                source = opened.source
                with TraceWriter(
                    partial, source.regions, source.provenance, facts, force=True
                ) as writer:
                    for interval in source.intervals(PERIOD_S, n_intervals):
                        writer.write(interval)
            if writer.written < n_intervals:
                raise RuntimeError(f"only {writer.written} intervals of {n_intervals}: it ended")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each trace (default 40)")
    options = parser.parse_intermixed_args()
    if unknown := set(options.names) - set(CASES):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # with everything cleaned up
    options.directory.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in options.names or CASES:
        if (options.directory / f"{name}.mpt").exists():
            continue
        start = time.monotonic()
        try:
            path = record(CASES[name], options.directory, options.seconds)
        except Exception as error:
            failed += 1
            print(f"{name}: failed: {type(error).__name__}: {error}", flush=True)
            continue
        kb = os.path.getsize(path) / 1e3
        print(f"{name}: {kb:.0f} kB, {time.monotonic() - start:.0f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
