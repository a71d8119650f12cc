"""The man pages are what the parsers say, and render."""

import shutil
import subprocess
from pathlib import Path

import pytest

from mempattern.cli.main import COMMANDS

MAN = Path(__file__).parent.parent / "man"
PAGES = sorted(MAN.glob("*.1"))


def test_they_are_those_of_the_commands(monkeypatch):
    monkeypatch.syspath_prepend(str(MAN.parent / "docs"))
    from man_pages import pages  # noqa: PLC0415

    made = pages()
    assert set(made) == {
        "mempattern.1", "mempattern-trace.1", *(f"mempattern-{name}.1" for name in COMMANDS)
    }  # fmt: skip
    assert {path.name: path.read_text() for path in PAGES} == made, "run: make man"


def test_they_are_installed():
    listed = (MAN / "meson.build").read_text()
    assert all(f"'{path.name}'" in listed for path in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
@pytest.mark.parametrize("command", ["mandoc -Tlint -Wall", "groff -ww -man -Tutf8 -z"])
def test_they_render_without_a_warning(command, page):
    if shutil.which(command.split()[0]) is None:
        pytest.skip(f"apt-get install {command.split()[0]}")
    done = subprocess.run([*command.split(), page], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
