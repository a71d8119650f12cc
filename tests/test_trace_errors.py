"""What `mempattern-trace` and `mempattern report` refuse: one sentence, and an exit code."""

import pytest
from scripted import FAST, ME, Scripted, trace_json, use

from mempattern.cli import attach
from mempattern.cli.main import main as mempattern_main
from mempattern.cli.trace import main
from mempattern.errors import ProcessError
from mempattern.trace import TraceReader


def test_a_file_that_exists_is_kept_unless_forced(monkeypatch, capsys, tmp_path):
    file = tmp_path / "t.mpt"
    file.write_text("precious")
    monkeypatch.setattr(attach, "open_source", None)  # nothing is attached to
    assert main(["-o", str(file), ME]) == 4
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        f"mempattern-trace: {file} exists; name another file, or overwrite it with --force\n"
    )
    assert file.read_text() == "precious"
    assert main(["-o", str(tmp_path / "no" / "t.mpt"), ME]) == 4
    assert "there is no directory" in capsys.readouterr().err
    use(Scripted(2), monkeypatch)
    assert main([*FAST, "--quiet", "--force", "-o", str(file), ME]) == 0
    with TraceReader(file) as trace:
        assert len(trace) == 2


def test_a_target_that_cannot_be_traced_is_one_line_and_code_3(monkeypatch, capsys):
    def refuse(pid, options, wait):
        raise ProcessError(1, f"process {pid} may not be traced: sysctl kernel.yama.ptrace_scope=0")

    monkeypatch.setattr(attach, "open_source", refuse)
    assert main([ME]) == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        f"mempattern-trace: process {ME} may not be traced: sysctl kernel.yama.ptrace_scope=0\n"
    )


def test_a_target_that_cannot_be_traced_any_further(monkeypatch, capsys):
    class Failing(Scripted):
        def collect(self):
            interval = super().collect()
            if interval.index == 2:
                raise ProcessError(5, "the kernel said no")
            return interval

    source = use(Failing(), monkeypatch)
    code, lines, summary, err = trace_json(capsys, ME)
    assert (code, len(lines), summary["ended"]) == (3, 2, "error")
    assert err.splitlines()[-1] == "mempattern-trace: the kernel said no"
    assert source.n_closed


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "give a PID (pidof prints none if nothing of that name runs), or -- and a COMMAND"),
        (["12", "--", "true"], "a PID or a COMMAND, not both"),
        (["--"], "no command after --"),
        (["firefox"], "not 'firefox'; to start a command, write -- before it"),
        (["0"], "must be a process id"),
        (["99999999999"], "must be a process id"),
        (["1", "2"], "unrecognized arguments: 2"),
        (["--interval", "0", "1"], "0.01 to 60 seconds"),
        (["--interval", "x", "1"], "0.01 to 60 seconds"),
        (["--duration", "-1", "1"], "positive number of seconds"),
        (["--duration", "nan", "1"], "positive number of seconds"),
        (["--duration", "8 parsecs", "1"], "positive number of seconds"),
        (["--duration", "50ms", "1"], "at least one --interval"),
        (["--duration", "0.05", "1"], "at least one --interval"),
        (["--count", "0", "1"], "from 1 to 999999999"),
        (["--count", "2", "--duration", "3", "1"], "not allowed with"),
        (["--group-pages", "100", "1"], "multiple of 64"),
        (["--group-pages", "x", "1"], "multiple of 64"),
        (["--source", "magic", "1"], "invalid choice"),
        (["--region", "", "1"], "--region must be"),
        (["--region", "20-10", "1"], "--region must be"),
        (["--force", "1"], "about -o"),
        (["--frobnicate", "1"], "unrecognized arguments"),
    ],
)
def test_wrong_usage_is_one_sentence_and_code_2(arguments, complaint, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert complaint in line
    assert line.startswith("mempattern-trace: ")


def test_help_has_the_exit_codes(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for text in ("PID | -- COMMAND [ARG ...]", "--no-split-thp", "130  Ctrl-C", "3    the target"):
        assert text in out


def test_a_report_of_what_is_no_trace(tmp_path, capsys):
    assert mempattern_main(["report", str(tmp_path / "none.mpt")]) == 1
    assert "none.mpt" in capsys.readouterr().err
    (tmp_path / "text.mpt").write_text("not a trace")
    assert mempattern_main(["report", str(tmp_path / "text.mpt")]) == 1
    assert "is not a mempattern trace" in capsys.readouterr().err
