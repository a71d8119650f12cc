"""The HTML report in a real browser: nothing goes wrong, and it does what it says."""

import re

import numpy as np
import pytest
from recordings import PROVENANCE, hot, intervals, sweep
from test_cells import heat_of
from test_report_page import EVIL

from mempattern import Interval, Region
from mempattern.analysis.watch import Watch
from mempattern.cli.main import main
from mempattern.report.cells import HeatMap
from mempattern.report.page import write_page
from mempattern.trace import TraceWriter

FOCUSED = (
    "(({id, ariaLabel, textContent}) => id || ariaLabel || textContent)(document.activeElement)"
)
pytestmark = pytest.mark.usefixtures("chromium")


@pytest.fixture
def browse(chromium):
    """Opens a file, and checks in the end that the browser had nothing to complain of."""
    contexts, complaints = [], []

    def opened(path, **options):
        context = chromium.new_context(viewport={"width": 1280, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(said.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda request: complaints.append(request.url)
                if not request.url.startswith(("file:", "data:", "blob:")) else None)  # fmt: skip
        page.goto(path.as_uri())
        page.wait_for_selector("#explorer:not([hidden])")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def page_file(tmp_path):
    """8 MiB: group 1 is hot, and pages are swept; each interval is 0.1 s."""
    rows = hot(2048, 60, 100, first=520) | sweep(2048, 60, 8)
    with TraceWriter(tmp_path / "t.mpt", (Region("ram", 2048),), PROVENANCE) as trace:
        for interval in intervals(rows):
            trace.write(interval)
    assert main(["report", str(tmp_path / "t.mpt"), "--html", str(tmp_path / "t.html")]) == 0
    return tmp_path / "t.html"


def settled(page):
    """Once what was drawn later, for what was done so far, is drawn."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page


def readout(page):
    return settled(page).inner_text("#readout")


def point(page, across, up):
    """At a share of the map."""
    page.locator("#heat").scroll_into_view_if_needed()
    box = page.locator("#heat").bounding_box()
    left, right, edge = 168, 10, 8
    page.mouse.move(box["x"] + left + across * (box["width"] - left - right),
                    box["y"] + edge + (1 - up) * (box["height"] - 2 * edge))  # fmt: skip


def test_the_mouse_says_what_is_there(page_file, browse):
    page = browse(page_file)
    point(page, 30.5 / 60, 1.5 / 4)
    said = readout(page)
    assert "ram, group 1 · 0x200000 to 0x400000 · 100 of 512 pages dirty (19.5 %)" in said
    assert "interval 30 · 3.000 to 3.100 s" in said
    point(page, 10.5 / 60, 0.5 / 4)
    assert "ram, group 0 · 0x0 to 0x200000 · 8 of 512 pages dirty (1.6 %)" in readout(page)
    assert page.get_attribute("#readout", "aria-live") == "off"
    page.locator("#line").scroll_into_view_if_needed()
    box = page.locator("#line").bounding_box()
    page.mouse.move(box["x"] + 175, box["y"] + 30)
    assert "interval 0 " in readout(page)


def test_the_keyboard_does_too(page_file, browse):
    page = browse(page_file)
    order = []
    for _ in range(14):
        page.keyboard.press("Tab")
        order.append(page.evaluate(FOCUSED))
        if order[-1] == "heat":
            break
    assert order[:2] == ["To the report", "theme"]
    assert order[-5:] == ["Zoom in", "Zoom out", "All", "Written", "heat"]
    assert page.get_attribute("#readout", "aria-live") == "polite"
    for key in ("Home", "PageDown", "PageDown", "PageDown", "PageDown", "ArrowUp", "ArrowRight"):
        page.keyboard.press(key)
    assert "group 1 ·" in readout(page)
    assert "interval 1 ·" in readout(page)
    page.keyboard.press("End")
    page.keyboard.press("Shift+ArrowLeft")
    assert "interval 49 ·" in readout(page)
    before = pixels(page)
    page.keyboard.press("+")
    assert pixels(page) != before
    page.keyboard.press("0")
    assert pixels(page) == before
    page.keyboard.press("Escape")
    assert readout(page).startswith("Point at a cell")


def test_zoom_drag_and_hot_groups(page_file, browse):
    page = browse(page_file)
    point(page, 0.5, 0.5)
    page.keyboard.down("Control")
    for _ in range(4):
        page.mouse.wheel(0, -300)
    page.keyboard.up("Control")
    point(page, 0.01, 0.5)
    left = interval_of(page)
    assert left > 20
    page.mouse.down()
    point(page, 0.9, 0.5)
    page.mouse.up()
    point(page, 0.02, 0.5)
    assert interval_of(page) < left
    page.click("[data-do=all]")
    page.click("[data-group]")
    assert "ram, group 1 ·" in readout(page)
    assert page.evaluate("document.activeElement.id") == "heat"


def interval_of(page):
    return int(re.search(r"interval (\d+)", readout(page))[1])


def pixels(page):
    return settled(page).evaluate("document.getElementById('heat').toDataURL()")


def test_colours_follow_the_theme_and_have_contrast(page_file, browse):
    for scheme in ("light", "dark"):
        page = browse(page_file, color_scheme=scheme)
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        page.hover("[data-do=in]")
        for _ in range(2):
            found = page.evaluate(COLOURS)
            assert len(found) > 100
            for text, ink, ground, least in found:
                lighter, darker = sorted((luminance(ink), luminance(ground)), reverse=True)
                assert (lighter + 0.05) / (darker + 0.05) >= least, (text, ink, ground)
            ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
            is_dark = luminance(ground) < 0.2
            before = pixels(page)
            page.click("#theme")
            assert pixels(page) != before
            after = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (luminance(after) < 0.2) != is_dark


COLOURS = """() => {
  const ground = (one) => {
    const { backgroundColor: colour } = getComputedStyle(one);
    return /, 0\\)$/.test(colour) ? ground(one.parentElement) : colour;
  };
  const found = [];
  for (const one of document.querySelectorAll("body *:not(script)")) {
    const text = [...one.childNodes].filter((node) => node.nodeType === 3)
      .map((node) => node.data).join("").trim();
    if (!text || !one.checkVisibility()) continue;
    if (one instanceof SVGElement)
      found.push([text, getComputedStyle(one).fill, ground(one.closest("section")), 4.5]);
    else found.push([text, getComputedStyle(one).color, ground(one), 4.5]);
  }
  for (const one of document.querySelectorAll("button:not(.link)")) // WCAG 2, 1.4.11
    found.push([`edge of ${one.textContent}`, getComputedStyle(one).borderColor, ground(one), 3]);
  return found;
}"""
"""Of every text: its colour, what it is on, and the contrast that WCAG 2, 1.4.3 wants."""


def luminance(colour):
    """Of WCAG 2, 1.4.3."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_an_evil_trace_does_nothing(tmp_path, browse):
    region = Region(EVIL, 640)
    words = {EVIL: np.full(region.n_words, 3, np.uint64)}
    with TraceWriter(tmp_path / "t.mpt", (region,), PROVENANCE, {EVIL: EVIL}) as trace:
        trace.write(Interval(0, 0, 10**8, (region,), words, PROVENANCE))
    assert main(["report", str(tmp_path / "t.mpt"), "--html", str(tmp_path / "t.html")]) == 0
    page = browse(tmp_path / "t.html")
    point(page, 0.5, 0.2)
    assert EVIL in readout(page)
    assert page.locator("img").count() == 0


def test_without_a_script_the_rest_is_there(page_file, chromium):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_file.as_uri())
    assert page.locator("noscript").inner_text().startswith("The map needs JavaScript")
    assert page.locator("#explorer").is_hidden()
    assert page.locator("svg").count() == 1
    context.close()


def test_a_narrow_window_does_not_scroll_sideways(page_file, browse):
    page = browse(page_file)
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    legend, buttons = (page.locator(part).bounding_box() for part in (".legend", ".bar [role]"))
    assert legend["y"] > buttons["y"] + buttons["height"]  # in a row of its own
    assert legend["width"] > 300
    assert legend["height"] < 70
    page.locator("#line").scroll_into_view_if_needed()
    box = page.locator("#line").bounding_box()
    page.mouse.move(box["x"] + 8 + (box["width"] - 18) * 20.5 / 60, box["y"] + 30)
    assert "interval 20 " in readout(page)  # the plots have the whole width


def test_the_largest_map_stays_usable(tmp_path, browse):
    """2000 by 1000 cells of counts that do not compress."""
    region = Region("ram", 1 << 28)
    heat = heat_of(region, np.ones(1 << 19, np.uint32))
    column = heat.columns[0]
    columns = []
    for number in range(2000):
        one = type(column)(number * 5, number * 0.5)
        one.last, one.end_s, one.n_intervals, one.duration_s = (
            number * 5 + 4,
            number * 0.5 + 0.5,
            5,
            0.5,
        )
        columns.append(one)
    dirty = np.random.default_rng(0).integers(0, 5 * 262144, (len(heat.rows), 2000), np.uint64)
    large = HeatMap((region,), 512, heat.rows, tuple(columns), dirty)
    summary = Watch((region,), PROVENANCE).summary()
    with (tmp_path / "large.html").open("wb") as file:
        write_page(summary, large, 0, file)
    assert (tmp_path / "large.html").stat().st_size < 12e6
    page = browse(tmp_path / "large.html")
    point(page, 0.5, 0.5)
    row, middle = len(heat.rows) // 2, 1000
    near = dirty[row - 2 : row + 3, middle - 1 : middle + 2].ravel()
    shown = re.search(r"an interval, ([\d,]+) summed over 5", readout(page))[1]
    assert int(shown.replace(",", "")) in near


def test_a_zoom_keeps_the_whole_cell_in_view(page_file, browse):
    page = browse(page_file)
    page.focus("#heat")
    page.keyboard.press("End")
    for _ in range(4):
        page.keyboard.press("+")
    point(page, 1, 0.5)
    assert "5.900 to 6.000 s" in readout(page)
    point(page, 0.97, 0.5)
    assert "5.900 to 6.000 s" in readout(page)
    left = [share / 20 for share in range(20) if "5.900 to" not in at_share(page, share / 20)]
    assert max(left) < 1 - 1 / 5  # a fourth of four intervals is its


def at_share(page, across):
    point(page, across, 0.5)
    return readout(page)


def test_nothing_moves_by_itself(page_file, browse):
    """So that there is nothing to ask `prefers-reduced-motion` about."""
    page = browse(page_file)
    page.click("[data-group]")
    assert page.evaluate("document.getAnimations().length") == 0
    assert not re.search(r"@keyframes|animation|transition|scroll-behavior", page.content())
