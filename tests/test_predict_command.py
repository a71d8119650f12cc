"""`mempattern predict`: the table, the object, and what it refuses."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from workloads import PROVENANCE, hot, idle, intervals

from mempattern import Interval, Region
from mempattern.cli.main import main
from mempattern.migration.advice import advise
from mempattern.migration.recording import Recording
from mempattern.migration.zeros import zeros_of
from mempattern.trace import TraceReader, TraceWriter

ASK = ["--bandwidth", "840Mbit", "--max-downtime", "1s"]
DOCS = Path(__file__).parents[1] / "docs"
REDIS = DOCS / "redis.mpt"

KEYS = {
    "schema", "pages", "page_size", "touched_pages", "intervals", "observed_s", "unseen_s",
    "lost_pages", "period_s", "max_downtime_s", "courses", "forecasts", "recommendations", "notes",
}  # fmt: skip
FORECAST_KEYS = {
    "bandwidth_Bps", "downtime_limit_s", "converges", "likelihood", "total_s", "sent_bytes",
    "downtime_s", "passes", "throttled_s",
}  # fmt: skip
RECOMMENDATION_KEYS = {
    "bandwidth_Bps", "max_time_s", "action", "sentence", "downtime_limit_s", "wait_s", "forecast",
    "postcopy", "qmp", "virsh",
}  # fmt: skip
POSTCOPY_KEYS = {"total_s", "sent_bytes", "missing_pages", "degraded_s"}


def write(path, recorded, meta=None, regions=None):
    regions = regions or recorded[0].regions
    with TraceWriter(path, regions, PROVENANCE, {"guest": "1"} | (meta or {})) as trace:
        for interval in recorded:
            trace.write(interval)
    return str(path)


def predict(capsys, *arguments):
    """Exit code, stdout, stderr."""
    try:
        code = main(["predict", *arguments])
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr()
    return code, said.out, said.err


def predict_json(capsys, *arguments):
    code, out, err = predict(capsys, *arguments, "--json")
    assert (code, err) == (0, "")
    (line,) = out.splitlines()
    return json.loads(line)


@pytest.fixture
def hot_trace(tmp_path):
    """Just above half of 100 MiB: 0.52 s at 840 Mbit/s, and 1.04 s at 420."""
    return write(tmp_path / "hot.mpt", intervals(hot(13_300), 60))


def test_the_table(hot_trace, capsys):
    code, out, err = predict(capsys, hot_trace, *ASK)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == (
        "100.0 MiB in 1 region, observed for 6.0 s in 60 intervals; 52.0 MiB were written"
    )
    assert lines[2].split() == ["bandwidth", "limit", "300", "ms", "550", "ms", "1", "s"]
    rows = {line[:10].strip(): line.split() for line in lines if "bit/s" in line[:12]}
    assert [row[3:] for row in rows.values()] == [
        ["no", "no", "no"], ["no", "yes", "yes"], ["yes", "yes", "yes"],
    ]  # fmt: skip
    assert "-> post-copy" in out
    (sentence,) = [line for line in lines if line.startswith("At ")]
    said = re.match(r"At 840 Mbit/s: Go now, with a downtime limit of (\d+) ms \(with", sentence)
    assert 520 < int(said[1]) < 600
    assert f"   limit {said[1]} ms" in out
    assert f'"downtime-limit": {said[1]}}}' in out
    assert f"virsh migrate-setmaxdowntime DOMAIN {said[1]}" in out
    assert "zero" in next(line for line in lines if line.startswith("note: the trace"))


def test_columns_line_up(hot_trace, capsys):
    _, out, _ = predict(capsys, hot_trace, *ASK)
    table = out.split("\n\n")[1:5]
    head = table[0]
    starts = [head.index(text) for text in ("limit", "300 ms", "550 ms", "1 s")]
    for line in "\n".join(table[1:]).splitlines():
        for start in starts:
            assert line[start - 3 : start] == "   "
            assert line[start] != " "


def test_the_object_is_what_the_library_says(hot_trace, capsys):
    said = predict_json(capsys, hot_trace, *ASK)
    with TraceReader(hot_trace) as trace:
        recording = Recording(list(trace))
    advice = advise(recording, [5.25e7, 1.05e8, 2.1e8], 1.0)
    assert set(said) == KEYS
    assert said["schema"] == "mempattern.forecast/1"
    assert (said["pages"], said["touched_pages"], said["page_size"]) == (25_600, 13_300, 4096)
    cells = [one for row in advice.outlooks for one in row]
    assert len(said["forecasts"]) == len(cells) == 9
    for cell, outlook in zip(said["forecasts"], cells, strict=True):
        assert set(cell) == FORECAST_KEYS
        expected = {"converges": outlook.converges, **dataclasses.asdict(outlook)}
        assert {key: cell[key] for key in expected} == expected
    for one, expected in zip(said["recommendations"], advice.recommendations, strict=True):
        assert set(one) == RECOMMENDATION_KEYS
        assert (one["action"], one["sentence"]) == (expected.action, expected.sentence)
        assert one["downtime_limit_s"] == expected.downtime_limit_s
    postcopy, go, _ = said["recommendations"]
    assert set(postcopy["postcopy"]) == POSTCOPY_KEYS
    assert set(postcopy["postcopy"]["total_s"]) == {"low", "middle", "high"}
    assert [one["execute"] for one in go["qmp"]] == ["migrate-set-parameters"]


def test_several_bandwidths_are_the_rows_and_each_has_its_sentence(hot_trace, capsys):
    _, out, _ = predict(
        capsys, hot_trace, "--bandwidth", "2Gbit,125MB/s", "--max-downtime", "600ms",
        "--downtime-limit", "1s,200ms",
    )  # fmt: skip
    assert [line[:14] for line in out.splitlines() if line.startswith("At ")] == [
        "At 1 Gbit/s: G", "At 2 Gbit/s: G",
    ]  # fmt: skip
    assert "200 ms   1 s" in re.sub("  +", "   ", out)


def test_the_recorded_redis(capsys):
    said = predict_json(capsys, str(REDIS), "--bandwidth", "1Gbit", "--max-downtime", "300ms")
    assert [one["action"] for one in said["recommendations"]] == ["go"] * 3
    assert any("hold only zeros" in note for note in said["notes"])


def test_zero_pages(tmp_path, capsys):
    trace = write(tmp_path / "t.mpt", intervals(hot(600), 40))

    def sent(*arguments):
        said = predict_json(capsys, trace, *ASK, *arguments)
        return said["forecasts"][3]["sent_bytes"]["middle"], said["notes"]

    full, notes = sent()
    assert len(notes) == 1
    less, notes = sent("--zero-pages", "20000")
    assert full - less == pytest.approx(20_000 * (4104 - 9), rel=0.02)
    assert notes == []
    assert sent("--zero-pages", "80000KiB")[0] == pytest.approx(less, rel=0.01)
    _, notes = sent("--zero-pages", "25600")
    assert notes == ["25000 pages were never written, and no others are taken to be zero"]


def test_zero_pages_that_the_trace_tells(tmp_path, capsys):
    facts = {"nonzero_pages": json.dumps({"part_pages": 12_800, "regions": {"ram": [600, 0]}})}
    trace = write(tmp_path / "t.mpt", intervals(hot(600), 40), facts)
    said = predict_json(capsys, trace, *ASK)
    assert said["notes"] == []
    assert said["forecasts"][3]["sent_bytes"]["middle"] < 25_600 * 4104 / 5


def test_a_trace_that_memory_does_not_hold(hot_trace, capsys, monkeypatch):
    """26 lines of 64 bytes are kept of each of its 60 intervals."""
    for there, code in [(2 * 26 * 64 * 60, 0), (2 * 26 * 64 * 60 - 2, 2)]:
        monkeypatch.setattr("mempattern.migration.traces._machine_bytes", lambda n=there: n)
        assert main(["predict", hot_trace, *ASK]) == code
    assert "record for a shorter time or in longer intervals" in capsys.readouterr().err


def test_what_is_no_guest_is_said_to_be_none(tmp_path, capsys):
    trace = write(tmp_path / "t.mpt", intervals(idle, 40), {"guest": "0"})
    notes = predict_json(capsys, trace, *ASK)["notes"]
    assert "the trace is not of all the RAM of a guest; this is as if it were" in notes


def test_tcg_clears_its_log_at_a_sync(tmp_path, capsys, monkeypatch):
    trace, chunks = write(tmp_path / "idle.mpt", intervals(idle, 20)), []

    def spy(*arguments, chunk_pages, **options):
        chunks.append(chunk_pages)
        return advise(*arguments, chunk_pages=chunk_pages, **options)

    monkeypatch.setattr("mempattern.cli.predict.advise", spy)
    for arguments in ([], ["--accel", "kvm"], ["--accel", "tcg"]):
        predict_json(capsys, trace, *ASK, *arguments)
    assert chunks == [1 << 18, 1 << 18, 0]


# ---- traces that lack something ------------------------------------------------------------------


def actions(capsys, trace):
    said = predict_json(capsys, trace, *ASK)
    return said["recommendations"][1]["action"], said["notes"]


@pytest.mark.parametrize(
    ("recorded", "action", "note"),
    [
        (intervals(hot(12_800), 1), "observe", "only 1 interval was observed"),
        (intervals(hot(6000), 60, gap_s=0.05), "observe", "were not observed, and are left out"),
        (intervals(hot(6000), 60, lost_pages=500), "observe", "30000 pages are missing"),
        (intervals(hot(12_800), 30, length_s=[3.0, 0.1] * 15), "observe", ""),
        (intervals(hot(5000), 30, length_s=[0.1] * 29 + [9]), "go", "one took 9 s"),
        (intervals(idle, 1), "go", "only 1 interval was observed"),
    ],
)
def test_a_trace_that_lacks_something(recorded, action, note, tmp_path, capsys):
    found, notes = actions(capsys, write(tmp_path / "t.mpt", recorded))
    assert found == action
    assert any(note in one for one in notes)


def test_regions_that_come_and_grow(tmp_path, capsys):
    """The newest ones migrate."""
    recorded = []
    for i in range(40):
        regions = (Region("ram", 6400 + 640 * min(i, 20)),)
        regions += (Region("late", 6400, address=1 << 40),) if i > 10 else ()
        bitmaps = {region.name: np.zeros(region.n_words, np.uint64) for region in regions}
        bitmaps["ram"][:4] = 2**64 - 1
        start = 10**9 + i * 10**8
        recorded.append(Interval(i, start, start + 10**8, regions, bitmaps, PROVENANCE))
    trace = write(tmp_path / "t.mpt", recorded)
    said = predict_json(capsys, trace, *ASK)
    assert said["pages"] == 6400 + 640 * 20 + 6400
    assert said["touched_pages"] == 256
    assert said["recommendations"][1]["action"] == "go"
    assert said["forecasts"][3]["total_s"]["middle"] == pytest.approx(1.0, abs=0.03)


def test_intervals_that_the_disk_was_too_slow_for(tmp_path, capsys, monkeypatch):
    trace = write(tmp_path / "t.mpt", intervals(hot(600), 40))
    monkeypatch.setattr(TraceReader, "_read_dropped", lambda _: 7)
    assert any("7 intervals are not in the trace" in note for note in actions(capsys, trace)[1])


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--bandwidth", "0Gbit"], "not positive"),
        (["--bandwidth=-1Gbit"], "not positive"),
        (["--bandwidth", "fast"], "10Gbit, 1.25GB/s or 125MiB/s"),
        (["--bandwidth", "100M"], "100Mbit/s or 100MB/s"),
        (["--bandwidth", "1Gbit,"], "is not a bandwidth"),
        (["--bandwidth", ",".join(["1Gbit"] * 17)], "16 at most"),
        (["--bandwidth", "3bit"], "observe for longer, or give a faster link"),
        (["--max-downtime", "0s"], "not positive"),
        (["--max-downtime=-3ms"], "not positive"),
        (["--max-downtime", "300"], "has no unit"),
        (["--max-downtime", "soon"], "300ms, 1.5s or 2m"),
        (["--downtime-limit", "300ms,nan"], "is not a duration"),
        (["--max-time", "1e999s"], "not positive and finite"),
        (["--max-time", "100000s"], "more than a day"),
        (["--zero-pages", "lots"], "neither a number of pages"),
        (["--zero-pages", "100001"], "more than the 25600 pages"),
        (["--accel", "xen"], "invalid choice"),
    ],
)
def test_arguments_that_make_no_sense(arguments, says, hot_trace, capsys):
    code, out, err = predict(capsys, hot_trace, *ASK, *arguments)
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


def test_traces_that_cannot_migrate(tmp_path, capsys):
    empty = tmp_path / "empty.mpt"
    with TraceWriter(empty, (Region("ram", 100),), PROVENANCE):
        pass
    regions = (Region("small", 100), Region("large", 100, 2 << 20, 1 << 40))
    words = {region.name: np.zeros(region.n_words, np.uint64) for region in regions}
    mixed = write(tmp_path / "mixed.mpt", [Interval(0, 1, 10**8, regions, words, PROVENANCE)])
    for trace, says in ((str(empty), "no interval"), (mixed, "one size")):
        code, out, err = predict(capsys, trace, *ASK)
        assert (code, out) == (2, "")
        assert says in err
        assert err.count("\n") == 1


def test_files_that_are_no_trace(tmp_path, capsys):
    text = tmp_path / "text.mpt"
    text.write_text("not a trace\n" * 1000)
    for file in (str(text), str(tmp_path / "none.mpt"), str(tmp_path)):
        code, out, err = predict(capsys, file, *ASK)
        assert (code, out) == (1, "")
        assert err.count("\n") == 1


# ---- the documentation ---------------------------------------------------------------------------


def test_the_keys_are_documented():
    text = (DOCS / "predict.md").read_text()
    for key in KEYS | FORECAST_KEYS | RECOMMENDATION_KEYS | POSTCOPY_KEYS:
        assert f"`{key}`" in text, key


def test_the_example_in_the_documentation(monkeypatch, capsys):
    """Its code prints what it says it prints."""
    monkeypatch.chdir(DOCS.parent)
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "predict.md").read_text(), re.DOTALL)
    expected = [line[2:] for line in code.splitlines() if line.startswith("# ")]
    exec(code, {})
    assert capsys.readouterr().out.splitlines() == expected


def test_zeros_of_the_redis_trace_are_unknown():
    with TraceReader(REDIS) as trace:
        assert zeros_of(Recording(list(trace)), trace.meta)[0] is None
