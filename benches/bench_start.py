"""What one waits for: `import mempattern` beyond numpy's own import, and each command until its
first output.

In an environment of their own with a plain copy of the package: an editable one looks for changes
of the C code first, and takes twice as long.
"""

import compileall
import shutil
import subprocess
import sysconfig
import time
import venv
from pathlib import Path

import pytest
import tiles
from conftest import keep

import mempattern
import mempattern_commands
from mempattern import _native

HERE = Path(__file__).parent
TRACE = str(tiles.CORPUS / "redis-updates.mpt")
LINK = ("--bandwidth", "1Gbit", "--max-downtime", "300ms")
COMMANDS = {
    "help": ("mempattern", "--help"),
    "trace-help": ("trace", "--help"),
    "migrate-help": ("mempattern", "migrate", "--help"),
    "doctor": ("mempattern", "doctor"),
    "report": ("mempattern", "report", TRACE),
    "report-json": ("mempattern", "report", "--json", TRACE),
    "predict": ("mempattern", "predict", TRACE, *LINK),
    "replay": ("mempattern", "replay", TRACE, *LINK, "--policy", "stock"),
}


@pytest.fixture(scope="module")
def python():
    """Of an environment that has the package as pip would install it."""
    root = HERE.parent / "build/start"
    venv.create(root, clear=True)
    paths = {"base": str(root), "platbase": str(root)}
    site = Path(sysconfig.get_path("purelib", vars=paths))
    shutil.copytree(
        Path(mempattern.__file__).parent, site / "mempattern",
        ignore=shutil.ignore_patterns("__pycache__"),
    )  # fmt: skip
    shutil.copy(_native.__file__, site / "mempattern")
    shutil.copy(mempattern_commands.__file__, site)
    compileall.compile_dir(site, quiet=1)
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return str(root / "bin/python")


def run_s(*arguments):
    start = time.perf_counter()
    subprocess.run(arguments, check=True)
    return time.perf_counter() - start


def first_output_s(*arguments):
    start = time.perf_counter()
    command = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert command.stdout.read(1), f"{arguments} printed nothing"
    taken_s = time.perf_counter() - start
    command.communicate()
    return taken_s


def bench_import(benchmark, python):
    numpy_s = []
    benchmark.pedantic(
        lambda: run_s(python, "-c", "import mempattern"),
        setup=lambda: numpy_s.append(run_s(python, "-c", "import numpy")),
        rounds=20, warmup_rounds=2,
    )  # fmt: skip
    ours = benchmark.stats.stats.data
    beyond = [1e3 * (our - its) for our, its in zip(ours, numpy_s[-len(ours) :], strict=True)]
    keep(benchmark, "import numpy", beyond, at_most=120, unit=" ms")


@pytest.mark.parametrize("name", COMMANDS)
def bench_first_output(benchmark, python, name):
    command, *arguments = COMMANDS[name]
    program = f"import sys, mempattern_commands as c; sys.exit(c.{command}())"
    taken_s = []
    benchmark.pedantic(
        lambda: taken_s.append(first_output_s(python, "-c", program, *arguments)),
        rounds=10, warmup_rounds=2,
    )  # fmt: skip
    keep(benchmark, "a user's patience", [1e3 * s for s in taken_s[2:]], at_most=250, unit=" ms")
