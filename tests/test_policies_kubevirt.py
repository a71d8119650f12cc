"""KubeVirt's timeouts, ramp and stall detection by hand, over any passes, and on guests."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from migrations import LIMIT_PAGES, PAGE_S, PAGES, migrate
from recordings import hot
from standings import a_pass, a_poll, a_task, limits

from mempattern import errors
from mempattern.migration.policies import (
    NOTHING,
    Action,
    KubeVirtLegacy,
    KubeVirtPostCopy,
    KubeVirtRamp,
    KubeVirtStall,
)

GIVE_UP, POSTCOPY = Action(give_up=True), Action(postcopy=True)
HOT = hot(PAGES, 40, int(2 * LIMIT_PAGES))  # needs 0.6 s


# ---- timeouts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "late"), [(KubeVirtLegacy, GIVE_UP), (KubeVirtPostCopy, POSTCOPY)]
)
def test_the_completion_timeout_by_hand(policy, late):
    """2 GiB are 2.15 GB, which count as three: 450 s, in whole seconds."""
    steered = policy()
    assert steered.begin(a_task(2 << 30)) == NOTHING
    told = [(449.6, 10), (450.8, 9), (451.2, 8)]
    assert [steered.poll(a_poll(*one)) for one in told] == [NOTHING, NOTHING, late]


@pytest.mark.parametrize("policy", [KubeVirtLegacy, KubeVirtPostCopy])
def test_the_progress_timeout_by_hand(policy):
    """Less than at the poll before is progress, however much there was earlier."""
    steered = policy()
    steered.begin(a_task(64 << 30))
    told = [(0.4, 900), (10.0, 100), (100.0, 800), (120.0, 799), (270.0, 799), (270.9, 799)]
    assert [steered.poll(a_poll(*one)) for one in told] == [NOTHING] * 6
    assert steered.poll(a_poll(271.0, 900)) == GIVE_UP


def test_a_hot_guest_is_aborted_or_goes_on_by_post_copy():
    for policy in (KubeVirtLegacy, KubeVirtPostCopy):
        course = migrate(HOT, policy=policy(timeout_s_per_gib=10), patience_s=60)
        assert course.converged == (policy is KubeVirtPostCopy)
        if course.cancelled:
            assert 11 <= course.total_s < 11.5
        else:
            assert course.downtime_s == 0.004
            assert course.postcopy_pages == pytest.approx(2 * LIMIT_PAGES, rel=0.03)


# ---- the ramp ----------------------------------------------------------------------------------


def test_the_ramp_by_hand():
    """From 150 ms by a seventh of 900, in whole ms; the rest that this leaves is an eighth step."""
    policy = KubeVirtRamp()
    told = [
        (0.4, 1), (12.0, 2), (30.0, 3), (39.9, 3), (40.0, 9), (50.4, 9), (60.0, 9),
        *[(60.4 + 10 * i, 9) for i in range(7)],
    ]  # fmt: skip
    begun = policy.begin(a_task(64 << 30, ceiling_s=1.05))
    polled = [policy.poll(a_poll(now_s, 900 - i, n)) for i, (now_s, n) in enumerate(told)]
    assert limits([begun, *polled]) == [
        150, None, None, 278, None, 406, 534, None, 662, 790, 918, 1046, 1050, None, None,
    ]  # fmt: skip


def test_a_ceiling_below_the_start_of_the_ramp():
    policy = KubeVirtRamp()
    assert limits([policy.begin(a_task(ceiling_s=0.1)), policy.poll(a_poll(20.0, 9, 5))]) == [
        100, None,
    ]  # fmt: skip


def test_the_ramp_keeps_the_timeouts():
    policy = KubeVirtRamp()
    policy.begin(a_task())
    assert policy.poll(a_poll(301.0, 9)) == GIVE_UP


def test_a_hot_guest_ends_on_the_ramp():
    """0.6 s are allowed from the fourth step on."""
    course = migrate(HOT, policy=KubeVirtRamp(), ceiling_s=1.05, patience_s=100)
    assert course.converged
    assert course.passes[-1].limit_s == 0.662
    assert 40 < course.total_s < 43


# ---- stall detection -----------------------------------------------------------------------------


def stall_policy(ceiling_s=1.0, ram_bytes=1 << 30, bandwidth_Bps=40.96e6, **options):
    """One that knows the bandwidth, by which 10,000 pages take a second."""
    policy = KubeVirtStall(**options)
    policy.begin(a_task(ram_bytes, ceiling_s))
    assert policy.poll(a_poll(0.4, 9, bandwidth_Bps=bandwidth_Bps)) == NOTHING
    return policy


def answers(policy, *passes):
    """After each (at_s, pages)."""
    return [policy.after(a_pass(n, *one)) for n, one in enumerate(passes, 2)]


def test_the_limit_at_first():
    for ceiling_s, begun_ms in [(0.9, 300), (0.2, 200)]:
        assert limits([KubeVirtStall().begin(a_task(ceiling_s=ceiling_s))]) == [begun_ms]


def test_a_stall_by_hand():
    """At 55 s the least of what is 40 s old is 8000: 7680 is a stall, 7679 is none."""
    before = [(5.0, 9000), (15.0, 8000), (30.0, 7800)]
    assert answers(stall_policy(), *before, (55.0, 7679)) == [NOTHING] * 4
    # Stalled, and the least so far: the ceiling becomes the limit.
    switched = Action(downtime_limit_s=1.0)
    assert answers(stall_policy(), *before, (55.0, 7680)) == [NOTHING] * 3 + [switched]
    # Stalled too early: at 54.9 s only 9000 is old enough, and 8640 the least that is a stall.
    assert answers(stall_policy(), *before, (54.9, 8000)) == [NOTHING] * 4


def test_it_waits_for_a_minimum():
    """The least is 7000, so that 7280 will do; and it acts only once."""
    policy = stall_policy()
    told = [(5.0, 8000), (30.0, 7000), (46.0, 9000), (50.0, 7281), (60.0, 7280), (61.0, 7000)]
    acted = Action(downtime_limit_s=1.0)
    assert answers(policy, *told) == [NOTHING] * 4 + [acted, NOTHING]


def test_its_patience_halves():
    """For 7000 from 46 s to 86 s, for the least since, 8500, to 106 s, for 8600 to 116 s."""
    policy = stall_policy()
    told = [(5.0, 8000), (30.0, 7000), (46.0, 9000), (60.0, 8500), (80.0, 8600), (85.9, 8700)]
    assert answers(policy, *told) == [NOTHING] * 6
    assert answers(policy, (86.0, 9000), (105.9, 8841)) == [NOTHING] * 2
    # 8600 lets 8944 pass.
    assert answers(policy, (106.0, 8945), (107.0, 8944)) == [
        NOTHING,
        Action(downtime_limit_s=1.0),
    ]


def test_what_is_far_too_much_is_aborted():
    """1.5 times the ceiling are 15,000 pages."""
    for pages, action in [(15_000, Action(downtime_limit_s=1.0)), (15_001, GIVE_UP)]:
        assert answers(stall_policy(), (5.0, pages), (45.0, pages)) == [NOTHING, action]


def test_a_switch_over_has_a_deadline():
    policy = stall_policy()
    answers(policy, (5.0, 12_000), (45.7, 12_000))
    assert [policy.poll(a_poll(now_s, 9)) for now_s in (105.9, 106.0)] == [NOTHING, GIVE_UP]


def test_it_takes_too_long():
    """1 GiB counts as two GB: 300 s; and a pause may not last beyond twice that."""
    policy = stall_policy()
    assert [policy.poll(a_poll(now_s, 9)) for now_s in (300.9, 301.0)] == [NOTHING, GIVE_UP]
    policy = stall_policy(ceiling_s=1000.0, timeout_s_per_gib=50)
    told = [(5.0, 1_550_001), (45.0, 1_550_001), (45.0, 1_550_000)]
    assert answers(policy, *told) == [NOTHING, NOTHING, Action(downtime_limit_s=1000.0)]


def test_the_bandwidth_is_a_moving_mean():
    """10,000 pages a second, then twice 5000: 8000, 6800. 1.5 s of these are 10,200 pages."""
    for pages, action in [(10_190, Action(downtime_limit_s=1.0)), (10_210, GIVE_UP)]:
        policy = stall_policy()
        for now_s in (0.8, 1.2):
            policy.poll(a_poll(now_s, 9, bandwidth_Bps=20.48e6))
        assert answers(policy, (5.0, pages), (45.0, pages)) == [NOTHING, action]


def test_without_a_bandwidth_it_does_not_look():
    policy = KubeVirtStall()
    policy.begin(a_task())
    assert answers(policy, (1.0, 100), (42.0, 100)) == [NOTHING] * 2


def switch_over(records):
    """VEP 248's definitions, over all (at_s, pages) at once: at which record it acts; None if at
    none."""
    least_old = [
        min((old for at_s, old in records if now_s - at_s >= 40), default=math.inf)
        for now_s, _ in records
    ]
    stalled = [i for i, (_, pages) in enumerate(records) if pages >= least_old[i] * (1 - 0.04)]
    if not stalled:
        return None
    first = stalled[0]
    aim = min(pages for _, pages in records[: first + 1])
    waited_s, since_s, later = 40.0, records[first][0], []
    for i, (now_s, pages) in enumerate(records[first:], first):
        if i > first:
            later = sorted([*later, pages])
        if now_s - since_s >= waited_s:
            aim, later = later[0], later[1:]
            waited_s, since_s = waited_s / 2, now_s
        if pages <= aim * (1 + 0.04):
            return i
    return None


@given(
    st.lists(
        st.tuples(st.sampled_from([500, 2000, 7000, 15_000, 41_000]), st.integers(50, 180)),
        max_size=60,
    ),
    st.sampled_from([900, 1000]),
)
def test_it_acts_where_the_proposal_says(passes, scale):
    policy, now_s, records = stall_policy(timeout_s_per_gib=1e9), 1.0, []
    for later_ms, hundreds in passes:
        now_s += later_ms / 1000
        records.append((now_s, hundreds * scale / 10))
    expected = [NOTHING] * len(records)
    at = switch_over(records)
    if at is not None:  # 10,000 pages take a second
        possible = records[at][1] <= 15_000
        expected[at] = Action(downtime_limit_s=1.0) if possible else GIVE_UP
        expected = expected[: at + 1]
    assert answers(policy, *records[: len(expected)]) == expected
    if at is not None and expected[at] != GIVE_UP:
        assert answers(policy, *records[at + 1 :]) == [NOTHING] * len(records[at + 1 :])


def test_a_hot_guest_ends_at_the_stall_or_is_aborted():
    """The bulk ends after 2 s; 40 s later it has stalled."""
    for ceiling_s, ends in [(0.65, True), (0.45, True), (0.35, False)]:
        policy = KubeVirtStall()
        course = migrate(HOT, policy=policy, ceiling_s=ceiling_s, patience_s=200)
        if ceiling_s == 0.45:  # within 1.5 times, so that it tries for 60 s
            assert course.cancelled
            assert 102 < course.total_s < 105
        else:
            assert (course.converged, course.cancelled) == (ends, not ends)
            assert 42 < course.total_s < 44


def test_a_guest_with_phases_is_stopped_in_the_quieter_one():
    """8000 pages for 2 s and 4500 for 2 s, which both take longer than QEMU's limit."""
    rows = hot(PAGES, 80, 8000)
    rows[np.arange(80) % 40 >= 20, 4500:] = False
    course = migrate(rows, policy=KubeVirtStall(stall_s=10), ceiling_s=1.0, patience_s=200)
    assert course.converged
    assert course.total_s > 12
    assert course.downtime_s < 4500 * PAGE_S * 1.05


def test_numbers_that_make_no_sense():
    for policy, name in [
        (KubeVirtLegacy, "timeout_s_per_gib"),
        (KubeVirtLegacy, "progress_timeout_s"),
        (KubeVirtRamp, "initial_s"),
        (KubeVirtRamp, "cooldown_s"),
        (KubeVirtStall, "stall_s"),
        (KubeVirtStall, "switchover_s"),
        (KubeVirtStall, "timeout_s_per_gib"),
    ]:
        with pytest.raises(errors.UsageError, match=f"^{name} must be a positive"):
            policy(**{name: math.inf})
