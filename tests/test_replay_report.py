"""Replays as rows, sums, a table and an object, from outcomes worked out by hand."""

import json

import pytest
from test_compare import outcome

from mempattern.migration.fleet import Case, Replayed
from mempattern.migration.traces import Facts
from mempattern.report.replay import Replays, replay_object, rows, standings
from mempattern.report.replay_tables import lines

KEYS = {"schema", "traces", "replays", "summary", "unfinished"}
TRACE_KEYS = {
    "trace", "error", "pages", "page_size", "touched_pages", "intervals", "observed_s", "unseen_s",
    "lost_pages", "period_s", "notes",
}  # fmt: skip
ROW_KEYS = {
    "trace", "ram_bytes", "bandwidth_Bps", "bandwidth_changes", "max_downtime_s", "policy",
    "moved", "within_max_downtime", "end", "error", "total_s", "sent_bytes", "downtime_s",
    "passes", "throttled_s", "throttled_share", "postcopy_pages", "extrapolated_s", "regret_time",
    "regret_bytes", "dominated_by",
}  # fmt: skip
SUMMARY_KEYS = {
    "bandwidth_Bps", "bandwidth_changes", "max_downtime_s", "policy", "traces", "moved", "within",
    "failed", "dominated", "median_regret_time", "median_regret_bytes",
}  # fmt: skip

LINK = ((0.0, 125e6),)
FACTS = Facts(
    n_pages=262_144, page_bytes=4096, n_regions=1, n_intervals=100, observed_s=10.0, unseen_s=0.0,
    touched_pages=2560, lost_pages=0, period_s=None,
)  # fmt: skip
NEVER = {"end": "not converged", "downtime_s": float("nan"), "passes": 900, "extrapolated_s": 50.0}
FIRST = (
    outcome("stock", 60.0, 8e9, **NEVER),
    outcome("good", 10.0, 1.2e9, 0.25),
    outcome("slow", 11.0, 1.2e9, 0.25, throttled_s=2.2),
    outcome("over", 9.0, 1.0e9, 0.4),
    outcome("post", 9.0, 1.0e9, 0.002, postcopy_pages=20_000.0),
    outcome("broken", *[float("nan")] * 3, end="failed", error="ZeroDivisionError: oh"),
    outcome("oracle", 8.0, 1.0e9, 0.3),
)
SECOND = (
    outcome("stock", 10.0, 1.2e9, 0.1),
    outcome("good", 10.0, 1.1e9, 0.25),
    outcome("oracle", 10.0, 1.0e9, 0.1),
)


def replays(*cases):
    return Replays(
        tuple(
            Replayed(f"{number}.mpt", FACTS, (Case(LINK, 0.3, outcomes),), ("a note",))
            for number, outcomes in enumerate(cases)
        )
    )


def test_the_table_by_hand():
    expected = """\
1.0 GiB in 1 region, observed for 10.0 s in 100 intervals; 10.0 MiB were written

1 Gbit/s; downtime at most 300 ms

policy  moved            time  data      downtime  passes  throttled  regret: time  data  dominated by
stock   no: out of time  60 s  7.45 GiB  -         900     -          -             -     -
good    yes              10 s  1.12 GiB  250 ms    3       -          25 %          20 %  -
slow    yes              11 s  1.12 GiB  250 ms    3       20 %       38 %          20 %  good
over    yes              9 s   954 MiB   400 ms !  3       -          12 %          0 %   -
post    post-copy        9 s   954 MiB   2 ms      3       -          12 %          0 %   -
broken  no: failed       -     -         -         3       -          -             -     -
oracle  yes              8 s   954 MiB   300 ms    3       -          -             -     -
! longer than the ceiling
broken failed: ZeroDivisionError: oh

note: 1 of 7 replays goes on after the trace's end, where it is repeated: stock for 50 s of guest time, of which 10 s were observed
note: a note"""  # noqa: E501
    assert lines(replays(FIRST)) == expected.splitlines()


def test_the_rows_by_hand():
    stock, good, slow, over, _, broken, oracle = rows(replays(FIRST))
    assert set(stock) == ROW_KEYS
    assert (stock["moved"], stock["within_max_downtime"], stock["end"]) == (
        False, False, "not converged",
    )  # fmt: skip
    assert (stock["downtime_s"], stock["regret_time"], stock["extrapolated_s"]) == (None, None, 50)
    assert good["regret_time"] == pytest.approx(0.25)
    assert good["regret_bytes"] == pytest.approx(0.2)
    assert (good["ram_bytes"], good["bandwidth_Bps"], good["bandwidth_changes"]) == (
        2**30, 125e6, [],
    )  # fmt: skip
    assert slow["throttled_share"] == pytest.approx(0.2)
    assert slow["dominated_by"] == ["good"]
    assert (over["moved"], over["within_max_downtime"]) == (True, False)
    assert (broken["error"], broken["total_s"], broken["throttled_share"]) == (
        "ZeroDivisionError: oh", None, None,
    )  # fmt: skip
    assert (oracle["regret_time"], oracle["dominated_by"]) == (0.0, [])


def test_the_summary_by_hand():
    """Of traces that not all policies were replayed on; "over" has no regret that counts."""
    both = replays(FIRST, SECOND)
    found = {one.policy: one for one in standings(both)}
    stock, good, over = found["stock"], found["good"], found["over"]
    assert (stock.traces, stock.moved, stock.within, stock.failed) == (2, 1, 1, 0)
    assert (stock.median_regret_time, stock.median_regret_bytes) == (0.0, pytest.approx(0.2))
    assert (good.within, good.dominated) == (2, 0)
    assert (good.median_regret_time, good.median_regret_bytes) == (0.125, pytest.approx(0.15))
    assert (over.moved, over.within, over.median_regret_time) == (1, 0, None)
    assert found["broken"].failed == 1
    assert found["slow"].dominated == 1
    expected = """\
all 2 traces; 1 Gbit/s; downtime at most 300 ms

policy  moved   within  dominated  failed  regret: time  data
stock   1 of 2  1       0          -       0 %           20 %
good    2 of 2  2       0          -       12 %          15 %
slow    1 of 1  1       1          -       38 %          20 %
over    1 of 1  0       0          -       -             -
post    1 of 1  1       0          -       12 %          0 %
broken  0 of 1  0       0          1       -             -
oracle  2 of 2  2       -          -       -             -

regrets are medians of what was within the ceiling"""
    assert "\n".join(lines(both)).endswith("\n\n" + expected)


def test_of_very_many_traces_there_is_the_summary_only():
    text = "\n".join(lines(replays(*[SECOND] * 21)))
    assert text.startswith("all 21 traces")
    assert "observed for" not in text
    assert "--parquet" in text
    assert "\n".join(lines(replays(*[SECOND] * 20))).count("observed for") == 20


def test_the_object_is_strict_json():
    said = replay_object(replays(FIRST, SECOND))
    assert set(said) == KEYS
    assert {key for one in said["traces"] for key in one} == TRACE_KEYS
    assert {key for one in said["replays"] for key in one} == ROW_KEYS
    assert {key for one in said["summary"] for key in one} == SUMMARY_KEYS
    assert json.loads(json.dumps(said, allow_nan=False)) == said
