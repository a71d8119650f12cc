"""The oracle against brute force: each step of sending is tried as the moment to stop the guest."""

import math

import numpy as np
import pytest
from effort import examples
from hypothesis import given
from hypothesis import strategies as st
from migrations import BANDWIDTH, BARE, PAGE_S, PAGES, STEP_S
from model import to_words
from recordings import hot, idle, record, square_wave, sweep, uniform

from mempattern.migration.bandwidth import Bandwidth
from mempattern.migration.oracle import TOLERANCE
from mempattern.migration.policies import Action, Policy
from mempattern.migration.precopy import MEASURED, Host, precopy
from mempattern.migration.registry import POLICIES
from mempattern.migration.replayed import ReplayedMemory
from mempattern.migration.simulate import simulate

PATIENCE_S = 4.0


def of_oracle(recording, ceiling_s, bandwidth=BANDWIDTH, **options):
    options = {"host": BARE} | options
    (outcome,) = simulate(recording, {"oracle": None}, bandwidth, ceiling_s, **options)
    return outcome


class StopAtStep(Policy):
    """Along passes with that limit; it looks at each step, as where in an interval a page was
    written is drawn for each part of it that is looked at."""

    poll_s = 0.0
    sees_ahead = True

    def __init__(self, number, limit_s):
        self.steps, self._number, self._limit_s = 0, number, limit_s

    def begin(self, task):
        return Action(downtime_limit_s=self._limit_s)

    def poll(self, now):
        self.steps += 1
        now.downtime_s()
        return Action(stop=self.steps >= self._number)


def truth(recording, ceiling_s, bandwidth, *, start_s=0.0, zero=None, host=BARE):
    """Total and downtime of all courses within the ceiling, stopped at any step of four paths."""
    memory, courses = ReplayedMemory(recording, [start_s], zero), []
    for share in (0.0, 0.25, 0.5, 1.0):
        number, policy = 0, StopAtStep(0, 0.0)
        while policy.steps >= number:
            number += 1
            policy = StopAtStep(number, share * ceiling_s)
            course = precopy(
                memory, bandwidth, 0.3, policy=policy, host=host, patience_s=PATIENCE_S
            )
            if course.converged and course.downtime_s <= ceiling_s * (1 + TOLERANCE):
                courses.append((course.total_s, course.downtime_s))
    return courses


@st.composite
def recordings(draw):
    """Some of each: hot pages, a sweep, random writes, phases, a burst."""
    n_pages, n_intervals = draw(st.integers(300, 1500)), draw(st.integers(10, 40))
    pages = st.integers(0, n_pages)
    rows = hot(n_pages, n_intervals, draw(pages), draw(pages))
    if draw(st.booleans()):
        rows &= square_wave(n_pages, n_intervals, draw(st.integers(1, 12)), n_pages)
    if draw(st.booleans()):
        rows |= sweep(n_pages, n_intervals, draw(st.integers(1, n_pages)))
    if draw(st.booleans()):
        rows |= uniform(n_pages, n_intervals, draw(st.floats(0, n_pages)), draw(st.integers(0, 99)))
    first = draw(st.integers(0, n_intervals))
    rows[first : first + draw(st.integers(0, 8))] = draw(st.booleans())
    return rows


CEILINGS = st.sampled_from([0.1, 0.15, 0.3, 0.6, 1.0])


@examples(25)
@given(
    rows=recordings(),
    ceiling_s=CEILINGS,
    once_s=st.floats(0.4, 2),
    start_s=st.floats(0, 0.9),
    zeros=st.none() | st.sampled_from(["first", "last", "any"]),
    changes=st.dictionaries(st.floats(0.1, 3), st.floats(0.3, 3), max_size=2),
)
def test_nothing_is_sooner_within_the_ceiling(rows, ceiling_s, once_s, *, start_s, zeros, changes):
    """Whatever is zero, and however the link changes; of ends as soon it has the best downtime."""
    n_pages = rows.shape[1]
    bandwidth = n_pages * 4104 / once_s
    link = [(0.0, bandwidth), *((at_s, times * bandwidth) for at_s, times in changes.items())]
    options = {"start_s": start_s, "host": MEASURED if zeros == "any" else BARE}
    if zeros is not None:
        half = np.arange(n_pages) < n_pages // 2
        order = {"first": half, "last": ~half, "any": np.random.default_rng(1).permutation(half)}
        options["zero"] = [to_words(order[zeros])]
    recording, link = record(rows), Bandwidth(*sorted(link))
    found = of_oracle(recording, ceiling_s, link, patience_s=PATIENCE_S, **options)
    courses = truth(recording, ceiling_s, link, **options)
    assert found.success or not courses
    if found.success:
        assert found.downtime_s <= ceiling_s * (1 + TOLERANCE)
        assert found.throttled_s == 0
        assert found.postcopy_pages == 0
    if courses:
        soonest_s = min(courses)[0]
        assert found.total_s <= soonest_s * 1.001 + 1e-9
        equal = [downtime_s for total_s, downtime_s in courses if total_s <= found.total_s]
        assert found.downtime_s <= min(equal, default=math.inf) + 1e-9


def test_what_counts_as_soon_is_as_soon_as_the_first_moment():
    """Not as soon as the moment taken, of a shorter downtime, which counts as soon as the first."""
    recording = record(hot(553, 10, 462, 4) & square_wave(553, 10, 4, 553) | sweep(553, 10, 1))
    link = Bandwidth((0.0, 553 * 4104 / 0.400390625))
    found = of_oracle(recording, 0.1, link, patience_s=PATIENCE_S)
    soonest_s = min(truth(recording, 0.1, link))[0]
    assert found.total_s <= soonest_s * 1.001


# ---- by hand -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ceiling_s", [0.05, 0.3, 1.0, 10.0])
def test_an_idle_guest_is_hardly_stopped(ceiling_s):
    """All moments end as soon; the last one has no page left."""
    found = of_oracle(record(idle(PAGES, 40)), ceiling_s)
    assert found.total_s == pytest.approx(PAGES * PAGE_S + 0.004, rel=1e-3)
    assert found.downtime_s <= 0.05 * 1.02


def test_a_hot_guest_is_stopped_when_the_ceiling_allows_it():
    """4000 pages, always: 0.4144 s with the switchover. Nothing is to be had by going on."""
    recording = record(hot(PAGES, 60, 4000))
    assert not of_oracle(recording, 0.4144 / 1.03).success
    found = of_oracle(recording, 0.5)
    assert found.end == "completed"
    # It waits for 16,000 pages, but for what fits beside the 4000 in the pause.
    fit = 0.51 / PAGE_S - 4000
    assert found.total_s == pytest.approx((PAGES + 4000) * PAGE_S, abs=2 * STEP_S)
    assert found.downtime_s == pytest.approx(0.4144, abs=fit * PAGE_S + STEP_S)


def test_a_trough_is_met():
    """Hot but for half a second from 3 s on: 6000 pages, and 0.3 s allowed."""
    rows = hot(PAGES, 100, 6000)
    rows[30:37] = False
    found = of_oracle(record(rows), 0.3)
    assert found.success
    assert 3.0 < found.total_s < 3.7 + 0.31


@pytest.mark.parametrize("times", [0.1, 0.5, 2.0])
def test_a_link_that_changes_in_the_pause(times):
    """It knows: before a slower one it ends, or waits with less; for a faster one it need not."""
    link = Bandwidth((0, BANDWIDTH), (1.9, times * BANDWIDTH))
    recording = record(idle(PAGES, 40))
    found = of_oracle(recording, 0.3, link)
    assert found.success
    assert found.downtime_s <= 0.3 * (1 + TOLERANCE)


def test_zero_pages_take_no_time_to_send():
    """Half a second to find 10,000; what is written from 1.1 s on, just after the others are sent,
    takes too long for the ceiling ever after."""
    rows = hot(PAGES, 40, PAGES // 2)
    rows[:11] = False
    zero = [to_words(np.arange(PAGES) >= PAGES // 2)]
    host = Host(zero_pages_per_s=2e4, buffer_s=0.0, switchover_s=0.004, setup_s=0.0)
    found = of_oracle(record(rows), 0.6, host=host, zero=zero)
    assert found.success
    assert found.total_s == pytest.approx(PAGES // 2 * PAGE_S + 0.504)
    assert found.sent_bytes == PAGES // 2 * (4104 + 9)


def test_a_trace_that_ends_after_the_moment():
    """The guest is stopped before the trace is over, and to try later moments takes more of it."""
    recording = record(idle(PAGES, 20))  # 2.0 s, and sending takes 2.05 s
    found = of_oracle(recording, 0.5, past_end="refuse")
    assert (found.end, found.extrapolated_s) == ("completed", 0.0)
    assert found.total_s == pytest.approx(PAGES * PAGE_S + 0.004)
    short = of_oracle(record(idle(PAGES, 12)), 0.5, past_end="refuse")
    assert short.end == "trace ended"


def test_no_ceiling_is_low_enough_for_nothing():
    """The switchover alone takes 4 ms."""
    found = of_oracle(record(idle(PAGES, 40)), 0.003, patience_s=10)
    assert not found.success
    assert math.isnan(found.downtime_s)


# ---- against policies that only choose when to stop ----------------------------------------------


STOP_ONLY = [
    "stock", "relaxed", "xen-classic", "xen-today", "mp", "cloud-hypervisor", "nova", "proxmox",
    "kubevirt-ramp",
]  # fmt: skip


@examples(25)
@given(rows=recordings(), ceiling_s=CEILINGS, once_s=st.floats(0.4, 2), start_s=st.floats(0, 0.9))
def test_none_of_them_is_sooner(rows, ceiling_s, once_s, start_s):
    """If its downtime is within the ceiling; but for a step, as to look changes what is drawn."""
    bandwidth = rows.shape[1] * 4104 / once_s
    policies = {name: POLICIES[name] for name in [*STOP_ONLY, "oracle"]}
    *others, found = simulate(
        record(rows), policies, bandwidth, ceiling_s, start_s=start_s, patience_s=PATIENCE_S
    )
    step_s = 0.051 + 33 * 4104 / bandwidth
    for one in others:
        # Not one that was stopped in the last step of the patience.
        in_time = one.success and one.total_s - one.downtime_s < PATIENCE_S - 2 * step_s
        if in_time and one.downtime_s <= ceiling_s:
            assert found.success
            assert found.total_s <= one.total_s + step_s
