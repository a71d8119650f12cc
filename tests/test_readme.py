"""What the README shows is what the commands and the results in the repository say."""

import json
import re
from pathlib import Path
from statistics import median

from mempattern.cli.main import main

HERE = Path(__file__).parent.parent
README = (HERE / "README.md").read_text()


def test_the_prediction_is_what_the_command_prints(capsys):
    (words,) = re.findall(r"^mempattern predict guest.mpt (.*)$", README, re.MULTILINE)
    assert main(["predict", str(HERE / "docs/guest.mpt"), *words.split()]) == 0
    assert f"```\n{capsys.readouterr().out.rstrip()}\n```" in README


def test_the_replay_is_what_the_command_prints(capsys):
    (words,) = re.findall(r"^mempattern replay guest.mpt (.*)$", README, re.MULTILINE)
    assert main(["replay", str(HERE / "docs/guest.mpt"), *words.split()]) == 0
    assert f"```\n{capsys.readouterr().out.rstrip()}\n```" in README


def test_the_errors_are_those_of_the_results():
    rows = json.loads((HERE / "benches/results/forecast.json").read_text())["held"]
    ours = [(row["actual"], row["predicted"]["mempattern"]) for row in rows]
    ended = [both for both in ours if both[0]["converges"]]
    errors = [
        f"{100 * median(abs(said[figure] / actual[figure] - 1) for actual, said in ended):.1f} %"
        for figure in ("total_s", "sent_bytes", "downtime_s")
    ]
    text = " ".join(README.split())
    assert f"{len(rows)} real QEMU migrations" in text
    assert (
        f"off by {errors[0]} in total time, {errors[1]} in data and {errors[2]} in downtime" in text
    )
    assert "never wrong on whether a migration ends" in text
    assert all(actual["converges"] == said["converges"] for actual, said in ours)
