"""Draw docs/evidence.png: every policy on the traces that ours was not made with.

python docs/draw_evidence.py
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "benches"))

from evidence_data import Migration, load, under_ceilings  # noqa: E402

from mempattern.migration.compare import regret  # noqa: E402
from mempattern.migration.registry import POLICIES  # noqa: E402

RESULTS = HERE.parent / "benches/results/evidence.json"
PICTURE = HERE / "evidence.png"
JUDGED = ("held", "programs")
CEILING_S = 1.0
OURS, OTHERS = "#0b6e4f", "#888888"

mpl.rcParams |= {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def draw(migrations: list[Migration], picture: Path) -> None:
    possible = [m for m in migrations if m.moves("oracle")]
    shares = {name: np.mean([m.moves(name) for m in possible]) for name in POLICIES}
    names = sorted(POLICIES, key=lambda name: (name == "oracle", shares[name]))
    figure, (moved, slower, paused) = plt.subplots(
        1, 3, figsize=(12, 4.8), sharey=True, layout="constrained"
    )
    for row, name in enumerate(names):
        colour = OURS if name == "best" else OTHERS
        ended = [m for m in possible if m.moves(name)]
        moved.barh(row, 100 * shares[name], color=colour, height=0.6)
        regrets = [r.time for m in ended if (r := regret(m.outcomes[name], m.oracle))]
        spread(slower, row, 100 * np.maximum(regrets, 0.0), colour)
        spread(paused, row, [1000 * m.outcomes[name].downtime_s for m in ended], colour)
    moved.set_yticks(range(len(names)), names)
    moved.set_xlabel(f"moved within {CEILING_S:g} s of downtime,\n% of {len(possible)} that can be")
    slower.set(xscale="symlog", xlim=(-0.1, 3000))
    slower.set_xlabel("longer than the oracle, %\n(median, and four of five lie within)")
    slower.set_xscale("symlog", linthresh=1)
    slower.set_xticks([0, 1, 10, 100, 1000], ["0", "1", "10", "100", "1000"])
    paused.set(xscale="log")
    paused.axvline(1000 * CEILING_S, color="black", linewidth=0.6)
    paused.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1000"])
    paused.set_xlabel("downtime, ms\n(median, and four of five lie within)")
    figure.savefig(picture, dpi=130)
    print(f"wrote {picture}")


def spread(
    axis: Axes, row: int, values: Sequence[float] | npt.NDArray[np.float64], colour: str
) -> None:
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
    axis.plot([low, high], [row, row], color=colour, linewidth=2, solid_capstyle="butt", alpha=0.5)
    axis.plot([middle], [row], "o", color=colour, markersize=6)


if __name__ == "__main__":
    everything = under_ceilings(load(sys.argv[1] if len(sys.argv) > 1 else RESULTS))
    draw([m for m in everything if m.set in JUDGED and m.ceiling_s == CEILING_S], PICTURE)
