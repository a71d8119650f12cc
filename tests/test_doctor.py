"""`mempattern doctor`: what it prints of the checks it was given."""

import json
from dataclasses import dataclass

import pytest

from mempattern.cli import doctor
from mempattern.cli.main import main


@dataclass
class Check:
    name: str
    ok: bool | None
    detail: str
    remedy: str = ""


def checks(uffd, soft_dirty):
    return [
        Check("kernel", None, "Linux 6.18 [bold]as it is[/bold]"),
        Check("source uffd", uffd, "it says " + "a long story " * 20, "Linux 6.7 or later"),
        Check("source soft-dirty", soft_dirty, "the bits did not see a write"),
    ]


@pytest.mark.parametrize(
    ("works", "code", "verdict"),
    [((True, False), 0, "can"), ((False, True), 0, "can"), ((False, False), 3, "cannot")],
)
def test_it_prints_what_was_found(works, code, verdict, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(doctor, "probe", lambda pid: asked.append(pid) or checks(*works))
    assert main(["doctor", "7"]) == code
    out = capsys.readouterr().out
    assert f"process 7 {verdict} be traced here" in out
    for text in ("source uffd", "[bold]as it is[/bold]", "Linux 6.7"):
        assert text in out
    assert main(["doctor", "--json"]) == code
    said = json.loads(capsys.readouterr().out)
    assert said["schema"] == "mempattern.doctor/1"
    assert said["works"] is (code == 0)
    assert [check["ok"] for check in said["checks"]] == [None, *works]
    assert asked == [7, None]


def test_wrong_usage_is_one_sentence(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["doctor", "firefox"])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "must be a process id, as pidof prints it, not 'firefox' (see" in line
