"""`import mempattern`, with numpy's own import taken out."""

import subprocess
import sys
import time

from conftest import keep


def import_s(module):
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - start


def bench_import(benchmark):
    numpy_s = []
    benchmark.pedantic(
        lambda: import_s("mempattern"),
        setup=lambda: numpy_s.append(import_s("numpy")),
        rounds=20, warmup_rounds=2,
    )  # fmt: skip
    ours = benchmark.stats.stats.data
    beyond = [1e3 * (our - its) for our, its in zip(ours, numpy_s[-len(ours) :], strict=True)]
    keep(benchmark, "import numpy", beyond, at_most=120, unit=" ms")
