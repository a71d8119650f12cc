"""Draws docs/demo.png from the recorded demo, as the live view shows it, every third interval.

python docs/draw_demo.py      needs: apt-get install librsvg2-bin fonts-dejavu-core
"""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

from rich.console import Console

from mempattern.cli.demo import recorded_labels, sample_path
from mempattern.report.live import LiveView
from mempattern.report.watch import Watch
from mempattern.sources import Replay

EVERY = 3
WIDTH = 150


def main() -> None:
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    with Replay(sample_path()) as source:
        label_of = recorded_labels(source.trace)
        watch = Watch(source.regions, source.provenance)
        title = f"mempattern demo: a real KVM guest, every {EVERY}rd interval"
        view = LiveView(title, console, n_rows=99, labelled=True)
        for interval in source.intervals():
            row = watch.observe(interval, label_of(interval))
            if interval.index % EVERY == EVERY - 1:
                view.add(row)
        console.print(view.frame())
        view.show_summary(watch.summary())
    picture = Path(__file__).with_name("demo.png")
    svg = console.export_svg(title="make demo", font_aspect_ratio=0.6)
    svg = svg.replace("Fira Code", "DejaVu Sans Mono")
    svg = svg.replace("<text ", '<text xml:space="preserve" ')  # or it drops leading spaces
    subprocess.run(
        ["rsvg-convert", "--width", "1600", "--output", str(picture)],
        input=svg.encode(),
        check=True,
    )
    print(f"{picture}: {picture.stat().st_size} bytes")


if __name__ == "__main__":
    main()
