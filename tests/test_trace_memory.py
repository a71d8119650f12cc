"""Which memory `mempattern-trace` traces: by PID, by --region, and of a QEMU guest."""

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from scripted import ME

import mempattern.sources
from mempattern.cli import attach
from mempattern.cli.trace import main, parse
from mempattern.regions import Region

BLOCKS = [SimpleNamespace(region=Region(name, 512)) for name in ("pc.ram", "vga")]


@pytest.fixture
def layouts(monkeypatch):
    """Stands in for the modules that look at a process: each layout is what it was asked for."""

    def layout(name):
        return lambda *arguments: (name, *arguments)

    names = ("writable_memory", "everything", "named", "address_range", "guest_ram")
    fake = SimpleNamespace(**{name: layout(name) for name in names})
    guest = SimpleNamespace(
        blocks=tuple(BLOCKS), found_by="the size of -m", left_out=("rom",), asked=[]
    )
    qemu = SimpleNamespace(
        ram=SimpleNamespace(
            is_qemu=lambda pid: pid == 42,
            guest_ram_blocks=lambda pid, qmp: guest.asked.append((pid, qmp)) or guest,
        )
    )
    monkeypatch.setattr(mempattern.sources, "layout", fake, raising=False)
    monkeypatch.setitem(sys.modules, "mempattern.qemu", qemu)
    return guest


@pytest.mark.parametrize(
    ("arguments", "layout", "words"),
    [
        (["7"], ("writable_memory", 512), "all writable memory"),
        (["--region", "all", "7"], ("everything", 512), "all of its memory"),
        (["--region", "heap", "7"], ("named", "heap", 512), "named 'heap'"),
        (["--region", "7f00-0x8000", "7"], ("address_range", 0x7F00, 0x8000), "7f00-0x8000"),
        (["42"], ("guest_ram", BLOCKS), "guest RAM, found by the size of -m; left out: rom"),
        (["--region", "heap", "42"], ("named", "heap", 512), "named 'heap'"),
        (["--region", "pc.ram", "--qmp", "q", "42"], ("guest_ram", BLOCKS[:1]), "guest RAM"),
        (["--group-pages", "1024", "42"], ("guest_ram", BLOCKS), "guest RAM"),
    ],
)
@pytest.mark.usefixtures("layouts")
def test_which_memory_is_traced(arguments, layout, words):
    options = parse(arguments)
    chosen, found_by = attach.choose_layout(options.pid, options, time.sleep)
    assert chosen == layout
    assert words in found_by


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--qmp", "q", "7"], "process 7 is no QEMU"),
        (["--region", "no", "--qmp", "q", "42"], "no RAM block 'no'; it has pc.ram, vga"),
    ],
)
@pytest.mark.usefixtures("layouts")
def test_options_that_do_not_suit_the_process(arguments, complaint, capsys):
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--group-pages", "192", ME], "group_pages must be a power of two"),
        (["--region", "1001-2000", ME], "multiples of 4096"),
    ],
)
def test_layouts_that_cannot_be(arguments, complaint, capsys):
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line


def test_no_such_process(capsys):
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert main([str(gone.pid)]) == 3
    assert capsys.readouterr().err == f"mempattern-trace: there is no process {gone.pid}\n"


def test_a_guest_that_was_just_started_is_given_time(layouts, monkeypatch):
    options = parse(["--", "qemu-system-x86_64"])
    attempts = iter([OSError("not yet"), OSError("not yet"), layouts])

    def find(pid, qmp):
        found = next(attempts)
        if isinstance(found, OSError):
            raise found
        return found

    waited = []
    monkeypatch.setattr(sys.modules["mempattern.qemu"].ram, "guest_ram_blocks", find)
    assert attach.choose_layout(42, options, waited.append)[0] == ("guest_ram", BLOCKS)
    assert len(waited) == 2
