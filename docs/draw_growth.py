"""Draw docs/growth.png: how the cost grows.

python docs/draw_growth.py [RESULTS.json [PICTURE.png]]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

HERE = Path(__file__).parent
RESULTS = HERE.parent / "benches/results/growth.json"
PICTURE = HERE / "growth.png"
COLOURS = {"dense": "#7a1f1f", "sparse": "#c98a1b", "clustered": "#0b6e4f"}
OTHERS = "#888888"
WORK_STYLES = {"counts": ":", "update": "-", "windows": "--", "hot pages": "-."}

mpl.rcParams |= {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def middle_ms(row: dict[str, Any]) -> float:
    """Of one interval."""
    return 1e3 * median(row["seconds"]) / row.get("n_intervals", 1)


def line(axes: Axes, rows: list[dict[str, Any]], by: str, **style: Any) -> None:
    ms = [1e3 * np.quantile(row["seconds"], [0.25, 0.5, 0.75]) for row in rows]
    low, middle, high = np.array(ms).T / np.array([row.get("n_intervals", 1) for row in rows])
    x = [row[by] for row in rows]
    axes.plot(x, middle, markersize=3, **style)
    axes.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)


def draw_size(axes: Axes, rows: list[dict[str, Any]]) -> None:
    for kind, colour in COLOURS.items():
        own = [row for row in rows if row["work"] == "update" and row["kind"] == kind]
        line(axes, own, "gib", color=colour, marker="o", label=kind)
    read = [row for row in rows if row["work"] == "reading the bitmap" and row["kind"] == "dense"]
    line(axes, read, "gib", color=OTHERS, label="only reading the bitmap")
    axes.set(xscale="log", yscale="log", xlabel="guest, GiB", ylabel="an update, ms")
    axes.legend(frameon=False)


def draw_work(axes: Axes, rows: list[dict[str, Any]]) -> None:
    for work, dashes in WORK_STYLES.items():
        own = [row for row in rows if row["work"] == work and row["kind"] == "sparse"]
        line(axes, own, "gib", color=COLOURS["sparse"], linestyle=dashes, label=work)
    axes.set(xscale="log", yscale="log", xlabel="guest, GiB, sparse", ylabel="an interval, ms")
    axes.legend(frameon=False)


def draw_density(axes: Axes, rows: list[dict[str, Any]]) -> None:
    seen = [row for row in rows if row["name"] and row["share"] > 0]
    axes.scatter(
        [100 * row["share"] for row in seen], [middle_ms(row) for row in seen], s=14,
        c=[row["active"] for row in seen], cmap="viridis_r", label="the corpus's traces",
    )  # fmt: skip
    anywhere = [{**row, "percent": 100 * row["share"]} for row in rows if not row["name"]]
    line(axes, anywhere, "percent", color=OTHERS, marker="o", label="pages anywhere")
    axes.set(xscale="log", ylim=(0, None), xlabel="dirty pages, %", ylabel="an update, ms")
    axes.legend(frameon=False)


def draw_group(axes: Axes, rows: list[dict[str, Any]]) -> None:
    for kind, colour in COLOURS.items():
        own = [row for row in rows if row["kind"] == kind]
        line(axes, own, "group_pages", color=colour, marker="o", label=kind)
    axes.set_xscale("log", base=2)
    axes.set(yscale="log", xlabel="pages of a group", ylabel="an update, ms")


def draw_threads(axes: Axes, rows: list[dict[str, Any]]) -> None:
    most = max(row["threads"] for row in rows)
    axes.plot([1, most], [1, most], color=OTHERS, linewidth=0.8)
    for kind, colour in COLOURS.items():
        own = {row["threads"]: median(row["seconds"]) for row in rows if row["kind"] == kind}
        speeds = [n * own[1] / seconds for n, seconds in own.items()]
        axes.plot(list(own), speeds, color=colour, marker="o", markersize=3)
    axes.set(
        xlabel="threads, a region each", ylabel="updates a second, of one's",
        xticks=range(1, most + 1), ylim=(0, None),
    )  # fmt: skip


def draw_memory(axes: Axes, rows: list[dict[str, Any]]) -> None:
    features = list(dict.fromkeys(row["feature"] for row in rows))[::-1]
    for at, feature in enumerate(features):
        own = [row for row in rows if row["feature"] == feature]
        reserved = 8 * max(row["reserved_bytes"] for row in own) / own[0]["n_pages"]
        axes.barh(at, reserved, color="#dddddd", height=0.6)
        for row in own:
            bits = 8 * row["backed_bytes"] / row["n_pages"]
            axes.plot([bits], [at], "|", color=COLOURS[row["kind"]], markersize=12)
    axes.set_yticks(range(len(features)), [name.replace(", ", ",\n") for name in features])
    axes.axvline(1.5, color="black", linewidth=0.6, linestyle=":")
    axes.set(xlabel="bits a guest page: reserved, | backed")


def draw(results: Path, picture: Path) -> None:
    found = json.loads(results.read_text())
    figure, axes = plt.subplots(2, 3, figsize=(12, 6.4), layout="constrained")
    draw_size(axes[0, 0], found["by_size"])
    draw_work(axes[0, 1], found["by_size"])
    draw_density(axes[0, 2], found["by_density"])
    draw_group(axes[1, 0], found["by_group"])
    draw_threads(axes[1, 1], found["by_threads"])
    draw_memory(axes[1, 2], found["memory"])
    figure.savefig(picture, dpi=130)
    print(f"wrote {picture}")


if __name__ == "__main__":
    given = [Path(name) for name in sys.argv[1:]]
    draw(*given, *(RESULTS, PICTURE)[len(given) :])
