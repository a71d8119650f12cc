"""The report of a large guest is measured as it says, on one that is small; and its page."""

import json
import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parent.parent / "benches"))
import large_page
import large_page_report
import large_trace

from mempattern.trace import TraceReader

GIB, N_INTERVALS = 48, 20


def test_nights_days_and_jobs_are_what_they_are():
    guest = large_trace.Guest(GIB)
    night, day, job = (
        int(np.bitwise_count(guest.words(number)).sum(dtype=np.int64))
        for number in (100, large_trace.NIGHT + 100, large_trace.JOB_FROM + 100)
    )
    assert 0 < night < 1000 < day < job - 100_000


def test_the_whole_trace_is_written(tmp_path):
    large_trace.write(tmp_path / "large.mpt", 12, GIB)
    guest = large_trace.Guest(GIB)
    with TraceReader(tmp_path / "large.mpt") as trace:
        assert (len(trace), trace.dropped) == (12, 0)
        assert all(
            np.array_equal(interval.bitmaps["ram"], guest.words(interval.index))
            for interval in trace
        )


def test_the_page_has_what_was_measured(tmp_path, chromium):
    found = large_page.measure(N_INTERVALS, GIB, tmp_path, chromium)
    report = found["report"]
    assert set(report["cpu_s"]) == {name for name, *_ in (*large_page.STAGES, *large_page.ONCE)}
    assert 0 < sum(report["cpu_s"].values()) < report["all_cpu_s"]
    assert len(report["memory_bytes"]) == large_page.SAMPLES
    assert min(report["file_bytes"].values()) > 0
    path = tmp_path / "large-page.json"
    path.write_text(json.dumps(found))
    page = large_page_report.markdown(path)
    assert page.count(" ms an interval |") == len(large_page.STAGES)
    assert f"{N_INTERVALS} intervals of 0.1 s" in page
