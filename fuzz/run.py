"""Coverage-guided fuzzing with libFuzzer: `python fuzz/run.py [--seconds S] [TARGET ...]`.

stream         QEMU's migration stream, whole and in pieces (csrc/stream)
bitmaps        counts, pages and tallies of bitmaps by every kernel, against plain loops
kernels        statistics, histories and windows by every kernel, against plain loops
*_simde        these two with AVX-512 and NEON emulated (libsimde-dev)
follow         statistics, history and windows of regions that grow, against ones made anew
trace_reader   trace files, damaged and hostile (Python, under atheris)
qmp_replies    what a QMP server answers (Python, under atheris)
texts          monitor, command line, mappings, facts of a trace (Python, under atheris)

The C targets are built by clang with AddressSanitizer and UndefinedBehaviorSanitizer, which need
`apt-get install clang libclang-rt-dev`; the others by `pip install '.[fuzz]'`. What is
found lies in build/fuzz/found/TARGET: give it to build/fuzz/TARGET, or to the target's Python file,
to see it again. Inputs that reach something new are kept in build/fuzz/corpus and go on from there.
Seeds are real: recorded guests and streams (seeds.py).

--results FILE keeps the counts; whoever fuzzes again adds to them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import seeds

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build/fuzz"
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
FLAGS = [
    "-g", "-O2", "-std=gnu11", "-fno-omit-frame-pointer", "-Wall", "-Wextra",
    "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-DMPAT_STREAM_FROM=2048",
]  # fmt: skip
COUNTED = "-fsanitize=fuzzer-no-link"  # the library, and not what it is held to
INCLUDE = [f"-I{ROOT / 'csrc' / part}" for part in ("include", "bitmap", "stats", "tests")]
SIMDE = ["-DMPAT_SIMDE", "-Wno-psabi"]
C_TARGETS = {
    "stream": [],
    "bitmaps": [],
    "bitmaps_simde": SIMDE,
    "kernels": [],
    "kernels_simde": SIMDE,
    "follow": [],
}
PYTHON_TARGETS = ("trace_reader", "qmp_replies", "texts")
LIMITS = ("-timeout=30", "-rss_limit_mb=2048", "-print_final_stats=1")
# Without seeds libFuzzer would not get past a few bytes in seconds, unless it is told to.
LENGTHS = {True: ("-max_len=4096",), False: ("-max_len=2048", "-len_control=0")}
# What was freed is used again soon: fresh memory took longer than all else.
ASAN = "quarantine_size_mb=1:malloc_context_size=4"


def compiled(source: Path, options: list[str]) -> Path:
    """Its object file, made anew if anything in csrc/ or fuzz/ is newer."""
    name = "-".join(source.relative_to(ROOT).with_suffix("").parts) + "".join(options[:1])
    made = BUILD / f"{name}.o"
    used = [source, *ROOT.glob("csrc/**/*.h"), *ROOT.glob("fuzz/*.h")]
    if not made.exists() or made.stat().st_mtime < max(path.stat().st_mtime for path in used):
        counted = [COUNTED] if source.is_relative_to(ROOT / "csrc") else []
        command = ["clang", *FLAGS, *counted, *options, *INCLUDE]
        subprocess.run([*command, "-c", source, "-o", made], check=True)
    return made


def build(target: str) -> Path:
    options = C_TARGETS[target]
    sources = [ROOT / "fuzz" / f"{target.removesuffix('_simde')}.c"]
    for part in ("bitmap", "stats", "stream"):
        sources += sorted((ROOT / "csrc" / part).glob("*.c"))
    sources.remove(ROOT / "csrc/stats/arena.c")
    sources.append(ROOT / "fuzz/arena.c")
    objects = [compiled(source, options) for source in sources]
    subprocess.run(
        ["clang", "-fsanitize=fuzzer,address,undefined", *objects, "-lm", "-o", BUILD / target],
        check=True,
    )
    return BUILD / target


def fuzz(target: str, seconds: int) -> dict[str, int]:
    """What libFuzzer counted, and how many inputs it found that break something."""
    found, corpus = BUILD / "found" / target, BUILD / "corpus" / target
    for directory in (found, corpus, BUILD / "seeds" / target):
        directory.mkdir(parents=True, exist_ok=True)
    if target in C_TARGETS:
        command = [str(build(target))]
    else:
        command = [sys.executable, str(ROOT / "fuzz" / f"{target}.py")]
    before = set(found.iterdir())
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=MEMORY) as scratch:
        done = subprocess.run(
            [*command, *LIMITS, *LENGTHS[target in C_TARGETS], f"-max_total_time={seconds}",
             f"-artifact_prefix={found}/", corpus, BUILD / "seeds" / target],
            capture_output=True, text=True, errors="replace", check=False,
            env=os.environ | {"PYTHONPATH": str(ROOT / "fuzz"), "MEMPATTERN_KERNEL": "",
                              "ASAN_OPTIONS": ASAN, "TMPDIR": scratch},
        )  # fmt: skip
    said = done.stderr + done.stdout
    runs = re.search(r"stat::number_of_executed_units: *(\d+)", said)
    coverage = re.findall(r"cov: (\d+)", said)
    new = sorted(set(found.iterdir()) - before)
    counts = {
        "seconds": round(time.monotonic() - began),
        "runs": int(runs[1]) if runs else 0,
        "coverage": int(coverage[-1]) if coverage else 0,
        "found": len(new) or int(done.returncode != 0),
    }
    print(f"{target:14} {counts['runs']:9} runs in {counts['seconds']} s, "
          f"{counts['coverage']} edges, {counts['found']} found", flush=True)  # fmt: skip
    if counts["found"]:
        print(said[-4000:], *new, sep="\n", file=sys.stderr)
    return counts


def keep(path: Path, target: str, counts: dict[str, int]) -> None:
    """Add to what the file says of earlier runs, but for the edges, which are the last one's."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    of_target = kept.setdefault(target, dict.fromkeys(counts, 0))
    for name, n in counts.items():
        of_target[name] = n if name == "coverage" else of_target[name] + n
    path.write_text(json.dumps(kept, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=7, help="for each target")
    parser.add_argument("--results", type=Path)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    given = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    seeds.write(BUILD / "seeds")
    n_found = 0
    for target in given.targets or [*C_TARGETS, *PYTHON_TARGETS]:
        counts = fuzz(target, given.seconds)
        n_found += counts["found"]
        if given.results:
            keep(given.results, target, counts)
    return n_found != 0


if __name__ == "__main__":
    sys.exit(main())
