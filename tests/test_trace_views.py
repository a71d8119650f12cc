"""What a terminal shows of a trace: it fits, it draws where the pages are, it ends on Ctrl-C."""

import fcntl
import io
import os
import pty
import re
import struct
import termios
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scripted import FAST, ME, SCRIPTED, Scripted

from mempattern.analysis.watch import Watch
from mempattern.interval import Interval, Provenance
from mempattern.regions import Region
from mempattern.report import latest
from mempattern.report.heat import Strip, Strips
from mempattern.report.live import LiveView
from mempattern.report.text import PlainView

SIZES = [(80, 24), (120, 40), (200, 60)]


def watched(n_intervals, n_regions, source_name="scripted"):
    """A watch, and its rows as they come."""
    source = Scripted(n_intervals, n_regions)
    watch = Watch(source.regions, Provenance(source_name))
    return watch, (watch.observe(interval) for interval in source.intervals(0.001))


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("n_regions", [1, 3, 300])
@pytest.mark.parametrize("source", ["kvm-dirty-log", "userfaultfd"])
def test_a_frame_fits_the_terminal(width, height, n_regions, source):
    console = Console(width=width, height=height, file=io.StringIO(), force_terminal=True,
                      color_system=None)  # fmt: skip
    watch, rows = watched(80, n_regions, source)
    view = LiveView("mempattern-trace", console, watch.findings)
    for row in rows:
        view.add(row)
    view.frame()
    judged(view._latest)
    console.print(view.frame())
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) < height
    text = "\n".join(lines)
    for word in ("heap", "redirtied", "fresh", "working set", "D(t)", "pattern", "tracer"):
        assert word in text
    assert ("verdict" in text) == (source == "kvm-dirty-log")
    hidden = re.search(r"(\d+) more regions", text)
    assert (hidden is not None) == (n_regions == 300)


def judged(latest):
    """Wait for the thread."""
    latest._thread.join(60)
    assert not latest._thread.is_alive()


def test_the_verdict_holds_nothing_up_and_costs_a_hundredth(monkeypatch):
    now_s, cpu_s, asked, go = [0.0], [0.0], [], threading.Event()
    monkeypatch.setattr(latest.time, "monotonic", lambda: now_s[0])
    monkeypatch.setattr(latest.time, "thread_time", lambda: cpu_s[0])

    class Slow:
        @property
        def intensity(self):
            assert go.wait(60)
            cpu_s[0] += 0.5
            return f"verdict {len(asked)}"

    def ask():
        asked.append(now_s[0])
        return Slow()

    found = latest.Latest(ask)
    assert found.findings is found.intensity is None
    found.renew()
    for now_s[0] in (0.5, 2.0, 30.0):
        found.renew()  # returns while the first verdict is being thought about
    assert asked == [0.0]
    assert found.findings is not None
    assert found.intensity is None
    go.set()
    judged(found)
    assert found.intensity == "verdict 1"
    found.renew()
    judged(found)
    for now_s[0] in (31.0, 79.9, 80.1):
        found.renew()
    judged(found)
    assert asked == [0.0, 30.0, 80.1]


@given(
    sizes=st.lists(st.integers(1, 1 << 20), min_size=1, max_size=30),
    cells=st.integers(8, 64),
    dirty=st.lists(st.integers(0, 1 << 40), min_size=1, max_size=5),
)
def test_strips_fit_their_line_and_draw_every_dirty_page(sizes, cells, dirty):
    regions = tuple(Region(f"region{i}", size) for i, size in enumerate(sizes))
    watch = Watch(regions, Provenance("test"))
    bitmaps = {region.name: np.zeros(region.n_words, np.uint64) for region in regions}
    for number in dirty:
        region = regions[number % len(regions)]
        page = number % region.n_pages
        bitmaps[region.name][page // 64] |= np.uint64(1 << (page % 64))
    row = watch.observe(Interval(0, 0, 1, regions, bitmaps, watch.provenance))
    strips = Strips()
    strips.follow(row, cells)
    assert 1 <= len(strips.shown) == len(regions) - strips.n_hidden
    assert sum(strip.width for strip in strips.shown) + len(strips.shown) - 1 <= cells
    for strip in strips.shown:
        density = strip.density(row)
        assert len(density) == strip.n_cells <= strip.width
        assert len(strip.heading) == strip.width
        activity = row.active.get(strip.region.name)
        assert np.any(density > 0) == (activity is not None)
        assert np.all((density >= 0) & (density <= 1))


def test_what_a_region_did_before_it_grew_stays_at_its_address():
    provenance = Provenance("test")
    before = Region("stack", 1024, address=8 << 21)
    after = Region("stack", 2048, address=6 << 21)
    bitmap = np.zeros(before.n_words, np.uint64)
    bitmap[0] = 0xFF  # the group at 8 << 21
    watch = Watch((before,), provenance)
    row = watch.observe(Interval(0, 0, 1, (before,), {"stack": bitmap}, provenance))
    assert Strip(before, 2, 5).density(row).tolist() == [8 / 512, 0]
    assert Strip(after, 4, 5).density(row).tolist() == [0, 0, 8 / 512, 0]


def test_regions_give_way_to_more_active_ones_only():
    provenance = Provenance("test")
    regions = tuple(Region(f"region{i:02}", 512) for i in range(20))
    watch, strips = Watch(regions, provenance), Strips()

    def shown_after(index, name, n_pages):
        bitmaps = {region.name: np.zeros(region.n_words, np.uint64) for region in regions}
        bitmaps[name][:] = (1 << n_pages) - 1
        strips.follow(
            watch.observe(Interval(index, index, index + 1, regions, bitmaps, provenance)), 40
        )
        return {strip.region.name for strip in strips.shown}

    first = shown_after(0, "region19", 10)
    assert "region19" in first
    assert len(first) == 4
    for index, region in enumerate(regions[12:15], 1):
        shown_after(index, region.name, 10)
    assert shown_after(4, "region03", 15) == {"region19", "region12", "region13", "region14"}
    assert "region03" in shown_after(5, "region03", 15)


def test_plain_lines_name_the_regions_again_when_these_change():
    out = io.StringIO()
    view = PlainView(out)
    for row in watched(8, 3)[1]:
        view.show(row)
    lines = out.getvalue().splitlines()
    headings = [line for line in lines if "redirtied" in line]
    assert len(lines) - len(headings) == 8
    assert len(headings) == len(set(headings))
    assert "late" in headings[-1]
    assert "late" not in headings[0]


@pytest.mark.parametrize(("width", "height"), SIZES[:2])
@pytest.mark.parametrize("n_regions", [3, 300])
def test_on_a_terminal_it_draws_and_ctrl_c_ends_it_with_the_summary(width, height, n_regions):
    child, terminal = pty.fork()
    if child == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        os.environ["TERM"] = "xterm-256color"
        os.execv(SCRIPTED[0], [*SCRIPTED, "0", str(n_regions), *FAST, ME])
    said, stopped = b"", False
    try:
        while True:
            try:
                chunk = os.read(terminal, 65536)
            except OSError:  # the child has closed its end
                break
            said += chunk
            if not stopped and said.count(b"working set") >= 3:
                os.write(terminal, b"\x03")
                stopped = True
    finally:
        _, status = os.waitpid(child, 0)
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 130
    text = said.decode()
    assert "Traceback" not in text
    assert text.index("tracing pid") < text.index("working set") < text.index("summary")
    assert "Ctrl-C" in text[text.index("summary") :]
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\^C", "", text)
    frames = [line for line in re.split(r"[\r\n]+", plain) if line.startswith(("│", "╭", "╰"))]
    assert max(map(len, frames)) <= width
