"""What becomes of policies that never stop, give up, raise, ask for nonsense, or leave."""

import math
import sys
from dataclasses import replace

import numpy as np
import pytest
from migrations import BANDWIDTH, PAGE_S, PAGES, STEP_S
from recordings import (
    hot,
    idle,
    intervals,
    record,
)
from test_simulate import HOT, STEP_PAGES, NeverStops, Told, of_stock, replayed

from mempattern import Region, errors
from mempattern.migration.policies import Action, Policy, Stock
from mempattern.migration.simulate import simulate


@pytest.mark.parametrize("patience_s", [0.01, 5.0, 20.0])
def test_a_policy_that_never_stops_is_bounded(patience_s):
    (outcome,) = replayed(HOT, {"never": NeverStops}, patience_s=patience_s)
    assert (outcome.end, outcome.success) == ("not converged", False)
    assert patience_s <= outcome.total_s < patience_s + STEP_S
    assert outcome.sent_bytes == pytest.approx(outcome.total_s * BANDWIDTH)
    assert math.isnan(outcome.downtime_s)


@pytest.mark.parametrize(("bandwidth", "patience_s"), [(BANDWIDTH, 60.0), (4e6, 205.2)])
def test_the_patience_is_ten_times_all_of_ram_and_at_least_a_minute(bandwidth, patience_s):
    (outcome,) = replayed(hot(PAGES, 40, PAGES), {"never": NeverStops}, bandwidth=bandwidth)
    assert patience_s <= outcome.total_s < patience_s + 0.1


@pytest.mark.parametrize("where", ["begin", "after", "poll"])
def test_a_policy_that_gives_up(where):
    gives_up = Action(give_up=True, stop=True, postcopy=True)
    (outcome,) = replayed(HOT, {"a": lambda: Told(where, gives_up)})
    assert (outcome.end, outcome.success, outcome.error) == ("cancelled", False, "")
    assert math.isnan(outcome.downtime_s)
    n_steps = {"begin": 0, "poll": 1, "after": 33}[where]
    assert outcome.total_s == pytest.approx(n_steps * STEP_PAGES * PAGE_S)
    assert outcome.sent_bytes == n_steps * STEP_PAGES * 4104


@pytest.mark.parametrize("where", ["made", "begin", "after", "poll", "watch"])
@pytest.mark.parametrize(
    ("error", "said"),
    [(ZeroDivisionError("no pages"), "ZeroDivisionError('no pages')"),
     (errors.UsageError("pages are unknown"), "pages are unknown"),
     (EOFError(), "EOFError()")],
)  # fmt: skip
def test_a_policy_that_raises(where, error, said):
    """Is told of, and the others go on, whether they come before it or after it."""

    def fail():
        raise error

    bad = fail if where == "made" else lambda: Told(where, fail)
    recording = record(hot(PAGES, 40, 2000))
    outcomes = replayed(recording, {"bad": bad, "stock": Stock, "again": bad, "oracle": None})
    assert [one.end for one in outcomes] == ["failed", "completed", "failed", "completed"]
    assert outcomes[1] == of_stock(recording)
    for outcome in (outcomes[0], outcomes[2]):
        assert outcome.error == said
        assert not outcome.success
        assert math.isnan(outcome.total_s)
        assert math.isnan(outcome.extrapolated_s)


NONSENSE = {
    "must return an Action, not None": None,
    "must return an Action, not 'stop'": "stop",
    "must return an Action, not True": True,
    "limit that Told asks for must be a number from 0 to inf seconds, not nan": Action(math.nan),
    "seconds, not -0.1": Action(-0.1),
    "seconds, not '300ms'": Action("300ms"),
    "seconds, not True": Action(True),
    "throttle that Told asks for must be a number from 0 to 1, not 1.5": Action(throttle=1.5),
    "from 0 to 1, not -0.2": Action(throttle=-0.2),
    "from 0 to 1, not nan": Action(throttle=math.nan),
    "from 0 to 1, not '20%'": Action(throttle="20%"),
    "from 0 to 1, not True": Action(throttle=True),
    "must defer the pages of an Interval, not [1, 2]": Action(defer=[1, 2]),
}


@pytest.mark.parametrize("where", ["begin", "after", "poll"])
@pytest.mark.parametrize("said", NONSENSE)
def test_a_policy_that_asks_for_nonsense(where, said):
    bad, stock = replayed(
        idle(PAGES, 40), {"bad": lambda: Told(where, NONSENSE[said]), "stock": Stock}
    )
    assert bad.end == "failed"
    assert said in bad.error
    assert stock.end == "completed"


def test_a_policy_that_defers_pages_of_another_guest():
    (other,) = intervals(idle(64, 1))
    other = replace(other, regions=(Region("vram", 64),), bitmaps={"vram": np.ones(1, np.uint64)})
    (outcome,) = replayed(HOT, {"bad": lambda: Told("begin", Action(defer=other))})
    assert outcome.end == "failed"
    assert "vram" in outcome.error


class Leaves(Policy):
    def after(self, done):
        sys.exit(0)


class Mute(Policy):
    def after(self, done):
        class Unspeakable(Exception):
            def __repr__(self):
                raise RuntimeError

        raise Unspeakable


@pytest.mark.parametrize(("policy", "error"), [(Leaves, "SystemExit(0)"), (Mute, "Unspeakable")])
def test_a_policy_that_leaves_or_cannot_be_quoted(policy, error):
    """It fails by itself: neither the others nor the program end with it."""
    recording = record(hot(PAGES, 40, 100))
    bad, good = simulate(recording, {"bad": policy, "good": Stock}, BANDWIDTH, 1.0)
    assert (bad.end, bad.error) == ("failed", error)
    assert good.success


def test_a_recording_cannot_be_changed_by_a_policy():
    recording = record(hot(PAGES, 40, 100))
    for array in (recording.edges_s, recording.alike_s, recording.dirty_pages, *recording.ever):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0
