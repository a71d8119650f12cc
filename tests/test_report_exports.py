"""A trace as Parquet, Arrow, Perfetto's format and a picture: read back by others' readers."""

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from model import per_group
from test_cells import pages_of
from traces import change, grow, make_intervals, write

from mempattern.cli.main import main


def report(capsys, *arguments):
    code = main(["report", *map(str, arguments)])
    return code, *capsys.readouterr()


@pytest.fixture(scope="module")
def intervals():
    made = make_intervals(14, seed=3, growth=grow)
    later = [  # a gap before the tenth
        dataclasses.replace(one, start_ns=one.start_ns + 5000, end_ns=one.end_ns + 5000)
        for one in made[10:]
    ]
    return made[:10] + later


@pytest.fixture
def trace(intervals, tmp_path):
    return write(tmp_path / "some.mpt", intervals, intervals[0].regions, meta={"mine": "<é>"})


def model_rows(intervals, group_pages):
    for before, interval in zip([None, *intervals], intervals, strict=False):
        now = pages_of(interval, interval.regions)
        was = pages_of(before, interval.regions) if before else None
        for region in interval.regions:
            dirty = per_group(now[region.name], group_pages)
            again = (
                per_group(now[region.name] & was[region.name], group_pages) if was else 0 * dirty
            )
            for group in np.flatnonzero(dirty).tolist():
                yield {
                    "interval": interval.index,
                    "start_ns": interval.start_ns,
                    "end_ns": interval.end_ns,
                    "region": region.name,
                    "group": group,
                    "address": region.address + group * group_pages * region.page_bytes,
                    "pages": min(group_pages, region.n_pages - group * group_pages),
                    "page_size": region.page_bytes,
                    "dirty_pages": int(dirty[group]),
                    "redirtied_pages": int(again[group]),
                }


def test_tables_have_a_row_for_each_active_group(trace, intervals, tmp_path, capsys, monkeypatch):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("mempattern.report.arrow._ENOUGH_ROWS", 50)
    parquet, arrow = tmp_path / "t.parquet", tmp_path / "t.arrow"
    found = report(capsys, trace, "--parquet", parquet, "--arrow", arrow, "--group-pages", 64)
    assert found[0] == 0, found
    table = pq.read_table(parquet)
    with pa.ipc.open_file(arrow) as reader:
        assert reader.read_all().to_pylist() == table.to_pylist()
    rows = table.to_pylist()
    fresh = [row.pop("fresh_pages") for row in rows]
    assert rows == list(model_rows(intervals, 64))
    summary = json.loads(report(capsys, trace, "--json")[1].splitlines()[-1])
    assert sum(fresh) == summary["fresh_pages"]
    assert table.schema.metadata[b"schema"] == b"mempattern.groups/1"
    assert table.schema.metadata[b"fact.mine"].decode() == "<é>"


def test_perfettos_own_reader_finds_the_counters(trace, intervals, tmp_path, capsys):
    reader = pytest.importorskip("perfetto.protos.perfetto.trace.perfetto_trace_pb2")
    file = tmp_path / "t.pftrace"
    assert report(capsys, trace, "--perfetto", file)[0] == 0
    parsed = reader.Trace.FromString(file.read_bytes())
    parsed.DiscardUnknownFields()
    assert parsed.ByteSize() == file.stat().st_size  # it knows all that is in it
    clock = parsed.packet[0].clock_snapshot
    assert clock.primary_trace_clock == reader.BUILTIN_CLOCK_MONOTONIC
    tracks = {p.track_descriptor.uuid: p.track_descriptor for p in parsed.packet
              if p.HasField("track_descriptor")}  # fmt: skip
    assert tracks[1].name == "some.mpt"
    now, at_ns, seen = {}, None, {}
    for packet in parsed.packet:
        if packet.HasField("track_event"):
            assert packet.timestamp_clock_id == reader.BUILTIN_CLOCK_MONOTONIC
            assert at_ns is None or packet.timestamp >= at_ns
            if at_ns is not None and packet.timestamp != at_ns:
                seen[at_ns] = dict(now)
            at_ns, event = packet.timestamp, packet.track_event
            assert event.type == reader.TrackEvent.TYPE_COUNTER
            track = tracks[event.track_uuid]
            now[tracks[track.parent_uuid].name, track.name] = event.counter_value
    seen[at_ns] = dict(now)
    assert at_ns == intervals[-1].end_ns
    assert not any(seen[at_ns].values())
    assert not any(seen[intervals[9].end_ns].values())  # where there is a gap
    every = list(model_rows(intervals, 512))
    for interval in intervals:
        rows = [row for row in every if row["interval"] == interval.index]
        values = _last_at(seen, interval.start_ns)
        for what in ("dirty", "redirtied"):
            key = f"{what}_pages"
            assert values["some.mpt", what] == sum(row[key] for row in rows)
            for region in interval.regions:
                of = sum(row[key] for row in rows if row["region"] == region.name)
                assert values.get((region.name, what), 0) == of
        assert values["some.mpt", "active groups"] == len(rows)
        assert values["some.mpt", "lost pages"] == interval.lost_pages


def _last_at(seen, at_ns):
    return seen[max(time for time in seen if time <= at_ns)]


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_heat_map_is_drawn(kind, trace, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    file = tmp_path / f"map.{kind}"
    assert report(capsys, trace, "--plot", file)[0] == 0
    written = file.read_bytes()
    if kind == "png":
        assert written.startswith(b"\x89PNG")
    else:
        for words in ("some.mpt: 14 intervals", "ram", "address, upwards", "time"):
            assert words in written.decode()
    assert report(capsys, trace, "--plot", file, "--force")[0] == 0
    assert file.read_bytes() == written  # the same from the same


@pytest.mark.parametrize("name", ["\u6d4b\u8bd5.mpt", "a\udcff.mpt", "$\\frac$.mpt"])
def test_a_trace_whose_name_no_font_has_is_drawn_in_silence(name, trace, tmp_path):
    """The second is no UTF-8."""
    pytest.importorskip("matplotlib")
    named, file = tmp_path / name, tmp_path / "map.svg"
    shutil.copy(trace, named)
    command = [sys.executable, "-m", "mempattern.cli.main", "report", named, "--plot", file]
    done = subprocess.run(command, check=False, capture_output=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")
    assert file.read_bytes().endswith(b"</svg>\n")


OPTIONS = ["--html", "--plot", "--parquet", "--arrow", "--perfetto"]


@pytest.mark.parametrize("option", OPTIONS)
def test_files_that_exist_are_kept_unless_forced(option, trace, tmp_path, capsys):
    file = tmp_path / "there.png"
    file.write_text("mine")
    code, out, err = report(capsys, trace, option, file)
    assert (code, out) == (4, "")
    assert err == f"mempattern: {file} exists; name another file, or overwrite it with --force\n"
    assert file.read_text() == "mine"
    code, out, _ = report(capsys, trace, option, file, "--force")
    assert code == 0
    assert out.startswith("14 intervals")
    assert file.read_bytes() != b"mine"
    assert report(capsys, trace, option, tmp_path / "no" / "dir.png")[0] == 4
    before = trace.read_bytes()
    picture = trace.with_suffix(".png")
    picture.symlink_to(trace)
    code, _, err = report(capsys, trace, option, picture, "--force")
    assert code == 4
    assert "is a trace to read" in err
    assert trace.read_bytes() == before


@pytest.mark.parametrize("option", OPTIONS)
def test_of_an_empty_trace(option, tmp_path, capsys):
    trace = write(tmp_path / "empty.mpt", [])
    file = tmp_path / "out.png"
    code, out, err = report(capsys, trace, option, file)
    assert (code, err) == (0, "")
    assert out.startswith("0 intervals")
    assert file.exists()


@pytest.mark.parametrize("option", OPTIONS)
def test_what_fails_leaves_nothing_behind(option, trace, tmp_path, capsys):
    change(trace, "update bitmap set words = x'00' where interval = 9")
    code, _, err = report(capsys, trace, option, tmp_path / "out.png")
    assert code == 1
    assert "interval 9 is damaged" in err
    assert [path.name for path in tmp_path.iterdir()] == [trace.name]


@pytest.mark.parametrize("option", ["--parquet", "--arrow", "--plot"])
def test_a_package_that_is_missing(option, trace, capsys, monkeypatch):
    plot = option == "--plot"
    monkeypatch.setitem(sys.modules, "matplotlib" if plot else "pyarrow", None)
    for module in ("heatmap", "arrow"):
        monkeypatch.delitem(sys.modules, f"mempattern.report.{module}", raising=False)
    code, out, err = report(capsys, trace, option, trace.parent / "t.png")
    assert (code, out) == (1, "")
    assert err.endswith(f"pip install 'mempattern[{'plot' if plot else 'arrow'}]'\n")


def test_pictures_have_two_kinds(capsys):
    with pytest.raises(SystemExit):
        report(capsys, "t.mpt", "--plot", "map.jpg")
    assert "must end in .png or .svg, not 'map.jpg'" in capsys.readouterr().err
