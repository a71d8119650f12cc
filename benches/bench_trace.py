"""Writing and reading traces: raw bitmap a second of CPU, of both threads and with the disk's part
of it; and what opening and closing a file keeps one waiting.
"""

import time

import pytest
import tiles
from bench_peers import AS_THEY_ARE, CLASSES, cases_of
from conftest import keep
from peers.ours import intervals_of

from mempattern.trace import TraceReader, TraceWriter

ROUNDS = 7


def traces_of(kind):
    """Lists of intervals: those of each trace of the corpus, or those of a guest of 64 GiB."""
    if kind == AS_THEY_ARE:
        found = []
        for path in sorted(tiles.CORPUS.glob("*.mpt")):
            with TraceReader(path) as trace:
                found.append(list(trace))
        return found
    return [intervals_of(case) for case in cases_of("64GiB", kind)]


@pytest.mark.parametrize("kind", [AS_THEY_ARE, *CLASSES])
def bench_trace(benchmark, tmp_path, kind):
    traces = traces_of(kind)
    n_bytes = sum(8 * region.n_words for trace in traces for one in trace for region in one.regions)
    paths = [tmp_path / f"{number}.mpt" for number in range(len(traces))]
    write_s, read_s, open_s, close_s = [], [], [], []

    def write():
        start_s = time.process_time()
        for path, trace in zip(paths, traces, strict=True):
            began = time.perf_counter()
            writer = TraceWriter(path, trace[0].regions, trace[0].provenance, force=True)
            open_s.append(time.perf_counter() - began)
            for interval in trace:
                writer.write(interval)
            patience_s = time.monotonic() + 60
            while writer.written + writer.dropped < len(trace) and time.monotonic() < patience_s:
                time.sleep(0.001)
            began = time.perf_counter()
            writer.close()
            close_s.append(time.perf_counter() - began)
            assert writer.written == len(trace)
        write_s.append(time.process_time() - start_s)

    def read():
        start_s = time.process_time()
        for path in paths:
            with TraceReader(path) as trace:
                for _ in trace:
                    pass
        read_s.append(time.process_time() - start_s)

    benchmark.pedantic(lambda: (write(), read()), rounds=ROUNDS, warmup_rounds=1)
    rate = [n_bytes / s / 1e9 for s in write_s]
    keep(benchmark, "writing, of CPU", rate, at_least=1, unit=" GB/s")
    keep(benchmark, "reading, of CPU", [n_bytes / s / 1e9 for s in read_s], unit=" GB/s")
    keep(benchmark, "opening", [1e3 * s for s in open_s], unit=" ms")
    keep(benchmark, "closing", [1e3 * s for s in close_s], unit=" ms")
