"""Draw the pictures of docs/forecast.md, from the recorded migrations and their evaluation.

python docs/draw_forecast.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "benches"))

from forecast_models import PAGE, courses  # noqa: E402
from migration_data import Run, read, unpacked  # noqa: E402

COURSE = "held-hard-16"
MODELS = {
    "mempattern": ("#0b6e4f", "o"),
    "Huawei-style D(t)": ("#c8553d", "s"),
    "geometric series": ("#888888", "^"),
}
FIGURES = (
    ("total_s", 1, "total time, s"),
    ("sent_bytes", 1e-6, "data sent, MB"),
    ("downtime_s", 1e3, "downtime, ms"),
)

mpl.rcParams |= {"font.size": 9, "svg.hashsalt": "mempattern", "axes.spines.top": False,
                 "axes.spines.right": False}  # fmt: skip


def draw_errors(results: Path, picture: Path) -> None:
    """Forecast against actual, of the runs that nobody had looked at."""
    rows = [row for row in json.loads(results.read_text())["held"] if row["actual"]["converges"]]
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.5), layout="constrained")
    for axis, (name, scale, label) in zip(axes, FIGURES, strict=True):
        actual = np.array([row["actual"][name] for row in rows]) * scale
        ends = [max(actual.min() * 0.7, 1e-3), actual.max() * 1.4]
        axis.plot(ends, ends, color="black", linewidth=0.6)
        for model, (colour, marker) in reversed(MODELS.items()):
            said = [row["predicted"][model][name] for row in rows]
            points = [(a, p * scale) for a, p in zip(actual, said, strict=True) if p is not None]
            axis.scatter(*zip(*points, strict=True), s=14, marker=marker, color=colour, alpha=0.75,
                         label=model, linewidths=0)  # fmt: skip
        axis.set(xscale="log", yscale="log", xlabel=f"QEMU: {label}", ylabel=f"forecast: {label}")
    axes[0].legend(frameon=False)
    figure.savefig(picture, dpi=130)
    print(f"wrote {picture}")


def draw_course(run: Run, picture: Path) -> None:
    """What was to be sent during one migration, and what the forecast had said."""
    figure, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
    mb = PAGE / 1e6
    limit_mb = run.case.bandwidth_Bps * run.limit_s / 1e6
    for number, course in enumerate(courses(run)):
        times, pending = _zigzag(
            [(p.at_s, p.left_pages, p.pending_pages) for p in course.passes[1:]],
            course.total_s if course.converged else None,
        )
        lowest_mb = limit_mb / 4
        pending_mb = np.maximum(np.array(pending) * mb, lowest_mb)
        axis.plot(times, pending_mb, color="#0b6e4f", alpha=0.35, linewidth=1,
                  label="forecast, 12 courses" if number == 0 else None)  # fmt: skip
    polls = [p for p in run.polls if "remaining" in p]
    times = [(p["ns"] - run.started_ns) / 1e9 for p in polls]
    axis.plot(times, [p["remaining"] / 1e6 for p in polls], color="black", linewidth=1.2,
              label="QEMU, `remaining`")  # fmt: skip
    axis.axhline(limit_mb, color="#c8553d", linewidth=0.8, linestyle="--",
                 label=f"limit: {run.case.downtime_limit_ms} ms at "
                       f"{run.case.bandwidth_Bps / 1e6:.0f} MB/s")  # fmt: skip
    axis.set(yscale="log", xlabel="s since the migration began", ylabel="still to send, MB",
             ylim=(limit_mb / 4, None))  # fmt: skip
    axis.set_title(" ".join(run.case.command_line.split()[:3]), fontsize=9)
    axis.legend(frameon=False)
    figure.savefig(picture, dpi=130)
    print(f"wrote {picture}")


def _zigzag(
    passes: list[tuple[float, float, float]], end_s: float | None
) -> tuple[list[float], list[float]]:
    times, pending = [], []
    for at_s, left, after in passes:
        times += [at_s, at_s]
        pending += [left, after]
    if end_s is not None:
        times.append(end_s)
        pending.append(0.0)
    return times, pending


def main() -> None:
    draw_errors(HERE.parent / "benches/results/forecast.json", HERE / "forecast-errors.png")
    draw_course(read(unpacked("held") / f"{COURSE}.json"), HERE / "forecast-course.png")


if __name__ == "__main__":
    main()
