"""Draws docs/report.png: the HTML report of a recorded guest, as Chromium shows it.

python docs/draw_report.py    needs: apt-get install chromium fonts-dejavu-core
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from mempattern.cli.main import main as mempattern

HERE = Path(__file__).parent
PICTURE = HERE / "report.png"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_file = Path(folder) / "report.html"
        mempattern(["report", str(HERE / "redis.mpt"), "--html", str(page_file)])
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1180, "height": 1000})
        page.goto(page_file.as_uri())
        page.wait_for_selector("#explorer:not([hidden])")
        page.locator("[data-group]").nth(2).click()
        page.locator("#map").evaluate("map => map.scrollIntoView({block: 'end'})")
        page.wait_for_timeout(200)
        page.screenshot(path=PICTURE)
        browser.close()
    print(f"{PICTURE}: {PICTURE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
