"""`mempattern-trace` and `mempattern report`, on a source that plays a script."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scripted import PROVENANCE, Scripted, scripted_pages, scripted_regions, use
from target import Target as RealTarget

import mempattern.sources
from mempattern.classify.kinds import Kind
from mempattern.cli import attach
from mempattern.cli.main import main as mempattern_main
from mempattern.cli.stop import Stop
from mempattern.cli.trace import main, parse
from mempattern.errors import ProcessError
from mempattern.regions import Region
from mempattern.report.target import Target
from mempattern.trace import TraceReader

SCRIPTED = [sys.executable, str(Path(__file__).with_name("scripted.py"))]
FAST = ["--interval", "0.01"]
ME = str(os.getpid())


def trace_json(capsys, *arguments):
    """Exit code, the intervals' objects, the summary's, and what was said on stderr."""
    code = main([*FAST, "--json", *arguments])
    said = capsys.readouterr()
    *lines, summary = map(json.loads, said.out.splitlines())
    return code, lines, summary, said.err


class Model:
    """Counts anew from sets of addresses, which regions that grow and move leave alone."""

    def __init__(self, n_intervals, n_regions, group_pages):
        self.intervals = []
        for number in range(n_intervals):
            regions = scripted_regions(number, n_regions)
            pages = scripted_pages(number, regions)
            self.intervals.append(
                {
                    region: region.address + np.flatnonzero(pages[region.name]) * region.page_bytes
                    for region in regions
                }
            )
        self.group_pages = group_pages

    def addresses(self, first, last):
        """Distinct ones in the intervals from first up to, not with, last."""
        return {
            int(a) for dirty in self.intervals[first:last] for as_ in dirty.values() for a in as_
        }

    def line(self, number):
        """What the interval's object must say."""
        dirty = self.addresses(number, number + 1)
        here = self.intervals[number]
        return {
            "iteration": number,
            "dirty_pages": len(dirty),
            "redirtied_pages": len(dirty & self.addresses(max(0, number - 1), number)),
            "fresh_pages": len(dirty - self.addresses(0, number)),
            "active_groups": sum(
                np.unique((pages - region.address) // (region.page_bytes * self.group_pages)).size
                for region, pages in here.items()
            ),
            "groups": sum(region.n_groups(self.group_pages) for region in here),
            "page_size": 4096,
            "pages": sum(region.n_pages for region in here),
            "dirty_bytes": sum(pages.size * region.page_bytes for region, pages in here.items()),
            "touched_pages": len(self.addresses(0, number + 1)),
            "lost_pages": 7 if number == 2 else 0,
        }

    def distinct(self):
        """Mean by the length of the windows, which begin anew after number 2, which lost pages."""
        n, means = len(self.intervals), []
        for length in (1, 2, 3, 4, 6, 8, 12, 16):
            starts = [
                start
                for first, end in ((0, min(n, 2)), (3, n))
                for start in range(first, end - length + 1, length)
            ]
            pages = [len(self.addresses(start, start + length)) for start in starts]
            means += [(sum(pages) / len(pages), len(pages))] if pages else []
        return means


@pytest.mark.parametrize(("n_intervals", "group_pages"), [(1, 512), (9, 64), (20, 512)])
def test_json_says_what_a_model_counts(n_intervals, group_pages, monkeypatch, capsys):
    use(Scripted(n_intervals, n_regions=5), monkeypatch)
    code, lines, summary, _ = trace_json(capsys, "--group-pages", str(group_pages), ME)
    assert code == 0
    model = Model(n_intervals, 5, group_pages)
    assert len(lines) == summary["intervals"] == n_intervals
    for number, line in enumerate(lines):
        assert line["schema"] == "mempattern.interval/1"
        expected = model.line(number)
        assert {key: line[key] for key in expected} == expected
        of_regions = {region["name"]: region["dirty_pages"] for region in line["regions"]}
        assert of_regions == {
            region.name: pages.size
            for region, pages in model.intervals[number].items()
            if pages.size
        }
    assert summary["schema"] == "mempattern.summary/2"
    for key in ("dirty_pages", "redirtied_pages", "fresh_pages", "lost_pages"):
        assert summary[key] == sum(line[key] for line in lines)
    for key in ("duration_s", "collect_s"):
        assert summary[key] == pytest.approx(sum(line[key] for line in lines), rel=1e-9)
    assert lines[-1]["t_s"] == pytest.approx(summary["duration_s"])
    assert summary["touched_pages"] == summary["fresh_pages"] == lines[-1]["touched_pages"]
    for key in ("dirty_pages", "redirtied_pages", "fresh_pages"):
        assert summary[key] == sum(region[key] for region in summary["regions"])
    distinct = [(point["pages"], point["n_windows"]) for point in summary["distinct_pages"]]
    assert distinct == [pytest.approx(one) for one in model.distinct()]
    assert summary["verdict"] is None
    assert summary["pattern"]["kind"] in [*Kind]
    assert summary["source"] == "scripted"
    assert summary["blind_spots"] == list(PROVENANCE.blind_spots)
    assert summary["granularity"] == PROVENANCE.granularity
    assert summary["attach_s"] == Scripted.attach_s


def test_a_report_says_what_was_seen_live(monkeypatch, capsys, tmp_path):
    """To the last digit, but for what the file cannot know: how the trace ended."""
    file = tmp_path / "t.mpt"
    use(Scripted(12), monkeypatch)
    assert main([*FAST, "--json", "-o", str(file), ME]) == 0
    live = capsys.readouterr().out.splitlines()
    assert mempattern_main(["report", "--json", str(file)]) == 0
    again = capsys.readouterr().out.splitlines()
    assert again[:-1] == live[:-1]
    unknown = {"ended": None, "exit_code": None, "execs": None, "huge_bytes": None}
    assert json.loads(again[-1]) == json.loads(live[-1]) | unknown

    use(Scripted(12), monkeypatch)
    assert main([*FAST, "--quiet", "--force", "-o", str(file), ME]) == 0
    live = capsys.readouterr().out.splitlines()
    assert mempattern_main(["report", str(file)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        line for line in live if not line.startswith("ended ")
    ]
    assert mempattern_main(["report", "--group-pages", "128", "--json", str(file)]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["group_pages"] == 128


# ---- how it ends -------------------------------------------------------------------------------


def test_it_ends_by_count_by_time_or_with_the_target(monkeypatch, capsys):
    source = use(Scripted(), monkeypatch)
    code, lines, summary, _ = trace_json(capsys, "--count", "4", ME)
    assert (code, len(lines), summary["ended"]) == (0, 4, "count")
    assert source.n_closed
    use(Scripted(), monkeypatch)
    code, lines, summary, _ = trace_json(capsys, "--duration", "0.1", ME)
    assert (code, summary["ended"]) == (0, "duration")
    assert lines
    ended = subprocess.Popen(["true"])
    use(Scripted(3), monkeypatch)
    try:
        code, lines, summary, _ = trace_json(capsys, str(ended.pid))
    finally:
        ended.wait()
    assert (code, len(lines), summary["ended"]) == (0, 3, "exit")
    use(Scripted(0), monkeypatch)
    code, lines, summary, _ = trace_json(capsys, ME)
    assert (code, lines, summary["intervals"], summary["dirty_pages"]) == (0, [], 0, 0)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_a_signal_ends_it_with_the_summary_and_a_whole_file(number, code, tmp_path):
    file = tmp_path / "t.mpt"
    command = [*SCRIPTED, "0", "3", *FAST, "--json", "-o", str(file), ME]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as it:
        lines = [it.stdout.readline() for _ in range(3)]
        it.send_signal(number)
        out, err = it.communicate(timeout=30)
    *rest, summary = map(json.loads, [*lines, *out.splitlines()])
    assert it.returncode == code, err
    assert summary["ended"] == number.name
    assert summary["intervals"] == len(rest)
    assert summary["dirty_pages"] == sum(line["dirty_pages"] for line in rest)
    assert len(err.splitlines()) == 1
    with TraceReader(file) as trace:
        assert len(trace) == len(rest) - summary["dropped_intervals"]
    assert list(tmp_path.iterdir()) == [file]


def test_a_long_interval_does_not_hold_up_ctrl_c():
    command = [*SCRIPTED, "0", "3", "--interval", "60", "--json", ME]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as it:
        it.stderr.readline()  # it is attached
        time.sleep(0.2)
        it.send_signal(signal.SIGINT)
        out, _ = it.communicate(timeout=30)
    assert it.returncode == 130
    assert json.loads(out)["ended"] == "SIGINT"


def test_waiting_ends_early_for_signals_and_for_the_target():
    before = signal.getsignal(signal.SIGINT)
    target = subprocess.Popen(["sleep", "60"])
    try:
        with Stop() as stop:
            stop.watch(target.pid)
            assert not stop.ended_within(0)
            target.kill()
            stop.wait(60)
            assert stop.ended_within(0)
            stop.wait(0.001)  # and it does not spin
            signal.raise_signal(signal.SIGINT)
            assert stop.signal == signal.SIGINT
            with pytest.raises(EOFError):
                stop.wait(60)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        target.kill()
        target.wait()
    assert signal.getsignal(signal.SIGINT) is before


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Stop() as stop:
            signal.raise_signal(signal.SIGINT)
            assert stop.signal is None
    finally:
        signal.signal(signal.SIGINT, before)


# ---- what goes wrong ---------------------------------------------------------------------------


def test_a_reader_that_leaves_ends_it_quietly(tmp_path):
    file = tmp_path / "t.mpt"
    command = [*SCRIPTED, "0", "3", *FAST, "--json", "-o", str(file), ME]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as it:
        it.stdout.readline()
        it.stdout.close()
        err = it.stderr.read()
        assert it.wait(30) == 1
    assert len(err.splitlines()) == 1  # what is traced
    with TraceReader(file) as trace:
        assert len(trace) >= 1


def test_a_full_output_is_one_line_and_code_4():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*SCRIPTED, "3", "3", *FAST, "--json", ME],
            check=False, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
        )  # fmt: skip
    assert done.returncode == 4
    assert "no space left" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_full_disk_ends_it_with_the_summary_and_code_4(tmp_path):
    """A tiny file system in a mount namespace of its own."""
    inside = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if subprocess.run([*inside, "true"], check=False, capture_output=True).returncode:
        pytest.skip("a mount namespace needs root or user namespaces: run as root")
    mount = f'mount -t tmpfs -o size=300k none {tmp_path} && exec "$@"'
    command = [*SCRIPTED, "3000", "3", *FAST, "--json", "-o", str(tmp_path / "t.mpt"), ME]
    done = subprocess.run(
        [*inside, "sh", "-c", mount, "sh", *command],
        check=False, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "full" in done.stderr.splitlines()[-1]
    *lines, summary = map(json.loads, done.stdout.splitlines())
    assert summary["ended"] == "file"
    assert summary["dirty_pages"] == sum(line["dirty_pages"] for line in lines)


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
        ([], "either a PID, or -- and a COMMAND"),
        (["12", "--", "true"], "either a PID, or -- and a COMMAND"),
        (["--"], "no command after --"),
        (["firefox"], "must be a process id"),
        (["0"], "must be a process id"),
        (["99999999999"], "must be a process id"),
        (["1", "2"], "unrecognized arguments: 2"),
        (["--interval", "0", "1"], "0.01 to 60 seconds"),
        (["--interval", "x", "1"], "0.01 to 60 seconds"),
        (["--duration", "-1", "1"], "positive number of seconds"),
        (["--duration", "nan", "1"], "positive number of seconds"),
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


@pytest.mark.parametrize("meta", [{}, {"pid": "x", "attach_s": "nan"}, {"pid": "9" * 30}])
def test_a_target_of_which_the_file_says_nothing_sensible(meta):
    assert Target.from_meta(meta) == Target()


def test_a_target_survives_the_file_and_never_reaches_the_terminals_controls():
    target = Target("redis-server", 12, "all writable memory", 0.0012)
    assert Target.from_meta(target.to_meta()) == target
    assert str(Target.from_meta({"target": "\x1b[2J", "pid": "7"})) == "pid 7 ('\\x1b[2J')"


# ---- commands ----------------------------------------------------------------------------------


def run_command(*arguments, n_intervals=4, **options):
    return subprocess.run(
        [*SCRIPTED, str(n_intervals), "3", *FAST, *arguments],
        check=False, capture_output=True, text=True, timeout=60, **options
    )  # fmt: skip


def test_a_commands_streams_are_its_own():
    shell = ["sh", "-c", "read line; echo got $line; echo oops >&2; exit 3"]
    done = run_command("--", *shell, input="hello\n")
    assert done.returncode == 0
    assert done.stdout == "got hello\n"
    assert "oops" in done.stderr
    assert "the target exited; the command's exit code was 3" in done.stderr
    assert "4 intervals in" in done.stderr


def test_with_json_a_commands_output_goes_to_stderr():
    done = run_command("--json", "--quiet", "--", "sh", "-c", "echo hello; kill -9 $$")
    *lines, summary = map(json.loads, done.stdout.splitlines())
    assert len(lines) == summary["intervals"] == 4
    assert (summary["ended"], summary["exit_code"]) == ("exit", -9)
    assert done.stderr == "hello\n"


def test_a_command_goes_on_after_the_trace_and_is_waited_for():
    done = run_command("--count", "2", "--", "sh", "-c", "sleep 0.3; echo end", n_intervals=0)
    assert done.returncode == 0
    assert done.stdout == "end\n"
    assert "2 intervals in" in done.stderr
    assert "goes on, not traced; waiting for its end" in done.stderr


def test_ctrl_c_leaves_a_command_alone():
    """The terminal sends it SIGINT too; here it gets none, and nothing is forwarded."""
    command = [*SCRIPTED, "0", "3", *FAST, "--json", "--", "sh", "-c", "echo $$ >&2; exec sleep 60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as it:
        pid = next(int(line) for line in it.stderr if line.strip().isdecimal())
        try:
            it.stdout.readline()
            it.send_signal(signal.SIGINT)
            *_, summary = it.stdout
            assert it.wait(30) == 130
            os.kill(pid, 0)  # it is still there
        finally:
            os.kill(pid, signal.SIGKILL)
    assert json.loads(summary)["exit_code"] is None


def test_a_command_that_does_not_start(capsys):
    assert main(["--", "/no/such/program"]) == 3
    assert capsys.readouterr().err == (
        "mempattern-trace: cannot start '/no/such/program': No such file or directory; "
        "name a program in PATH, or its file\n"
    )


def test_a_command_that_cannot_be_traced_is_ended(monkeypatch, capsys):
    seen = []

    def refuse(pid, options, wait):
        seen.append(pid)
        raise ProcessError(1, "not this one")

    monkeypatch.setattr(attach, "open_source", refuse)
    assert main(["--", "sleep", "60"]) == 3
    assert capsys.readouterr().err == "mempattern-trace: not this one\n"
    with pytest.raises(ProcessLookupError):
        os.kill(seen[0], 0)


# ---- what is traced ----------------------------------------------------------------------------

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


# ---- and for real ------------------------------------------------------------------------------


@pytest.mark.usefixtures("uffd")
def test_a_real_process_is_seen_to_write_just_its_pages():
    pages = list(range(3, 900, 7))
    with RealTarget() as target:
        start = target.map(1000)
        command = [
            *[sys.executable, "-m", "mempattern.cli.trace", "--json", "--interval", "0.05"],
            *["--region", f"{start:x}-{start + 1000 * 4096:x}", str(target.pid)],
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as it:
            assert b"tracing pid" in it.stderr.readline()
            target.write(pages)
            seen = []
            while not seen or json.loads(seen[-1])["touched_pages"] < len(pages):
                seen.append(it.stdout.readline())
            it.send_signal(signal.SIGINT)
            seen += it.stdout.readlines()
            assert it.wait(30) == 130
    summary = json.loads(seen[-1])
    assert summary["dirty_pages"] == summary["touched_pages"] == len(pages)
    assert summary["source"] == "userfaultfd"
    assert summary["attach_s"] > 0


@pytest.mark.usefixtures("uffd")
def test_a_command_that_ends_before_it_can_be_traced(capfd):
    assert main(["--", "sh", "-c", "exit 7"]) == 3
    assert capfd.readouterr().err.endswith(
        "the command ended (exit code 7) before it could be traced\n"
    )


@pytest.mark.usefixtures("uffd")
def test_huge_pages_that_tracing_splits_are_counted(capfd):
    n_pages = 4 * 512
    with RealTarget() as target:
        address = target.map(n_pages, "thp")
        target.write(range(n_pages))
        region = f"{address:x}-{address + n_pages * 4096:x}"
        smaps = Path(f"/proc/{target.pid}/smaps").read_text()
        block = smaps[smaps.index(f"{address:x}-") :]
        kib = int(block[block.index("AnonHugePages:") :].split()[1])
        assert kib >= 2048
        options = ["--region", region, "--count", "1", "--interval", "0.02", str(target.pid)]
        assert main(["--json", *options]) == 0
        summary = json.loads(capfd.readouterr().out.splitlines()[-1])
        assert summary["huge_bytes"] == kib * 1024
        assert main(["--quiet", *options]) == 0
        assert "MiB were in transparent huge pages" in capfd.readouterr().out
