"""What the README and the pages next to it show is what the commands and the results say."""

import json
import re
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest

from mempattern.cli.main import main
from mempattern.trace import TraceReader

HERE = Path(__file__).parent.parent
README = (HERE / "README.md").read_text()
REPLAY = (HERE / "docs/replay.md").read_text()


def test_the_prediction_is_what_the_command_prints(capsys):
    """Its beginning, and then some of its lines in their order."""
    (words,) = re.findall(r"^mempattern predict guest.mpt (.*)$", README, re.MULTILINE)
    assert main(["predict", str(HERE / "docs/guest.mpt"), *words.split()]) == 0
    printed = capsys.readouterr().out
    (shown,) = re.findall(r"```\n(bandwidth .*?)```", README, re.DOTALL)
    beginning, rest = shown.split("...\n")
    assert f"\n{beginning}" in printed
    lines = iter(printed.split(beginning)[1].splitlines())
    for line in rest.splitlines():
        assert line in lines, line


def test_the_replay_is_what_the_command_prints(capsys):
    (words,) = re.findall(r"^mempattern replay guest.mpt (.* --start .*)$", REPLAY, re.MULTILINE)
    assert main(["replay", str(HERE / "docs/guest.mpt"), *words.split()]) == 0
    assert f"```\n{capsys.readouterr().out.rstrip()}\n```" in REPLAY


def test_the_evidence_is_that_of_the_results(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE / "benches"))
    from evidence_data import load, under_ceilings  # noqa: PLC0415

    everything = under_ceilings(load(HERE / "benches/results/evidence.json"))
    judged = [m for m in everything if m.set != "design" and m.ceiling_s == 1.0]
    possible = [m for m in judged if m.moves("oracle")]
    others = [m for m in judged if not m.moves("oracle")]
    moved = [m for m in possible if m.moves("best")]
    assert len(moved) == len(possible)
    later = median(m.outcomes["best"].total_s / m.oracle.total_s - 1 for m in moved)
    longer = [m for m in everything if m.set != "design" and m.ceiling_s == 2.0]
    n_possible = sum(m.moves("oracle") for m in longer)
    n_longer = sum(m.moves("oracle") and m.moves("best") for m in longer)
    n_stock = sum(m.moves("stock") for m in possible)
    n_throttled = sum(m.moves("best") for m in others)
    assert (
        f"On {len(judged)} migrations of {len({m.trace for m in judged})} traces that `best` was "
        f"not made with, it moved all {len(moved)} that a second of downtime allows to move (stock "
        f"QEMU moved {n_stock}), and by throttling {n_throttled} of the {len(others)} others, "
        f"{100 * later:.1f} % later than an oracle in the median; with two seconds "
        f"{n_longer} of {n_possible}."
    ) in " ".join(REPLAY.split())


def test_the_table_of_predict_is_what_the_command_prints(capsys):
    page = (HERE / "docs/predict.md").read_text()
    ((words, shown),) = re.findall(
        r"```sh\nmempattern predict guest.mpt ([^\n]*)\n```\n\n```\n(.*?)\n\.\.\.\n```",
        page,
        re.DOTALL,
    )
    assert main(["predict", str(HERE / "docs/guest.mpt"), *words.split()]) == 0
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert printed[: shown.count("\n") + 1] == shown.splitlines()


def test_the_verdict_of_the_demo_is_what_the_command_prints(capsys, monkeypatch):
    page = (HERE / "docs/trace-command.md").read_text()
    (shown,) = re.findall(r"```\n\$ mempattern report demo.mpt\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(HERE / "src/mempattern/sample")
    assert main(["report", "demo.mpt"]) == 0
    assert shown in capsys.readouterr().out


@pytest.mark.parametrize("document", ["classify", "patterns"])
def test_what_is_said_is_what_the_example_prints(document, capsys, monkeypatch):
    page = (HERE / f"docs/{document}.md").read_text()
    code, shown = re.findall(r"```python\n(.*?)```\n\n(    .*?)\n\n[#A]", page, re.DOTALL)[0]
    monkeypatch.chdir(HERE)
    exec(code, {})
    assert capsys.readouterr().out.split() == shown.split()


def test_the_migration_is_the_recorded_one():
    command, _, said = (HERE / "docs/migration.txt").read_text().partition("\n")
    assert (
        f"```sh\n{command.removeprefix('$ ')}\n```\n\n```\n{said}```"
        in (HERE / "docs/migrate.md").read_text()
    )


def test_the_reproduction_is_that_of_the_results(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE / "benches"))
    from reproduce_data import load, mean  # noqa: PLC0415
    from reproduce_report import DATA, DOWNTIME, TIME, changed, main_runs  # noqa: PLC0415

    runs = main_runs(load())
    intensive = [run for run in runs if run.guest.is_intensive]
    moved = {
        name: sum(run.completed for run in intensive if run.policy == name)
        for name in ("stock", "mp")
    }
    n_each = sum(run.policy == "mp" for run in intensive)
    less = [f"{-changed(intensive, 'mp', 'relaxed-least', one).value:.0%}" for one in (TIME, DATA)]
    longer = f"{changed(intensive, 'mp', 'relaxed-least', DOWNTIME).value:.0%}"
    more = f"{changed(intensive, 'mp', 'relaxed-ceiling', TIME).value:.0%}"
    calm = [run for run in runs if not run.guest.is_intensive]
    stops = [f"{mean([run for run in calm if run.policy == one], DOWNTIME).value:.2f} s"
             for one in ("relaxed-ceiling", "mp")]  # fmt: skip
    assert (
        f"Of {n_each} migrations of {len({run.guest.name for run in intensive})} memory-intensive "
        f"guests stock QEMU ended {moved['stock']} and MP {moved['mp']}, which took {less[0]} less "
        f"time and sent {less[1]} less than a QEMU with the smallest downtime limit that moves "
        f"that guest in time, for {longer} more downtime. A limit as high as the ceiling from the "
        f"start is faster still (MP took {more} more time), but stops the guests that need none "
        f"for {stops[0]}, where MP stops them for {stops[1]}."
    ) in " ".join(README.split())


def output(*command):
    return subprocess.run(
        [sys.executable, *command], cwd=HERE, check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.parametrize(
    ("script", "results", "document"),
    [
        ("evidence_report", "evidence.json", "evidence"),
        ("replay_report", "replay.json", "replay-results"),
        ("forecast_report", "forecast.json", "forecast-results"),
        ("reproduce_report", "reproduce.jsonl", "reproduce"),
        ("growth_report", "growth.json", "growth"),
        ("large_page_report", "large-page.json", "report-results"),
        ("slowdown_table", "slowdown.json", "tracing-cost"),
        ("patterns_report", "patterns.json", "patterns-results"),
    ],
)
def test_pages_of_results_are_what_their_scripts_make(script, results, document):
    made = output(f"benches/{script}.py", f"benches/results/{results}")
    assert made == (HERE / f"docs/{document}.md").read_text()


def test_the_benchmarks_are_what_their_scripts_make():
    results = [f"benches/results/{name}.json" for name in ("foundation", "verdicts", "replays")]
    table = output("benches/table.py", *results)
    peers = output("benches/peers_table.py", "benches/results/peers.json")
    assert table + peers == (HERE / "docs/benchmarks.md").read_text()


def test_the_abuse_is_what_its_script_makes():
    results = [f"benches/results/{name}.json" for name in ("fuzz", "soak")]
    assert output("benches/soak_report.py", *results) == (HERE / "docs/abuse.md").read_text()


def forecasts(which):
    """All migrations of a set, those that ended as they were and as we said, median errors."""
    rows = json.loads((HERE / "benches/results/forecast.json").read_text())[which]
    ours = [(row["actual"], row["predicted"]["mempattern"]) for row in rows]
    assert all(actual["converges"] == said["converges"] for actual, said in ours)
    ended = [both for both in ours if both[0]["converges"]]
    errors = [
        f"{100 * median(abs(said[figure] / actual[figure] - 1) for actual, said in ended):.1f} %"
        for figure in ("total_s", "sent_bytes", "downtime_s")
    ]
    return rows, ended, errors


def test_the_errors_are_those_of_the_results():
    rows, ended, errors = forecasts("held")
    text = " ".join(README.split())
    assert f"{len(rows)} real QEMU migrations" in text
    assert (
        f"off by {errors[0]} in total time, {errors[1]} in data and {errors[2]} in downtime" in text
    )
    inside = sum(
        low <= row["actual"]["downtime_s"] <= high
        for row in rows if row["actual"]["converges"]
        for low, high in [row["ranges"]["downtime_s"]]
    )  # fmt: skip
    forecast = " ".join((HERE / "docs/forecast.md").read_text().split())
    assert f"{inside} of {len(ended)} actual ones lie in it" in forecast
    assert "never wrong on whether a migration ends" in text
    untraced, _, errors = forecasts("untraced")
    alike = f"{len(untraced)} more, traced only until their migration began, came out alike"
    assert alike in text
    assert (
        f"came out alike: {errors[0]} in time, {errors[1]} in data and {errors[2]} in downtime "
        f"(medians), wrong on none"
    ) in forecast


def test_the_trials_of_curves_are_those_of_the_results():
    rows = [row["asked"] for row in json.loads((HERE / "benches/results/curve.json").read_text())]
    for asked in rows:
        assert all(low <= true <= high for true, _, low, high in asked.values())
    off = [
        f"{100 * median(abs(row[of][1] / row[of][0] - 1) for row in rows):.0f} %"
        for of in ("1.5 T", "10 T", "working set")
    ]
    assert (
        f"In {len(rows)} trials (`benches/curve_trials.py`) of sweeps, uniform, gamma and Zipf "
        f"distributed rates, and a hot set beside a cold one, observed for 4 to 1000 intervals, "
        f"the true W and the true D(1.5 T) to D(10 T) lay within the bounds; the estimates of "
        f"D(1.5 T) were off by {off[0]} in the median, those of D(10 T) by {off[1]} and those of W "
        f"by {off[2]},"
    ) in " ".join((HERE / "docs/statistics.md").read_text().split())


def test_attaching_took_what_is_said():
    took_ms = sorted(1000 * seconds for seconds in attachments())
    low, high, middle = took_ms[0], took_ms[-1], median(took_ms)
    said = (
        f"It takes {low:.2f} to {high:.2f} ms, {middle:.2f} in the median, in the recorded traces"
    )
    assert said in " ".join((HERE / "docs/tracing.md").read_text().split())


def attachments():
    for path in [*(HERE / "docs").glob("*.mpt"), *(HERE / "benches/data/corpus").glob("*.mpt")]:
        with TraceReader(path) as trace:
            if "attach_s" in trace.meta:
                yield float(trace.meta["attach_s"])
