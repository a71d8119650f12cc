"""`mempattern report --html`: what the page says, what it is made of, and what it lets in."""

import base64
import hashlib
import itertools
import json
import platform
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from recordings import PROVENANCE, hot, intervals
from traces import grow, make_intervals, write

from mempattern import Interval, Region
from mempattern.cli.main import main
from mempattern.live.decisions import Decision, Passed, Result
from mempattern.live.figures import Figures
from mempattern.live.record import to_meta
from mempattern.report.markup import Markup, element, escape, script_json
from mempattern.report.migrated import Migrated
from mempattern.report.page_migration import migration_section
from mempattern.trace import TraceReader, TraceWriter

EVIL = """</script></style><img src=x onerror=alert(1)>'"&amp;<!--${title}"""
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Checks that elements nest, and keeps the text of tables, of scripts and of all."""

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.source = Path(path).read_text()
        self.open, self.elements, self.text = [], [], []
        self.tables, self.scripts = {}, []
        self._rows = []
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self._rows.append([])
        if tag in ("td", "th"):
            self._rows[-1].append("")
        if tag == "script":
            self.scripts.append("")
        if tag == "table":
            self._rows = []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "table":
            self.tables[self._rows[0][0] + "/" + self._rows[0][1]] = self._rows[1:]

    def handle_data(self, data):
        if "script" in self.open:
            self.scripts[-1] += data
        elif "style" not in self.open:
            self.text.append(data)
        if (self.open and self.open[-1] in ("td", "th")) or ("button" in self.open and self._rows):
            self._rows[-1][-1] += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def said(self):
        return " ".join("".join(self.text).split())

    @property
    def data(self):
        return json.loads(self.scripts[0])

    def cells(self):
        found = self.data
        n_rows, n_columns = len(found["rows"]), len(found["columns"]["n"])
        planes = np.frombuffer(zlib.decompress(base64.b64decode(found["cells"])), np.uint8)
        planes = planes.reshape(-1, n_rows, n_columns).astype(np.uint64)
        return sum(plane << np.uint64(8 * byte) for byte, plane in enumerate(planes))


def page_of(capsys, trace, *arguments):
    file = trace.with_suffix(".html")
    assert main(["report", str(trace), "--html", str(file), "--force", *arguments]) == 0
    capsys.readouterr()
    return Page(file)


def json_of(capsys, trace, *arguments):
    assert main(["report", str(trace), "--json", *arguments]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def number(text):
    return float(text.replace(",", ""))


@pytest.fixture
def guest(tmp_path):
    """16 MiB with a hot set."""
    with TraceWriter(tmp_path / "guest.mpt", (Region("ram", 4096),), PROVENANCE,
                     {"guest": "1"}) as trace:  # fmt: skip
        for interval in intervals(hot(4096, 40, 200, first=700)):
            trace.write(interval)
    return tmp_path / "guest.mpt"


def test_its_numbers_are_those_of_the_json(guest, capsys):
    page = page_of(capsys, guest, "--bandwidth", "1Gbit")
    *rows, summary = json_of(capsys, guest, "--bandwidth", "1Gbit")
    columns = page.data["columns"]
    for key, name in (("dirty", "dirty_pages"), ("redirtied", "redirtied_pages"),
                      ("fresh", "fresh_pages"), ("bytes", "dirty_bytes"),
                      ("active", "active_groups"), ("first", "iteration")):  # fmt: skip
        assert columns[key] == [row[name] for row in rows]
    assert page.cells().sum(axis=0).tolist() == columns["dirty"]
    assert page.cells().sum() == summary["dirty_pages"]
    assert [hot["group"] for hot in summary["hot_groups"]] == [
        int(attributes["data-group"]) for attributes in page.all("button")
        if "data-group" in attributes
    ]  # fmt: skip
    for shown, hot_group in zip(page.tables["Group/Address"], summary["hot_groups"], strict=True):
        assert shown[0] == f"{hot_group['region']}[{hot_group['group']}]"
        assert int(shown[1], 16) == hot_group["address"]
        assert number(shown[2]) == round(hot_group["write_rate"])
        assert number(shown[3]) == hot_group["touched"]
        assert number(shown[4]) == hot_group["active_intervals"]
    curve = page.tables["Window/Distinct pages"]
    assert [number(row[1]) for row in curve] == pytest.approx(
        [windows["pages"] for windows in summary["distinct_pages"]], abs=0.06
    )
    (region,) = page.tables["Region/Address"]
    assert [number(cell) for cell in region[4:]] == [
        summary[name] for name in ("dirty_pages", "redirtied_pages", "fresh_pages")
    ]
    assert summary["pattern"]["sentence"] in page.said
    answer, reason = summary["verdict"]["sentence"].split(": ", 1)
    assert answer.capitalize() in page.said
    assert reason[1:] in page.said
    advice = summary["verdict"]["advice"]
    told, command = advice.split("; what the very pages tell: ")
    assert f"Advice: {told}. What the very pages tell:" in page.said
    assert command.replace(str(guest), guest.name) in page.said
    assert str(guest.parent) not in page.source
    timeline = page.tables["Intervals/From"]
    assert sum(number(row[3]) for row in timeline) == summary["dirty_pages"]


def test_the_forecast_is_for_half_and_twice_the_bandwidth_too(guest, capsys):
    page = page_of(capsys, guest, "--bandwidth", "1Gbit", "--downtime-limit", "1s")
    rows = page.tables["Bandwidth/Downtime limit"]
    assert {row[0] for row in rows} == {"500 Mbit/s", "1 Gbit/s", "2 Gbit/s"}
    assert {row[2] for row in rows} == {"yes"}


def test_it_asks_for_nothing_and_runs_nothing_else(guest, capsys):
    page = page_of(capsys, guest)
    (policy,) = (m["content"] for m in page.all("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    style = re.search(r"<style>(.*?)</style>", page.source, re.DOTALL)[1]
    for text in (page.scripts[1], style):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert len(page.scripts) == 2
    for _, attributes in page.elements:
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        assert attributes.get("href", "#")[0] == "#" or attributes["href"] == "data:,"
        assert "src" not in attributes
    assert not re.search(r"(?:https?:)?//\w", style + page.scripts[1].replace("// ", ""))


def test_it_can_be_read_without_seeing_it(guest, capsys):
    page = page_of(capsys, guest)
    assert page.all("html") == [{"lang": "en"}]
    for landmark in ("header", "nav", "main", "footer"):
        assert len(page.all(landmark)) == 1
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= before + 1 for before, later in itertools.pairwise(levels))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for name in ("aria-labelledby", "aria-describedby"):
            assert set(attributes.get(name, "").split()) <= set(ids)
        if attributes.get("href", "").startswith("#"):
            assert attributes["href"][1:] in ids
    for figure in page.all("canvas") + page.all("svg"):
        assert figure["role"] in ("img", "application")
        assert figure["aria-label"]
    assert len(page.all("caption")) == len(page.all("table")) > 5
    assert all("scope" in heading for heading in page.all("th"))


def test_text_of_a_trace_is_text(tmp_path, capsys):
    evil = Region(EVIL, 1000, 4096, 1 << 40)
    words = {EVIL: np.full(evil.n_words, 1, np.uint64)}
    result = Result(Figures("completed", 3.0, error=EVIL), 1.0,
                    (Decision(0.5, 1, EVIL, EVIL, 0.0, 0.0, 0.3, 1.0),),
                    (Passed(10**9 + 10**8, Figures(EVIL, 0.1, 1), 0.3, 5),), EVIL)  # fmt: skip
    facts = {EVIL: EVIL, "target": EVIL, "traced": EVIL, **to_meta(result)}
    path = tmp_path / "evil.mpt"
    with TraceWriter(path, (evil,), PROVENANCE, facts) as trace:
        for number_ in range(30):
            start = 10**9 + number_ * 10**8
            trace.write(Interval(number_, start, start + 10**8, (evil,), words, PROVENANCE))
    page = page_of(capsys, path)
    assert not page.all("img")
    assert len(page.scripts) == 2
    assert "<" not in page.scripts[0]
    assert page.data["regions"][0]["name"] == EVIL
    assert page.tables["Region/Address"][0][0] == EVIL
    assert [row[1:] for row in page.tables["At/Did"]] == [[EVIL, EVIL]]
    assert page.said.count(" ".join(EVIL.split())) >= 6


def test_a_recorded_migration_has_qemus_figures(tmp_path, capsys):
    def passed(at_s, number_, mbps):
        figures = Figures("active", at_s, number_, 10**8 * number_, 10**7, 4096, mbps, 2000)
        return Passed(10**9 + round(at_s * 1e9), figures, 0.3, 77)

    result = Result(Figures("completed", 2.5, downtime_s=0.12, sent_bytes=3 * 10**8), 0.5, (),
                    (passed(1.0, 1, 1.25e8), passed(2.0, 2, 2.5e8)))  # fmt: skip
    path = tmp_path / "moved.mpt"
    with TraceWriter(path, (Region("ram", 4096),), PROVENANCE, to_meta(result)) as trace:
        for interval in intervals(hot(4096, 30, 20)):
            trace.write(interval)
    page = page_of(capsys, path)
    assert page.data["passes"] == [
        {"at": 1.0, "bandwidth": 1.25e8, "dirtyRate": 2000 * 4096},
        {"at": 2.0, "bandwidth": 2.5e8, "dirtyRate": 2000 * 4096},
    ]
    assert "ended as: completed; total time 2.5 s; downtime 120 ms of at most 500 ms" in page.said
    first, second = page.tables["Pass/At"]
    assert first[:5] == ["1", "1.0 s", "95.4 MiB", "9.5 MiB", "1 Gbit/s"]
    assert second[6] == "77"


@pytest.mark.parametrize(
    "facts",
    [{}, {"migration": "[]"}, {"migration": "{"}, {"migration": "3"},
     {"migration": "{}", "migration.passes.000": "7"},
     {"migration": "{}", "migration.passes.000": '[1, {"ns": 1e999, "at_s": "x"}]'},
     {"migration": '{"total_s": 1e400}', "migration.decisions.000": '[{"did": [1]}, null]'},
     {"migration": "[" * 50000}],
)  # fmt: skip
def test_facts_of_a_migration_that_make_no_sense(facts, tmp_path, capsys):
    migrated = Migrated.of(facts, 0)
    assert migrated is None or migrated.marks() == []
    path = tmp_path / "odd.mpt"
    with TraceWriter(path, (Region("ram", 640),), PROVENANCE, facts) as trace:
        for interval in intervals(hot(640, 3, 20)):
            trace.write(interval)
    assert page_of(capsys, path).data["passes"] == []


@pytest.mark.parametrize("huge", ["1e200", 10**200])
def test_a_dirty_rate_beyond_all_numbers(huge):
    passed = f'[{{"ns": 7, "dirty_pages_per_s": {huge}, "page_bytes": {huge}}}]'
    migrated = Migrated.of({"migration": "{}", "migration.passes.000": passed}, 0)
    assert migrated.marks() == [{"at": 7e-9, "bandwidth": 0.0, "dirtyRate": 0.0}]
    assert "inf" not in migration_section(migrated)


@pytest.mark.parametrize("huge", ["1e308", 10**307, -(10**308), "NaN", "Infinity"])
def test_numbers_that_qemu_cannot_have_said(huge):
    """Scaled or written out, some are beyond what a float holds."""
    names = ("number", "at_s", "sent_bytes", "remaining_bytes", "bandwidth_Bps", "dirty_pages",
             "expected_downtime_s", "limit_s", "throttle")  # fmt: skip
    passed = ", ".join(f'"{name}": {huge}' for name in names)
    facts = {"migration": f'{{"total_s": {huge}}}', "migration.passes.000": f"[{{{passed}}}]"}
    section = migration_section(Migrated.of(facts, 0))
    assert section.count("<td>-</td>") == len(names)  # and the dirty rate; the first is a heading
    assert "total time -;" in section


def test_regions_that_grow_and_lost_pages(tmp_path, capsys):
    made = make_intervals(30, seed=5, growth=grow)
    path = write(tmp_path / "grown.mpt", made, made[0].regions)
    page = page_of(capsys, path)
    *rows, summary = json_of(capsys, path)
    assert page.cells().sum(axis=0).tolist() == [row["dirty_pages"] for row in rows]
    assert page.data["columns"]["lost"] == [row["lost_pages"] for row in rows]
    assert len(page.data["regions"]) == len(summary["regions"])


def test_an_empty_trace_has_a_page(tmp_path, capsys):
    page = page_of(capsys, write(tmp_path / "empty.mpt", []))
    assert "There is no interval." in page.said
    assert page.data["columns"]["n"] == []


def test_markup_escapes_all_but_itself():
    assert escape("<&\"'>") == "&lt;&amp;&quot;&#x27;&gt;"
    assert escape(Markup("<b>")) == "<b>"
    made = element("a", "<", element("b", "&"), class_='"', data_x=1, hidden=None)
    assert made == '<a class="&quot;" data-x="1">&lt;<b>&amp;</b></a>'
    assert json.loads(script_json({"a": "</script>&"})) == {"a": "</script>&"}
    assert "<" not in script_json("</script>")


def test_a_screen_reader_finds_its_way(guest, capsys):
    """Much of what axe-core asks for, which had nothing to find fault with; without it."""
    page = page_of(capsys, guest)
    (html,) = page.all("html")
    assert html["lang"] == "en"
    for landmark in ("header", "nav", "main", "footer", "h1", "title"):
        assert len(page.all(landmark)) == 1, landmark
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    ids = [given["id"] for _, given in page.elements if "id" in given]
    assert len(ids) == len(set(ids))
    for _, given in page.elements:
        for key in ("aria-labelledby", "aria-describedby"):
            assert set(given.get(key, "").split()) <= set(ids)
        assert int(given.get("tabindex", 0)) <= 0  # the order is that of the page
    assert all(link["href"].removeprefix("#") in ids for link in page.all("a"))
    assert all("aria-labelledby" in section for section in page.all("section"))
    for picture in (*page.all("canvas"), *page.all("svg")):
        assert picture["aria-label"]
        assert picture["role"] in ("img", "application")
    assert all(cell["scope"] in ("col", "row") for cell in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    (live,) = (given for _, given in page.elements if given.get("aria-live"))
    assert (live["role"], live["id"]) == ("status", "readout")
    (heat,) = (given for given in page.all("canvas") if given["id"] == "heat")
    assert heat["tabindex"] == "0"
    assert "readout" in heat["aria-describedby"].split()
    for scrolled in (given for _, given in page.elements if given.get("class") == "scroll"):
        assert (scrolled["role"], scrolled["tabindex"]) == ("region", "0")
        assert scrolled["aria-label"]


def test_the_hosts_name_is_not_in_the_page(guest, capsys):
    with TraceReader(guest) as trace:
        assert trace.meta["hostname"] == platform.node()
    page = page_of(capsys, guest)
    assert "hostname" not in page.source
    assert platform.node() not in page.said.split()
