"""What the recorded programs are made to do, seeded: python corpus_load.py WHAT [SOCKET]

With Python's standard library alone (and NumPy for what is about NumPy), since Debian's own Python
runs some of it. Says "ready" once it has warmed up, and ends by itself.
"""

from __future__ import annotations

import random
import socket
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator

SEED = 20
LONGEST_S = 150.0
TICK_S = 0.01


def ticks(tick_s: float = TICK_S) -> Iterator[float]:
    """The seconds since the start, every `tick_s`; a tick that was missed is not made up for."""
    print("ready", flush=True)
    start = due = time.monotonic()
    while due - start < LONGEST_S:
        due = max(due + tick_s, time.monotonic() - tick_s)
        time.sleep(max(0.0, due - time.monotonic()))
        yield time.monotonic() - start


def skewed(rng: random.Random, n: int) -> int:
    """Below n: rank r about as often as 1/r, with the ranks scattered over all of them."""
    return (int(n ** rng.random()) * 2654435761) % n


class Server:
    """A connection that sends many commands at once, and takes as many answers."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)

    def ask(self, commands: list[bytes], answered: Callable[[bytes], int]) -> None:
        self._socket.sendall(b"".join(commands))
        said = b""
        while answered(said) < len(commands):
            piece = self._socket.recv(1 << 20)
            if not piece:
                raise EOFError("the server has closed the connection")
            said += piece


# ---- redis and memcached ---------------------------------------------------------------------


def _set(key: int, n_bytes: int) -> bytes:
    parts = (b"SET", b"key:%08d" % key, b"v" * n_bytes)
    return b"*3\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def _lines(said: bytes) -> int:
    return said.count(b"\r\n")


def redis_updates(path: str) -> None:
    """Overwrites skewed keys of 130 MB, 800 a second; a value's size changes as it is written."""
    server, rng, n_keys = Server(path), random.Random(SEED), 250_000
    for first in range(0, n_keys, 1000):
        keys = range(first, first + 1000)
        server.ask([_set(key, rng.randrange(200, 600)) for key in keys], _lines)
    for _ in ticks():
        server.ask([_set(skewed(rng, n_keys), rng.randrange(200, 600)) for _ in range(8)], _lines)


def redis_fills(path: str) -> None:
    """New keys of 2000 bytes, 6000 a second for four seconds, and three seconds of nothing."""
    server, key = Server(path), 0
    for seconds in ticks():
        if seconds % 7 < 4:
            server.ask([_set(key + i, 2000) for i in range(60)], _lines)
            key += 60


def memcached(path: str) -> None:
    """Sets of 100 to 4000 bytes, more than there is room for, with two gets for each."""
    server, rng, n_keys = Server(path), random.Random(SEED), 150_000

    def sets(n: int) -> list[bytes]:
        drawn = [(rng.randrange(n_keys), int(100 * 40 ** rng.random())) for _ in range(n)]
        return [b"set key:%d 0 0 %d\r\n%s\r\n" % (k, size, b"v" * size) for k, size in drawn]

    for _ in range(n_keys // 500):
        server.ask(sets(500), lambda said: said.count(b"STORED\r\n"))
    for _ in ticks():
        server.ask(sets(3), lambda said: said.count(b"STORED\r\n"))
        gets = [b"get key:%d\r\n" % skewed(rng, n_keys) for _ in range(6)]
        server.ask(gets, lambda said: said.count(b"END\r\n"))


# ---- programs that are traced themselves -----------------------------------------------------


def sqlite(path: str) -> None:
    """Updates and inserts with two indexes, 12 to a transaction, 240 a second, and now and then
    a report over all of it; the pages are in a cache of 192 MB."""
    rng, n_rows = random.Random(SEED), 300_000
    database = sqlite3.connect(path, isolation_level=None)
    for setting in ("journal_mode = wal", "synchronous = off", "cache_size = -192000"):
        database.execute(f"pragma {setting}")
    database.execute("create table row (id integer primary key, who integer, what text, n integer)")
    rows = ((rng.randrange(20_000), "w" * rng.randrange(100, 400), 0) for _ in range(n_rows))
    database.execute("begin")
    database.executemany("insert into row (who, what, n) values (?, ?, ?)", rows)
    database.execute("create index by_who on row (who)")
    database.execute("create index by_n on row (n, who)")
    database.execute("commit")
    for i, _ in enumerate(ticks(0.05)):
        database.execute("begin")
        for _ in range(10):
            database.execute("update row set n = n + 1 where id = ?", (skewed(rng, n_rows) + 1,))
        new = [(rng.randrange(20_000), "w" * 250) for _ in range(2)]
        database.executemany("insert into row (who, what, n) values (?, ?, 0)", new)
        database.execute("commit")
        if i % 200 == 199:
            database.execute(
                "select who, sum(n), max(what) from row group by who order by 2 desc, 3"
            ).fetchall()


def numpy_stencil() -> None:
    """Heat on a grid: from one array of 64 MiB to another and back, 80 MB/s of new values."""
    import numpy as np  # noqa: PLC0415

    rng, n = np.random.default_rng(SEED), 2896
    old = rng.random((n, n))
    new = old.copy()
    row, rows = 1, 35
    for _ in ticks():
        end = min(row + rows, n - 1)
        new[row:end, 1:-1] = 0.25 * (
            old[row - 1 : end - 1, 1:-1] + old[row + 1 : end + 1, 1:-1]
            + old[row:end, :-2] + old[row:end, 2:]
        )  # fmt: skip
        row = end
        if row == n - 1:
            old, new, row = new, old, 1


def numpy_analysis() -> None:
    """As a notebook does: draws a sample, transforms it, sorts it, sums it up, and waits."""
    import numpy as np  # noqa: PLC0415

    rng = np.random.default_rng(SEED)
    kept = []
    for _ in ticks(1.5):
        sample = rng.standard_normal(6 << 20)
        spectrum = np.fft.rfft(sample)
        spectrum[len(spectrum) // 10 :] = 0
        smooth = np.fft.irfft(spectrum)
        smooth.sort()
        kept.append(smooth[::64].copy())
        np.quantile(sample, [0.1, 0.5, 0.9])
        del sample, spectrum, smooth


KINDS: dict[str, Callable[..., None]] = {
    "redis-updates": redis_updates,
    "redis-fills": redis_fills,
    "memcached": memcached,
    "sqlite": sqlite,
    "numpy-stencil": numpy_stencil,
    "numpy-analysis": numpy_analysis,
}

if __name__ == "__main__":
    KINDS[sys.argv[1]](*sys.argv[2:])
