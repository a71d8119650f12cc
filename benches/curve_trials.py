"""D(t) measured on writes of which all is known: does the truth lie within the bounds?

python benches/curve_trials.py RESULTS.json

Pages are written at random with rates of their own (uniform, gamma, Zipf, hot and cold), or in turn
(a sweep). Each is observed for 4 to 1000 intervals; D(t) up to ten times as long and the number of
pages that are ever written are then asked of the curve. docs/statistics.md says what came of it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mempattern import DistinctPages, Region

N_PAGES, MEMORY_PAGES, INTERVAL_S = 4096, 16_384, 0.1
OBSERVED = (4, 10, 30, 100, 300, 1000)
BEYOND = (1.5, 2, 3, 5, 10)
SEEDS = range(5)

Rates = npt.NDArray[np.float64]


def uniform(_rng: np.random.Generator) -> Rates:
    return np.ones(N_PAGES)


def gamma(rng: np.random.Generator) -> Rates:
    return rng.gamma(0.5, size=N_PAGES)


def zipf(_rng: np.random.Generator) -> Rates:
    return 1 / np.arange(1, N_PAGES + 1)


def hot_and_cold(_rng: np.random.Generator) -> Rates:
    return np.where(np.arange(N_PAGES) < N_PAGES // 8, 100.0, 1.0)


RANDOM: dict[str, Callable[[np.random.Generator], Rates]] = {
    "uniform": uniform, "gamma": gamma, "zipf": zipf, "hot and cold": hot_and_cold,
}  # fmt: skip


def trial(kind: str, n_intervals: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng([seed, n_intervals, len(kind)])
    pages_per_s = 10 ** rng.uniform(2, 4.5)
    if kind == "sweep":
        pages_per_s, rates = round(pages_per_s, -1), np.zeros(0)  # whole pages an interval
    else:
        rates = RANDOM[kind](rng)
        rates *= pages_per_s / rates.sum()

    def truth(t: float) -> float:
        if kind == "sweep":
            return min(pages_per_s * t, N_PAGES)
        return float(-np.expm1(-rates * t).sum())

    distinct = DistinctPages([Region("ram", MEMORY_PAGES)])
    for index in range(n_intervals):
        dirty = np.zeros(MEMORY_PAGES, bool)
        if kind == "sweep":
            first, last = (round(pages_per_s * INTERVAL_S) * at for at in (index, index + 1))
            dirty[np.arange(first, min(last, first + N_PAGES)) % N_PAGES] = True
        else:
            dirty[:N_PAGES] = rng.random(N_PAGES) < -np.expm1(-rates * INTERVAL_S)
        words = np.packbits(dirty, bitorder="little").view(np.uint64)
        distinct.update({"ram": words}, INTERVAL_S)
    curve = distinct.curve()
    asked: dict[str, Any] = {}
    for factor in BEYOND:
        t = factor * n_intervals * INTERVAL_S
        asked[f"{factor:g} T"] = (curve.at(t), truth(t))
    asked["working set"] = (curve.working_set(), float(N_PAGES))
    return {
        "kind": kind, "intervals": n_intervals, "pages_per_s": round(pages_per_s, 1), "seed": seed,
        "asked": {
            name: [round(float(x), 1) for x in (true, said.pages, said.low, said.high)]
            for name, (said, true) in asked.items()
        },
    }  # fmt: skip


def main(results: str) -> None:
    rows = [
        trial(kind, n_intervals, seed)
        for kind in ("sweep", *RANDOM) for n_intervals in OBSERVED for seed in SEEDS
    ]  # fmt: skip
    Path(results).write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "]\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
