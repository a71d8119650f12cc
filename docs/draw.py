"""Draws the pictures of the docs from recorded traces, as the live view shows them.

python docs/draw.py           needs: apt-get install librsvg2-bin fonts-dejavu-core
"""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from mempattern.analysis.target import Target
from mempattern.analysis.watch import Watch
from mempattern.cli.demo import recorded_labels, sample_path
from mempattern.interval import Interval
from mempattern.report.live import LiveView
from mempattern.sources import Replay
from mempattern.trace import TraceReader

HERE = Path(__file__).parent
EVERY = 3
WIDTH = 150


def draw(
    picture: Path,
    trace: Path,
    command: str,
    what: str,
    labels: Callable[[TraceReader], Callable[[Interval], str]] | None,
) -> None:
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    with Replay(trace) as source:
        label_of = recorded_labels(source.trace) if labels else lambda _: ""
        target = Target.from_meta(source.trace.meta)
        watch = Watch(source.regions, source.provenance, target=target)
        title = f"{what}, every {EVERY}rd interval"
        view = LiveView(title, console, watch.findings, n_rows=99, labelled=labels is not None)
        for interval in source.intervals():
            row = watch.observe(interval, label_of(interval))
            if interval.index % EVERY == EVERY - 1:
                view.add(row)
        console.print(view.frame())
        view.show_summary(watch.summary())
    save(console, picture, command)


def save(console: Console, picture: Path, title: str) -> None:
    svg = console.export_svg(title=title, font_aspect_ratio=0.6)
    svg = svg.replace("Fira Code", "DejaVu Sans Mono")
    svg = svg.replace("<text ", '<text xml:space="preserve" ')  # or it drops leading spaces
    subprocess.run(
        ["rsvg-convert", "--width", "1600", "--output", str(picture)],
        input=svg.encode(),
        check=True,
    )
    print(f"{picture}: {picture.stat().st_size} bytes")


def main() -> None:
    guest = "a real KVM guest"
    draw(HERE / "demo.png", sample_path(), "mempattern demo", guest, recorded_labels)
    command = "mempattern-trace $(pidof redis-server)"
    draw(HERE / "redis.png", HERE / "redis.mpt", command, "redis-server", None)


if __name__ == "__main__":
    main()
