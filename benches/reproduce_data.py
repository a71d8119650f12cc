"""The experiment's migrations as they came out, and means with their intervals."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from reproduce import GUESTS
from reproduce_guests import CEILING_S, Guest

RESULTS = Path(__file__).parent / "results/reproduce.jsonl"
DEFAULT_LIMIT_S = 0.3
TOLERANCE_S = 0.02
"""A downtime that is longer than its limit by no more than this kept it: QEMU reckons with a
bandwidth that is up to 100 ms old."""
_RESAMPLES = 2000
_FEWEST = 3


@dataclass(frozen=True, slots=True)
class Run:
    """One migration."""

    arm: str
    guest: Guest
    policy: str
    number: int
    completed: bool
    total_s: float
    sent_bytes: int
    downtime_s: float | None
    """QEMU's; None if it did not complete."""
    blackout_s: float | None
    """As seen from outside."""
    n_passes: int
    intact: bool
    """Its memory is whole, and it runs."""
    limit_s: float | None
    """QEMU's before anybody steered, where it was not its own."""
    n_stops: int
    """Times that the policy wanted to stop and copy."""
    last_limit_s: float
    """QEMU's downtime limit at the end."""
    most_throttle_percent: float
    qemu: str
    """Its version; "" where that was not kept."""
    kernel: str

    @property
    def sent_mb(self) -> float:
        return self.sent_bytes / 1e6

    @property
    def is_early(self) -> bool:
        """Stopped for longer than stock QEMU ever would."""
        return self.completed and (self.downtime_s or 0.0) > DEFAULT_LIMIT_S + TOLERANCE_S

    @property
    def is_over(self) -> bool:
        """Stopped for longer than was allowed, by QEMU's figure or as seen from outside."""
        return self.completed and max(self.downtime_s or 0.0, self.blackout_s or 0.0) > CEILING_S


def load(path: Path = RESULTS) -> list[Run]:
    """The judged ones; those that chose the limits of `relaxed-least` have numbers below zero."""
    return [run for run in map(_run, path.read_text().splitlines()) if run.number >= 0]


def _run(line: str) -> Run:
    one = json.loads(line)
    end = one["end"]
    return Run(
        one["arm"], GUESTS[one["guest"]], one["policy"], one["round"],
        end["status"] == "completed", end["total_s"], end["sent_bytes"], end["downtime_s"],
        one["blackout_s"], end["number"],
        one["intact"] and not (end["status"] == "completed" and one["blackout_s"] is None),
        one["limit_s"],
        sum(decision["did"].startswith("stop and copy") for decision in one["decisions"]),
        _last_limit_s(one), 100 * max([0.0, *(each["throttle"] for each in one["passes"])]),
        *(one.get("versions", {}).get(key, "") for key in ("qemu", "kernel")),
    )  # fmt: skip


def _last_limit_s(one: dict[str, Any]) -> float:
    set_ms = [re.search(r"downtime limit (\d+) ms", d["did"]) for d in one["decisions"]]
    said = [int(match[1]) / 1000 for match in set_ms if match]
    return said[-1] if said else one["limit_s"] or DEFAULT_LIMIT_S


Measure = Callable[[Run], float | None]
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Mean:
    """Over guests, each of which counts the same, and its 95 % interval where there is one."""

    value: float
    n_guests: int
    interval: tuple[float, float] | None


def mean(runs: Sequence[Run], measure: Measure) -> Mean | None:
    """Of these guests: the interval resamples the runs of each. None without any."""
    values = list(by_guest(runs, measure).values())
    if not values:
        return None
    rng = np.random.default_rng(1)
    drawn = np.mean([_means(each, rng) for each in values], axis=0)
    interval = _interval(drawn) if all(len(each) >= _FEWEST for each in values) else None
    return Mean(float(np.mean([each.mean() for each in values])), len(values), interval)


def change(runs: Sequence[Run], base: Sequence[Run], measure: Measure) -> Mean | None:
    """By how much it is more than the base, as a share: the mean over the guests of both.

    Its interval is for guests like these: it resamples them, and the runs of each.
    """
    ours, theirs = by_guest(runs, measure), by_guest(base, measure)
    both = [guest for guest in ours if guest in theirs]
    if not both:
        return None
    rng = np.random.default_rng(1)
    ratios = np.array([_means(ours[name], rng) / _means(theirs[name], rng) - 1 for name in both])
    chosen = rng.integers(len(both), size=ratios.shape)
    drawn = np.take_along_axis(ratios, chosen, axis=0).mean(axis=0)
    value = np.mean([ours[name].mean() / theirs[name].mean() - 1 for name in both])
    return Mean(float(value), len(both), _interval(drawn) if len(both) >= _FEWEST else None)


def _means(values: Values, rng: np.random.Generator) -> Values:
    return rng.choice(values, (_RESAMPLES, len(values))).mean(axis=1)


def _interval(drawn: Values) -> tuple[float, float]:
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


def by_guest(runs: Sequence[Run], measure: Measure) -> dict[str, Values]:
    """Of those that completed."""
    found: dict[str, list[float]] = {}
    for run in runs:
        value = measure(run)
        if run.completed and value is not None:
            found.setdefault(run.guest.name, []).append(value)
    return {name: np.array(values) for name, values in found.items()}
