"""Draw docs/replay-validation.png: what replays came to, against what QEMU reported.

python docs/draw_replay.py
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullFormatter, ScalarFormatter

HERE = Path(__file__).parent
RESULTS = HERE.parent / "benches/results/replay.json"
PICTURE = HERE / "replay-validation.png"
SETS = {
    "dev": ("#888888", "o", "looked at while developing"),
    "held": ("#0b6e4f", "o", "not looked at while developing"),
}
FIGURES = (
    ("total_s", 1, "total time, s", (1, 2, 5, 10, 20)),
    ("sent_bytes", 1e-6, "data sent, MB", (20, 50, 100, 200, 500, 1000)),
    ("downtime_s", 1e3, "downtime, ms", (2, 5, 10, 20, 50, 100, 300, 1000)),
    ("passes", 1, "passes", (3, 5, 10, 20, 30)),
)
NEAR = 0.05

mpl.rcParams |= {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def draw(results: dict[str, list[dict]], picture: Path) -> None:
    """Of the migrations that ended in both."""
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.6), layout="constrained")
    for axis, (name, scale, label, ticks) in zip(axes, FIGURES, strict=True):
        everything = []
        for which, (colour, marker, said) in SETS.items():
            rows = [
                row for row in results.get(which, ())
                if row["reported"]["converges"] and row["simulated"]["converges"]
            ]  # fmt: skip
            actual = np.array([row["reported"][name] for row in rows]) * scale
            replayed = np.array([row["simulated"][name] for row in rows]) * scale
            axis.scatter(actual, replayed, s=16, marker=marker, color=colour, alpha=0.7,
                         linewidths=0, label=said, zorder=2)  # fmt: skip
            everything += [*actual, *replayed]
        ends = np.array([min(everything) / 1.2, max(everything) * 1.2])
        axis.plot(ends, ends, color="black", linewidth=0.6, zorder=1)
        axis.fill_between(ends, ends * (1 - NEAR), ends * (1 + NEAR), color="#c8553d", alpha=0.25,
                          linewidth=0, zorder=0, label=f"±{NEAR:.0%}")  # fmt: skip
        axis.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal",
                 xlabel=f"QEMU: {label}", ylabel=f"replay: {label}")  # fmt: skip
        for side in (axis.xaxis, axis.yaxis):
            side.set_ticks([tick for tick in ticks if ends[0] <= tick <= ends[1]])
            side.set_major_formatter(ScalarFormatter())
            side.set_minor_formatter(NullFormatter())
    axes[0].legend(frameon=False)
    figure.savefig(picture, dpi=130)
    print(f"wrote {picture}")


if __name__ == "__main__":
    draw(json.loads(RESULTS.read_text()), PICTURE)
