"""What all commands have in common: help, errors, exit codes, colours, pipes, Ctrl-C."""

import argparse
import os
import pty
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from shells import BIN, shell

import mempattern
from mempattern.cli import demo, report, trace
from mempattern.cli.exits import MEANINGS, guard, said
from mempattern.cli.main import main, parse, parser
from mempattern.errors import BitmapError

ROOT = Path(__file__).parent.parent
GUEST, SAMPLE = ROOT / "docs/guest.mpt", ROOT / "src/mempattern/sample/demo.mpt"
LINK = ["--bandwidth", "1Gbit", "--max-downtime", "1s"]


def parsers():
    """All of them, by the words that call each."""
    root = parser()
    found = {root.prog: root, trace.PROGRAM: trace.parser()}
    for action in root._actions:
        if isinstance(action.choices, dict):
            found |= {command.prog: command for command in action.choices.values()}
    return found


PARSERS = parsers()


def says(arguments, capsys, call=main):
    """Exit code, stdout, stderr; in process."""
    try:
        code = call(arguments)
    except SystemExit as end:
        code = end.code
    printed = capsys.readouterr()
    return code, printed.out, printed.err


# ---- help ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", PARSERS)
def test_help_ends_with_examples_and_exit_codes(words, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    program, *command = words.split()
    call = trace.main if program == trace.PROGRAM else main
    code, out, err = says([*command, "--help"], capsys, call)
    assert (code, err) == (0, "")
    assert out.index("\noptions:") < out.index("\nexamples:") < out.index("\nexit codes:")
    exits = list(PARSERS[words].exits)
    assert exits == sorted(exits)
    for option in ("--version", "--debug"):
        assert re.search(rf"^  {option} ", out, re.MULTILINE)
    assert all(len(line) <= 80 for line in out.splitlines())
    assert all(command in out.replace(" \\\n     ", "") for command, _ in PARSERS[words].examples)
    version = (0, f"mempattern {mempattern.__version__}\n", "")
    assert says([*command, "--version"], capsys, call) == version


def examples():
    for words, one in PARSERS.items():
        assert len(one.examples) >= 2, words
        for command, purpose in one.examples:
            assert purpose
            yield words, command


@pytest.mark.parametrize(("words", "command"), list(examples()), ids=lambda text: text[:60])
def test_examples_are_right(words, command):
    """They parse, and those on files run."""
    assert command.startswith(words)
    (first, *_), *_ = [re.split(r" [|>]+ ", command)]
    program, *arguments = shlex.split(re.sub(r"\$\(.*?\)", "1234", first))
    (trace.parse if program == trace.PROGRAM else parse)(arguments)


@pytest.mark.parametrize(
    "command", [command for words, command in examples() if words in (
        "mempattern report", "mempattern predict", "mempattern replay", "mempattern doctor"
    ) and "1234" not in command]
)  # fmt: skip
def test_examples_on_files_run(command, tmp_path):
    for name in ("guest.mpt", "redis.mpt"):
        (tmp_path / name).symlink_to(ROOT / "docs" / name)
    done = shell(f"set -o pipefail; {command}", cwd=tmp_path)
    assert done.returncode in ((0, 3) if "doctor" in command else (0,)), done.stderr
    assert done.stdout


def test_exit_codes_are_the_same_in_help_and_documents():
    text = (ROOT / "docs/reference/commands.md").read_text()
    for code, meaning in MEANINGS.items():
        assert f"| {code} | {meaning} |" in text
    for words in PARSERS:
        assert f"```{{help}} {words}\n" in text


# ---- errors --------------------------------------------------------------------------------------


@pytest.fixture
def _in_a_folder(tmp_path, monkeypatch):
    """With nothing in it but a file that is no trace."""
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("no trace")
    Path("empty").touch()


@pytest.mark.parametrize(
    ("arguments", "code", "remedy"),
    [
        ([], 2, "say what to do: demo, report"),
        (["reprot"], 2, "invalid choice: 'reprot'"),
        (["trace", "12"], 2, "to trace is a command of its own: mempattern-trace PID"),
        (["report"], 2, "required: FILE.mpt"),
        (["report", "no.mpt"], 1, "no.mpt: there is no such file"),
        (["predict", "no.mpt", *LINK], 1, "no.mpt: there is no such file"),
        (["replay", "no.mpt", *LINK], 1, "no.mpt: there is no such file"),
        (["demo", "--replay", "no.mpt"], 1, "no.mpt: there is no such file"),
        (["report", "."], 1, "that is a directory; name a file"),
        (["report", "file/x"], 1, "a part of that path is a file"),
        (["report", "file"], 1, "mempattern-trace -o"),
        (["report", "empty"], 1, "it is empty; name one that mempattern-trace -o"),
        (["report", "/dev/null"], 1, "no regular file; name one that mempattern-trace -o"),
        (["report", str(GUEST), "--html", "."], 4, "no regular file; name another"),
        (["demo", "--record", "file"], 4, "--force"),
        (["demo", "--record", "no/x"], 4, "there is no directory no"),
        (["report", str(GUEST), "--html", "no/x"], 4, "there is no directory no"),
        (["report", str(GUEST), "--html", "file"], 4, "--force"),
        (["predict", str(GUEST), "--bandwidth", "fast", "--max-downtime", "1s"], 2, "10Gbit"),
        (["replay", str(GUEST), *LINK, "--policy", "nosuch"], 2, "there are stock, relaxed"),
        (["migrate", "--qmp", "no.sock", "--to", "tcp:x:1", "--max-downtime", "1s"], 3, "-qmp"),
        (["completion", "tcsh"], 2, "bash"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("_in_a_folder")
def test_an_error_is_one_line_with_the_remedy(arguments, code, remedy, capsys):
    got, out, err = says(arguments, capsys)
    assert (got, out) == (code, "")
    (line,) = err.splitlines()
    assert line.startswith("mempattern")
    assert remedy in line
    assert "Errno" not in line


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("two\nlines"), RecursionError("deep")])
def test_a_bug_is_one_line_and_a_traceback_with_debug(error, monkeypatch, capsys):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(report, "_Outputs", fail)
    code, out, err = says(["report", str(GUEST)], capsys)
    assert (code, out) == (1, "")
    (line,) = err.splitlines()
    assert type(error).__name__ in line
    assert "--debug" in line
    for arguments in (["--debug", "report", str(GUEST)], ["report", "--debug", str(GUEST)]):
        code, _, err = says(arguments, capsys)
        assert code == 1
        assert err.startswith("Traceback")
        assert err.splitlines()[-1] == line


def test_what_is_said_of_an_error():
    assert said(FileNotFoundError(2, "x", "a\nb")).startswith("a b: there is no such file")
    assert said(OSError(5, "x", "disk")) == "disk: Input/output error"
    assert "--group-pages" in said(MemoryError())
    assert said(BitmapError("as it is")) == "as it is"


def test_guard_takes_ctrl_c_for_an_answer():
    def interrupted():
        raise KeyboardInterrupt

    assert guard("x", interrupted) == 130
    assert guard("x", lambda: argparse.Namespace(run=lambda options: 7)) == 7


# ---- where it prints -----------------------------------------------------------------------------

PRINTS = [
    "mempattern --help",
    "mempattern report --help",
    "mempattern --version",
    "mempattern-trace --help",
    f"mempattern report {GUEST}",
    f"mempattern report --json {GUEST}",
    f"mempattern predict {ROOT}/docs/redis.mpt --bandwidth 1Gbit --max-downtime 1s",
    f"mempattern replay {GUEST} --bandwidth 1Gbit --max-downtime 1s --policy stock --json",
    "mempattern doctor",
    "mempattern completion bash",
]


@pytest.mark.parametrize("command", PRINTS, ids=lambda command: command.replace(str(ROOT), ""))
def test_output_that_goes_nowhere(command):
    """To a full disk: a line and code 4. To who has left: quietly. Closed: as if it were read."""
    done = shell(f"{command} >/dev/full")
    assert done.returncode == 4, done.stderr
    assert done.stderr == f"{command.split()[0]}: {said(OSError(28, 'x'))}\n"
    done = shell(f"{command} | sleep 0; exit ${{PIPESTATUS[0]}}")
    assert done.returncode in (0, 1, 3)
    assert done.stderr == ""
    done = shell(f"{command} >&-")
    assert done.returncode in (0, 3)
    assert (done.stdout, done.stderr) == ("", "")
    done = shell(f"{command} 2>&- | tail -1")
    assert done.stdout


@pytest.mark.parametrize("encoding", ["ascii", "utf-8:strict"])
def test_output_that_cannot_say_it_all(encoding, tmp_path):
    """A name that is no text, and our own arrows, where the output is strict, or ASCII."""
    name = os.fsdecode(b"g\xe9.mpt")
    (tmp_path / name).symlink_to(GUEST)
    for command in (f"report {name}", f"demo --replay {SAMPLE} | head -3; exit ${{PIPESTATUS[0]}}"):
        done = shell(f"mempattern {command}", cwd=tmp_path, env={"PYTHONIOENCODING": encoding})
        assert done.stdout
        assert (done.returncode in (0, 1), done.stderr) == (True, "")


def on_a_terminal(command, **variables):
    """What it writes to one of 120 columns, and its exit code."""
    parent, child = pty.openpty()
    env = {"PATH": f"{BIN}:{os.environ['PATH']}", "TERM": "xterm-256color", "COLUMNS": "120",
           "LANG": "C.UTF-8", **variables}  # fmt: skip
    with subprocess.Popen(
        command, stdin=child, stdout=child, stderr=child, env=env, start_new_session=True
    ) as it:
        os.close(child)
        written = b""
        try:
            while chunk := os.read(parent, 65536):
                written += chunk
        except OSError:  # EIO: it has closed its end
            pass
        os.close(parent)
    return written.decode(), it.returncode


ESCAPE = "\x1b["
ON_A_TERMINAL = {
    "doctor": ["mempattern", "doctor"],
    "help": ["mempattern", "report", "--help"],
    "live": [sys.executable, str(Path(__file__).with_name("scripted.py")), "3", "3",
             "--interval", "0.01", "1"],
    "progress": ["mempattern", "replay", str(GUEST), str(ROOT / "docs/redis.mpt"), "--policy",
                 "stock", *LINK],
}  # fmt: skip


@pytest.mark.parametrize("name", ON_A_TERMINAL)
def test_colours_are_for_terminals_that_want_them(name):
    command = ON_A_TERMINAL[name]
    if name in ("doctor", "live", "progress"):
        written, _ = on_a_terminal(command)
        assert ESCAPE in written  # else the rest says nothing
    for variables in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        written, code = on_a_terminal(command, **variables)
        assert code in (0, 3)
        colours = re.findall(r"\x1b\[[0-9;]*m", written)
        assert not [one for one in colours if re.search(r"\b(3\d|4\d|9\d|10\d)\b", one)]
        if "TERM" in variables:
            assert "\x1b" not in written
    done = subprocess.run(command, check=False, capture_output=True, timeout=60,
                          env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"})  # fmt: skip
    assert b"\x1b" not in done.stdout + done.stderr


# ---- Ctrl-C --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        f"mempattern demo --replay {SAMPLE}",
        f"mempattern replay {GUEST} {ROOT}/docs/redis.mpt --bandwidth 1Gbit --max-downtime 1s",
        "mempattern-trace 1",
    ],
    ids=["demo", "replay", "trace"],
)
def test_ctrl_c_at_any_moment_is_quiet(command, tmp_path):
    """Once its own first line is run: what Python does before that is Python's."""
    program, *arguments = command.split()
    name = "trace" if program == trace.PROGRAM else "mempattern"
    begin = "import os, sys, mempattern_commands as c; os.write(1, b'!'); "
    begin += f"sys.argv[1:] = {arguments}; sys.exit(c.{name}())"
    moments = random.Random(1)
    for _ in range(12):
        with subprocess.Popen(
            [sys.executable, "-c", begin], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as it:
            it.stdout.read(1)
            time.sleep(moments.uniform(0, 0.6))
            it.send_signal(signal.SIGINT)
            _, err = it.communicate(timeout=30)
        assert it.returncode in (130, -signal.SIGINT, 3, 0), err
        assert "Traceback" not in err
        assert "Exception" not in err


def test_sigterm_leaves_nothing_half_written(tmp_path):
    command = [BIN / "mempattern", "report", GUEST, "--plot", tmp_path / "heat.png"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as it:
        while it.poll() is None and not any(tmp_path.iterdir()):
            time.sleep(0.001)
        it.send_signal(signal.SIGTERM)
        _, err = it.communicate(timeout=30)
    assert (it.returncode, err) in ((143, b""), (0, b""))  # it may have been done
    assert [path.name for path in tmp_path.iterdir()] == ["heat.png"] * (it.returncode == 0)


# ---- names of files ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["b\x1b[31m\n'.mpt", "\udcff\x07.mpt"])
def test_no_name_gets_at_the_terminals_controls(tmp_path, name):
    path = tmp_path / name
    path.symlink_to(GUEST)
    done = subprocess.run(
        [BIN / "mempattern", "report", path], capture_output=True, text=True, check=True
    )
    said = done.stdout
    assert "\x1b" not in said
    assert "\x07" not in said
    (command,) = [
        line for line in said.splitlines() if line.strip().startswith("mempattern predict")
    ]
    words = subprocess.check_output(["bash", "-c", f"printf '%s\\0' {command}"])
    assert words.split(b"\0")[2] == os.fsencode(path)
    path.unlink()
    done = subprocess.run([BIN / "mempattern", "report", path], capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr.decode().rstrip("\n").isprintable()


@pytest.mark.parametrize(
    "command",
    [
        f"mempattern report {GUEST} --html loop",
        "mempattern demo --record loop",
        "mempattern-trace --count 1 -o loop -- sleep 1",
        "mempattern-trace --count 1 --force -o loop -- sleep 1",
        "mempattern report loop",
        "mempattern report loop --html page",
    ],
)
def test_links_in_a_circle(command, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    done = shell(command, cwd=tmp_path)
    assert done.returncode == (1 if "report loop" in command else 4)
    (line,) = done.stderr.splitlines()
    assert line.endswith("loop: its symbolic links go round in a circle; name the file itself")
    assert [path.name for path in tmp_path.iterdir()] == ["loop"]


@pytest.mark.parametrize(
    "command",
    [
        f"report {GUEST} --html no/page",
        f"report {GUEST} --perfetto no/counters",
        f"replay {GUEST} --policy stock --bandwidth 1Gbit --max-downtime 1s --parquet no/table",
        "-trace --count 1 -o no/trace -- sleep 1",
    ],
)
def test_a_folder_without_the_right_to_it(command, tmp_path):
    (tmp_path / "no").mkdir(mode=0o555)
    command = f"mempattern{'' if command[0] == '-' else ' '}{command}"
    drop = "setpriv --bounding-set=-dac_override,-dac_read_search " if os.geteuid() == 0 else ""
    done = shell(drop + command, cwd=tmp_path)
    assert done.returncode == 4
    line = done.stderr.splitlines()[-1]
    name = re.search(r"no/\w+", command)[0]
    assert line.endswith(f": {name}: you have no right to it; ls -l says who has")
    assert list((tmp_path / "no").iterdir()) == []


# ---- JSON --------------------------------------------------------------------------------------


def test_demo_in_json_is_no_table(monkeypatch, capsys):
    monkeypatch.setattr(demo, "_LONGEST_PAUSE_S", 0.0)
    code, out, err = says(["demo", "--replay", str(SAMPLE), "--json"], capsys)
    assert (code, err) == (0, "")
    assert all(line.startswith('{"schema": ') for line in out.splitlines())
