"""What `mempattern-trace --json` counts, and that a report of its file says the same."""

import json

import numpy as np
import pytest
from scripted import (
    FAST,
    ME,
    PROVENANCE,
    Scripted,
    scripted_pages,
    scripted_regions,
    trace_json,
    use,
)

from mempattern.analysis.target import Target
from mempattern.classify.kinds import Kind
from mempattern.cli.main import main as mempattern_main
from mempattern.cli.trace import main


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


@pytest.mark.parametrize("meta", [{}, {"pid": "x", "attach_s": "nan"}, {"pid": "9" * 30}])
def test_a_target_of_which_the_file_says_nothing_sensible(meta):
    assert Target.from_meta(meta) == Target()


def test_a_target_survives_the_file_and_never_reaches_the_terminals_controls():
    target = Target("redis-server", 12, "all writable memory", 0.0012)
    assert Target.from_meta(target.to_meta()) == target
    assert str(Target.from_meta({"target": "\x1b[2J", "pid": "7"})) == "pid 7 ('\\x1b[2J')"
