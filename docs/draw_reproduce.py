"""Draw docs/reproduce.png: every policy on the memory-intensive guests, and on the others.

python docs/draw_reproduce.py
"""

from __future__ import annotations

import sys
from operator import attrgetter
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "benches"))

from reproduce_data import CEILING_S, DEFAULT_LIMIT_S, RESULTS, Measure, Run, load, mean  # noqa: E402
from reproduce_run import POLICIES  # noqa: E402

PICTURE = HERE / "reproduce.png"
OURS, OTHERS = "#0b6e4f", "#888888"

mpl.rcParams |= {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def draw(runs: list[Run], picture: Path) -> None:
    main = [run for run in runs if run.arm == run.guest.arms[0]]
    intensive = [run for run in main if run.guest.is_intensive]
    calm = [run for run in main if not run.guest.is_intensive]
    figure, (moved, time, pause, calm_pause) = plt.subplots(
        1, 4, figsize=(12, 3.6), sharey=True, layout="constrained",
        gridspec_kw={"width_ratios": (2, 3, 3, 3)},
    )  # fmt: skip
    names = list(POLICIES)[::-1]
    for row, name in enumerate(names):
        colour = OURS if name in ("mp", "best") else OTHERS
        own = [run for run in intensive if run.policy == name]
        share = 100 * np.mean([run.completed for run in own])
        moved.barh(row, share, color=colour, height=0.6)
        moved.text(share + 3, row, f"{share:.0f} %", va="center")
        ended = [run for run in own if run.completed]
        others = [run for run in calm if run.policy == name and run.completed]
        spread(time, row, ended, attrgetter("total_s"), colour)
        spread(pause, row, ended, attrgetter("downtime_s"), colour)
        spread(calm_pause, row, others, attrgetter("downtime_s"), colour)
    moved.set_yticks(range(len(names)), names)
    moved.set(xlabel="moved, %:\nmemory-intensive guests", xlim=(0, 130), xticks=(0, 50, 100))
    time.set(xlabel="total time, s:\nmemory-intensive guests", xlim=(0, None))
    for axes, whose in ((pause, "memory-intensive guests"), (calm_pause, "the other guests")):
        axes.axvline(CEILING_S, color="black", linewidth=0.6)
        axes.axvline(DEFAULT_LIMIT_S, color="black", linewidth=0.6, linestyle=":")
        axes.set(xlabel=f"downtime, s:\n{whose}", xlim=(0, 1.08 * CEILING_S))
    figure.savefig(picture, dpi=130)
    print(f"wrote {picture}")


def spread(axes: Axes, row: int, runs: list[Run], measure: Measure, colour: str) -> None:
    """Each migration, and their mean, in which each guest counts the same."""
    values = [measure(run) or 0.0 for run in runs]
    shift = np.linspace(-0.22, 0.22, len(values))
    axes.scatter(values, row + shift, s=6, color=colour, alpha=0.35, linewidths=0)
    average = mean(runs, measure)
    if average is not None:
        axes.plot([average.value] * 2, [row - 0.33, row + 0.33], color=colour, linewidth=2)


if __name__ == "__main__":
    draw(load(RESULTS), PICTURE)
