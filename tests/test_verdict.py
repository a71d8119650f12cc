"""What `mempattern-trace` and `mempattern report` say of a guest, and of what is none."""

import argparse
import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordings import PROVENANCE, hot, idle, intervals
from scripted import ME, Scripted, trace_json, use

import mempattern.sources
from mempattern.analysis.target import Target
from mempattern.analysis.watch import Watch
from mempattern.classify.kinds import Kind
from mempattern.classify.patterns import PatternDetector
from mempattern.cli import attach
from mempattern.cli.demo import sample_path
from mempattern.cli.main import main as mempattern_main
from mempattern.cli.trace import main, parse
from mempattern.interval import Provenance
from mempattern.live.decisions import Result
from mempattern.live.figures import Figures
from mempattern.live.record import to_meta
from mempattern.quantities import parse_bandwidth, parse_duration
from mempattern.regions import Region
from mempattern.report.jsonlines import summary_object
from mempattern.report.text import advised, next_command, summary_lines
from mempattern.sources.layout import Block, address_range, guest_ram
from mempattern.stats import GroupStats
from mempattern.trace import TraceReader, TraceWriter

REDIS = Path(__file__).parent.parent / "docs" / "redis.mpt"
GUEST = Target("qemu-system-x86", 42, "guest RAM, found by the size of -m", is_guest=True)
PAGES = 4000


def summary_of(rows, target=GUEST, *, file=None, provenance=PROVENANCE, **options):
    watch = Watch((Region("ram", PAGES),), provenance, target=target, file=file)
    for interval in intervals(rows, **options):
        watch.observe(interval)
    return watch.summary()


def lines_of(summary, *names):
    found = [line for line in summary_lines(summary) if line.split()[0] in names]
    assert [line.split()[0] for line in found] == list(names)
    return found


def verdict_of(summary):
    return json.loads(json.dumps(summary_object(summary), allow_nan=False))["verdict"]


# ---- the words ---------------------------------------------------------------------------------


def test_of_a_guest_there_is_a_verdict_with_its_assumption_and_advice():
    summary = summary_of(hot(PAGES, 50, 100), file=Path("my guest.mpt"))
    verdict, assumed, advice, command = lines_of(
        summary, "verdict", "assumed", "advice", "mempattern"
    )
    assert verdict.startswith("verdict      not memory intensive: stock pre-copy ends, in ")
    assert assumed == (
        "  assumed    a link of 10 Gbit/s, a downtime limit of 300 ms, no page taken to hold only "
        "zeros (--bandwidth, --downtime-limit)"
    )
    assert advice == "  advice     it can migrate as it is; what the very pages tell:"
    assert command == (
        "             mempattern predict 'my guest.mpt' --bandwidth 10Gbit/s --max-downtime 300ms"
    )
    assert verdict_of(summary)["advice"] == f"{advice[13:]} {command[13:]}"
    assert parse_bandwidth("10Gbit/s") == 1.25e9
    assert parse_duration("300ms") == 0.3


@pytest.mark.parametrize("name", ["it's a guest.mpt", "-x.mpt", "$HOME/a;b.mpt"])
@given(
    bandwidth_Bps=st.floats(1e-6, 1e12),
    limit_s=st.floats(1e-12, 1e5),
    high_s=st.none() | st.floats(1e-4, 1e5),
)
def test_the_advised_command_can_be_pasted(name, bandwidth_Bps, limit_s, high_s):
    """It asks about the same link, and about a ceiling that is enough, but not much more."""
    outlook = high_s and SimpleNamespace(downtime_s=SimpleNamespace(high=high_s))
    found = SimpleNamespace(bandwidth_Bps=bandwidth_Bps, downtime_limit_s=limit_s,
                            memory_intensive=False, outlook=outlook)  # fmt: skip
    program, command, *rest = shlex.split(next_command(found, Path(name)))
    assert (program, command) == ("mempattern", "predict")
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("file")
    parser.add_argument("--bandwidth", type=parse_bandwidth)
    parser.add_argument("--max-downtime", type=parse_duration)
    asked = parser.parse_args(rest)
    assert Path(asked.file) == Path(name)
    assert asked.bandwidth == pytest.approx(bandwidth_Bps, rel=1e-9)
    needed_s = max(limit_s, high_s or 0.0)
    assert needed_s * (1 - 1e-9) <= asked.max_downtime <= needed_s * 1.011
    if needed_s > limit_s:
        said_s = parse_duration(advised(found).rpartition(" for ")[2].replace(" ", ""))
        assert said_s == asked.max_downtime


def test_a_recorded_migration_is_told():
    figures = Figures("completed", 2.5, downtime_s=0.12, sent_bytes=3 * 10**8)
    watch = Watch((Region("ram", PAGES),), PROVENANCE, facts=to_meta(Result(figures, 0.5, (), ())))
    for interval in intervals(hot(PAGES, 10, 100)):
        watch.observe(interval)
    assert lines_of(watch.summary(), "migration") == [
        "migration    ended as: completed; total time 2.5 s; downtime 120 ms of at most 500 ms; "
        "286.1 MiB sent"
    ]


@pytest.mark.parametrize("fact", ["[", "{}", "7", '{"status": "\\u001b[2J"}'])
def test_facts_of_a_migration_may_be_anybodys(fact):
    facts = {"migration": fact, "migration.passes": "[]", "migration.decisions": "[]"}
    watch = Watch((Region("ram", PAGES),), PROVENANCE, facts=facts)
    for interval in intervals(hot(PAGES, 10, 100)):
        watch.observe(interval)
    assert all(line.isprintable() for line in summary_lines(watch.summary()))


def test_of_what_is_no_guest_there_is_the_pattern_only():
    for target in (Target(), Target("redis-server", 7, "all writable memory")):
        summary = summary_of(hot(PAGES, 50, 100), target)
        lines_of(summary, "pattern")
        lines_of(summary)
        assert verdict_of(summary) is None


@pytest.mark.parametrize("source", ["kvm-dirty-log", "kvm-dirty-ring"])
def test_what_kvm_logged_is_a_guest_whoever_traced_it(source):
    summary = summary_of(idle(PAGES, 50), Target(), provenance=Provenance(source))
    assert verdict_of(summary)["memory_intensive"] is False
    (advice,) = lines_of(summary, "advice")
    assert advice.endswith("record one, and mempattern predict says what its very pages tell")


def test_a_guest_that_rewrites_more_than_the_downtime_can_send():
    """4000 pages, again and again, take 131 ms."""
    watch = Watch((Region("ram", 50_000),), PROVENANCE, 512, GUEST, 1.25e8, 0.1)
    for interval in intervals(hot(50_000, 60, 4000)):
        watch.observe(interval)
    verdict = verdict_of(watch.summary())
    assert verdict["memory_intensive"] is True
    assert verdict["least_limit_s"]["high"] == pytest.approx(4000 * 4104 / 1.25e8, rel=0.05)
    assert verdict["passes"] is verdict["total_s"] is verdict["doubt"] is None
    assert verdict["advice"].startswith("raise the limit, throttle the guest or use post-copy")


def test_a_downtime_that_may_be_longer_than_the_limit_is_said():
    """QEMU's limit is for what is known to remain, and the guest writes on until it is stopped."""
    watch = Watch((Region("ram", 50_000),), PROVENANCE, 512, GUEST, 1.25e8, 0.1)
    for interval in intervals(hot(50_000, 60, 2950)):
        watch.observe(interval)
    verdict = verdict_of(watch.summary())
    assert verdict["memory_intensive"] is False
    assert verdict["downtime_s"]["high"] > 0.1
    high_ms = f"{1e3 * verdict['downtime_s']['high']:.3g} ms"
    assert verdict["advice"].startswith(
        f"it can migrate, if the guest may be stopped for {high_ms}"
    )


# ---- better no answer than a wrong one ---------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "options", "doubt"),
    [
        ([], {}, "nothing was observed"),
        (idle(PAGES, 1), {}, "observe for longer: 1 intervals show too little"),
        (hot(PAGES, 19, 100), {}, "observe for longer: 19 intervals show too little"),
        (hot(PAGES, 50, 100), {"gaps_s": 0.02}, "observe again: 980 ms between its intervals"),
        (hot(PAGES, 50, 100), {"lost_pages": 1}, "every interval lost pages"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_said_without_figures(rows, options, doubt):
    verdict = verdict_of(summary_of(rows, **options))
    assert verdict["memory_intensive"] is None
    assert verdict["doubt"].startswith(doubt)
    for name in ("passes", "total_s", "sent_bytes", "downtime_s", "least_limit_s"):
        assert verdict[name] is None
    assert verdict["sentence"] == f"not known whether memory intensive: {verdict['doubt']}"
    distinct = lines_of(summary_of(rows, **options), "D(t)")
    assert ("lost pages" in distinct[0]) == ("lost_pages" in options)
    assert verdict["advice"].startswith("do not migrate on this trace alone")


def test_pages_of_different_sizes_have_no_verdict(monkeypatch, capsys):
    """But D(t), in pages of whatever size."""
    source, target = use(Scripted(30), monkeypatch), Target("qemu", 1, is_guest=True)
    monkeypatch.setattr(attach, "open_source", lambda pid, options, wait: (source, target))
    code, _, summary, _ = trace_json(capsys, "--bandwidth", "1Gbit", "--downtime-limit", "1s", ME)
    assert code == 0
    verdict = summary["verdict"]
    assert verdict["doubt"] == "its regions have pages of different sizes"
    assert (verdict["bandwidth_Bps"], verdict["downtime_limit_s"]) == (1.25e8, 1.0)
    assert summary["distinct_pages"]


# ---- the recorded ones -------------------------------------------------------------------------


def report(capsys, *arguments):
    assert mempattern_main(["report", *map(str, arguments)]) == 0
    return capsys.readouterr().out.splitlines()


def test_the_sample_in_words(capsys):
    lines = report(capsys, sample_path())
    (verdict,) = [line for line in lines if line.startswith("verdict")]
    assert verdict == (
        "verdict      not memory intensive: stock pre-copy ends, in 3 passes and 179 ms (169-189), "
        "sends 199 MiB (188-210), and stops the guest for 15.6 ms (2.81-28.9)"
    )
    (distinct,) = [line for line in lines if line.startswith("D(t)")]
    assert distinct == (
        "D(t)         distinct pages: 680 in 100 ms, 2397 in 401 ms, 6898 in 1.2 s, 26046 in "
        "4.8 s, 41910 in 12.8 s (means)"
    )
    more = report(capsys, sample_path(), "--bandwidth", "10Mbit")
    (verdict,) = [line for line in more if line.startswith("verdict")]
    assert verdict == (
        "verdict      not known whether memory intensive: observe for longer: its first pass takes "
        "164 s, and only 14 s were observed"
    )


def test_redis_in_words_is_no_guest(capsys):
    lines = report(capsys, REDIS)
    assert not [line for line in lines if line.startswith("verdict")]
    assert len([line for line in lines if line.startswith("pattern")]) == 1


@pytest.mark.parametrize("path", [sample_path(), REDIS], ids=lambda path: path.stem)
def test_the_pattern_is_the_detectors(path, capsys):
    summary = json.loads(report(capsys, "--json", path)[-1])
    with TraceReader(path) as trace:
        stats = GroupStats(trace.regions)
        detector = PatternDetector(stats)
        for interval in trace:
            stats.follow(interval.regions)
            stats.update(interval)
            detector.observe(interval)
    pattern = detector.pattern()
    assert summary["pattern"]["kind"] in [*Kind]
    assert summary["pattern"]["kind"] == pattern.kind
    assert summary["pattern"]["confidence"] == pattern.confidence
    assert summary["pattern"]["sentence"] == pattern.sentence
    assert summary["pattern"]["period_s"] == pattern.period_s


def test_a_file_knows_the_guest_and_its_zero_pages(tmp_path, capsys):
    facts = {"nonzero_pages": json.dumps({"part_pages": 4032, "regions": {"ram": [1500]}})}
    path = tmp_path / "guest.mpt"
    with TraceWriter(path, (Region("ram", PAGES),), PROVENANCE, GUEST.to_meta() | facts) as trace:
        for interval in intervals(hot(PAGES, 50, 100)):
            trace.write(interval)
    verdict = json.loads(report(capsys, "--json", path, "--bandwidth", "8MB/s")[-1])["verdict"]
    assert verdict["zero_pages"] == 2500
    assert verdict["bandwidth_Bps"] == 8e6
    assert verdict["total_s"]["low"] <= 1600 * 4104 / 8e6 <= verdict["total_s"]["high"]
    assert f"predict {path} --bandwidth 64Mbit/s --max-downtime 300ms" in verdict["advice"]


# ---- the commands ------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [main, mempattern_main], ids=["trace", "report"])
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--bandwidth", "10G"], "may be bits or bytes"),
        (["--bandwidth", "0Gbit"], "not positive"),
        (["--downtime-limit", "300"], "has no unit"),
    ],
)
def test_wrong_quantities_are_one_sentence_and_code_2(run, arguments, complaint, capsys):
    rest = [ME] if run is main else ["report", str(REDIS)]
    with pytest.raises(SystemExit) as caught:
        run([*rest, *arguments])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line


RAM = Block(Region("pc.ram", 512), 1 << 30)


@pytest.mark.parametrize(
    ("layout", "region", "is_guest"),
    [
        (guest_ram([RAM]), "auto", True),
        (guest_ram([RAM]), "pc.ram", False),  # a part of its RAM, perhaps
        (address_range(0, 4096), "0-1000", False),
        ("writable memory", "auto", False),
    ],
)
def test_a_guest_is_one_whose_whole_ram_is_traced(layout, region, is_guest, monkeypatch):
    monkeypatch.setattr(attach, "choose_layout", lambda pid, options, wait: (layout, "words"))
    monkeypatch.setattr(mempattern.sources, "open_process",
                        lambda *arguments, **options: SimpleNamespace(attach_s=0.001))  # fmt: skip
    _, target = attach.open_source(7, parse(["--region", region, "7"]), None)
    assert target.is_guest is is_guest
    assert Target.from_meta(target.to_meta()) == target
