"""The programs of the corpus: Debian's, traced as processes while something keeps them busy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from corpus_load import SEED
from corpus_parts import Case, Opened, running, says, traced, wait_for

LOAD = str(Path(__file__).with_name("corpus_load.py"))
PYTHON = "/usr/bin/python3"  # Debian's
WARM_UP_S = 3.0


def _shown(*commands: list[str]) -> list[str]:
    """More than one, as a shell would have them side by side."""
    words = [word.replace(LOAD, "corpus_load.py") for word in commands[0]]
    for command in commands[1:]:
        words += ["&", *(word.replace(LOAD, "corpus_load.py") for word in command)]
    return words


# ---- servers ---------------------------------------------------------------------------------


@contextmanager
def served(server: list[str], load: str | None, folder: Path) -> Iterator[Opened]:
    """A server on the socket `folder`/socket, and its load by corpus_load.py."""
    socket, log, said = folder / "socket", folder / "server.log", folder / "load.log"
    server = [word.replace("FOLDER", str(folder)) for word in server]
    with running(server, log) as process:
        wait_for(socket.exists, process, log)
        if load is None:
            time.sleep(WARM_UP_S)
            with traced(process.pid, server, folder) as opened:
                yield opened
            return
        client = [sys.executable, LOAD, load, str(socket)]
        with running(client, said) as busy:
            wait_for(says(said, "ready"), busy, said)
            time.sleep(WARM_UP_S)
            with traced(process.pid, _shown(server, ["python", *client[1:]]), folder) as opened:
                yield opened


REDIS = ["redis-server", "--port", "0", "--unixsocket", "FOLDER/socket", "--save", "",
         "--dir", "FOLDER"]  # fmt: skip
MEMCACHED = ["memcached", "-u", "root", "-m", "160", "-t", "2", "-s", "FOLDER/socket"]


@contextmanager
def postgres(folder: Path) -> Iterator[Opened]:
    """The backend that serves pgbench: its own memory, and what it writes in the shared buffers."""
    user = None
    if os.geteuid() == 0:  # as which the server refuses to run
        user = "postgres"
        shutil.chown(folder, user)
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
    data, log, said = folder / "data", folder / "server.log", folder / "pgbench.log"

    def run(program: str, *arguments: str) -> str:
        leash = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups"] if user else []
        return subprocess.check_output(
            [*leash, str(programs / program), *arguments],
            text=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder,
        )  # fmt: skip

    run("initdb", "-D", str(data), "-A", "trust", "-U", "postgres", "--no-sync")
    server = [str(programs / "postgres"), "-D", str(data), "-k", str(folder), "-h", ""]
    server += ["-c", "shared_buffers=160MB", "-c", "fsync=off", "-c", "max_wal_size=4GB"]
    where = ["-h", str(folder), "-U", "postgres"]
    pgbench = [str(programs / "pgbench"), *where, "-n", "-c", "1", "-R", "250", "-T", "150",
               f"--random-seed={SEED}", "postgres"]  # fmt: skip
    find = "select pid from pg_stat_activity where application_name = 'pgbench'"
    with running(server, log, user=user) as process:
        wait_for((folder / ".s.PGSQL.5432").exists, process, log)
        time.sleep(1)
        run("pgbench", *where, "-i", "-q", "-s", "10", "postgres")
        with running(pgbench, said, user=user) as busy:
            time.sleep(10)  # the buffers fill with pages
            pid = run("psql", *where, "-A", "-t", "-c", find, "postgres").strip()
            if busy.poll() is not None or not pid:
                raise RuntimeError(f"pgbench ended: {said.read_text()[-200:]}")
            shown = _shown(server, ["pgbench", *pgbench[1:]])
            with traced(int(pid), shown, folder) as opened:
                yield opened


# ---- programs on their own -------------------------------------------------------------------


@contextmanager
def computing(what: str, folder: Path) -> Iterator[Opened]:
    """A Python program of corpus_load.py, under Debian's Python."""
    log = folder / "log"
    command = [PYTHON, LOAD, what, *([f"{folder}/database"] if what == "sqlite" else [])]
    with running(command, log) as process:
        wait_for(says(log, "ready"), process, log)
        time.sleep(WARM_UP_S)
        with traced(process.pid, _shown(command), folder) as opened:
            yield opened


@contextmanager
def compiler(folder: Path) -> Iterator[Opened]:
    """cc1plus with one long file of the C++ library's templates, from its start."""
    source, log = folder / "long.ii", folder / "log"
    work = "\n".join(f"template long work<{i}>(long);" for i in range(N_TEMPLATES))
    (folder / "long.cc").write_text(_CXX + work)
    subprocess.run(["g++", "-E", str(folder / "long.cc"), "-o", str(source)], check=True)
    cc1plus = subprocess.check_output(["g++", "-print-prog-name=cc1plus"], text=True).strip()
    collects = ["--param", "ggc-min-expand=1", "--param", "ggc-min-heapsize=16384"]  # stays small
    command = [cc1plus, "-fpreprocessed", "-quiet", "-O2", *collects, str(source),
               "-o", f"{folder}/long.s"]  # fmt: skip
    with running(command, log) as process:
        time.sleep(0.2)
        with traced(process.pid, command, folder) as opened:
            yield opened


N_TEMPLATES = 18
_CXX = """
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>
template <int N> struct Row { long key; std::string name; double values[N % 7 + 1]; };
template <int N> bool operator<(const Row<N> &a, const Row<N> &b) { return a.key < b.key; }
template <int N> long work(long n) {
    std::vector<Row<N>> rows;
    std::map<std::string, std::vector<Row<N>>> by_name;
    std::unordered_map<long, std::shared_ptr<Row<N>>> by_key;
    for (long i = 0; i < n; i++) rows.push_back({i * N % 1009, std::to_string(i), {}});
    std::sort(rows.begin(), rows.end());
    for (auto &row : rows) {
        by_name[row.name].push_back(row);
        by_key.emplace(row.key, std::make_shared<Row<N>>(row));
    }
    std::set<Row<N>> once(rows.begin(), rows.end());
    std::function<long(long)> next = [&](long k) { return by_key.count(k) ? k + N : k - N; };
    return std::accumulate(once.begin(), once.end(), 0L,
                           [&](long sum, const Row<N> &row) { return sum + next(row.key); });
}
"""


@contextmanager
def stressed(stressor: list[str], folder: Path) -> Iterator[Opened]:
    """stress-ng: of its processes the largest is the one that does the work."""
    log = folder / "log"
    command = ["stress-ng", *stressor, "--seed", str(SEED), "--timeout", "150",
               "--temp-path", str(folder)]  # fmt: skip
    with running(command, log) as process:
        time.sleep(WARM_UP_S)
        if process.poll() is not None:
            raise RuntimeError(f"stress-ng ended: {log.read_text()[-200:]}")
        with traced(max(descendants(process.pid), key=resident), command, folder) as opened:
            yield opened


def descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(other for child in children for other in descendants(int(child)))]


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1])


_Start = Callable[[Path], Iterator[Opened]]


def _stress(name: str, what: str, *stressor: str) -> Case:
    start = partial(stressed, [stressor[0], "1", *stressor[1:]])
    return Case(f"stress-{name}", f"stress-ng: {what}", start, ("stress-ng",), SEED)


PROGRAMS = (
    Case("redis-updates", "redis-server: skewed keys of 130 MB are overwritten, 800 a second",
         partial(served, REDIS, "redis-updates"), ("redis-server",), SEED),
    Case("redis-fills", "redis-server: new keys, 12 MB/s for four seconds, then three of nothing",
         partial(served, REDIS, "redis-fills"), ("redis-server",), SEED),
    Case("redis-idle", "redis-server, which nobody talks to",
         partial(served, REDIS, None), ("redis-server",)),
    Case("postgres-pgbench", "a backend of PostgreSQL: pgbench, 250 transactions a second",
         postgres, ("postgresql",), SEED),
    Case("memcached", "memcached, full: 300 sets a second push others out, 600 gets",
         partial(served, MEMCACHED, "memcached"), ("memcached",), SEED),
    Case("sqlite", "SQLite in a Python loop: updates, inserts, reports",
         partial(computing, "sqlite"), ("python3", "libsqlite3-0"), SEED),
    Case("cc1plus", "gcc: one long C++ file is compiled",
         compiler, ("g++", "g++-12")),
    Case("numpy-stencil", "NumPy: heat on a grid of 64 MiB, 80 MB/s of new values",
         partial(computing, "numpy-stencil"), ("python3", "python3-numpy"), SEED),
    Case("numpy-analysis", "NumPy: draws a sample, transforms and sorts it, and waits",
         partial(computing, "numpy-analysis"), ("python3", "python3-numpy"), SEED),
    _stress("vm", "--vm, all methods in turn over 128 MiB", "--vm", "--vm-bytes", "128M",
            "--vm-keep"),
    _stress("memrate", "--memrate, 60 MB/s are written", "--memrate", "--memrate-bytes", "128M",
            "--memrate-wr-mbs", "60", "--memrate-rd-mbs", "60"),
    _stress("qsort", "--qsort of 2^22 integers", "--qsort", "--qsort-size", "4194304"),
)  # fmt: skip
