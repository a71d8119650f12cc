"""Advice on workloads of which one knows what becomes of their migration."""

import json
import math

import numpy as np
import pytest
from effort import examples
from hypothesis import given
from hypothesis import strategies as st
from workloads import hot, idle, intervals, uniform

from mempattern.curve import DirtyCurve
from mempattern.errors import UsageError
from mempattern.migration.advice import advise, usual_limits_s
from mempattern.migration.commands import qmp_commands, virsh_commands
from mempattern.migration.recording import Recording
from mempattern.migration.zeros import zeros_of

N_PAGES = 25_600
PAGE = 4096 + 8
FULL = float(N_PAGES * PAGE)
"""The bandwidth that sends all pages in a second."""
BUFFER_S = 0.02
"""What the sockets take at once."""


def recommend(recorded, bandwidth_Bps=FULL, ceiling_s=1.0, *, courses=4, **options):
    advice = advise(Recording(recorded), [bandwidth_Bps], ceiling_s, courses=courses, **options)
    (one,) = advice.recommendations
    assert one.sentence.endswith(".")
    assert "\n" not in one.sentence
    if one.outlook is not None:
        assert one.outlook.converges
        assert one.outlook.downtime_s.high <= ceiling_s
    return one


def busy_half(i):
    """Four seconds: a region is swept in all of them, and everything written in the middle two."""
    step = i % 40
    return slice(0, N_PAGES) if 10 <= step < 30 else slice(step * 50, step * 50 + 50)


@pytest.mark.parametrize("bandwidth_Bps", [FULL / 7, FULL, 3.3 * FULL])
def test_an_idle_vm_is_sent_once(bandwidth_Bps):
    one = recommend(intervals(idle, 100), bandwidth_Bps)
    assert (one.action, one.downtime_limit_s) == ("go", 0.3)
    assert "QEMU's default downtime limit of 300 ms" in one.sentence
    assert one.outlook.total_s.middle == pytest.approx(FULL / bandwidth_Bps, abs=BUFFER_S + 0.005)
    assert one.outlook.sent_bytes.middle == FULL


def test_zero_pages_cost_nine_bytes():
    one = recommend(intervals(idle, 100), zero=N_PAGES // 2)
    assert one.outlook.sent_bytes.middle == pytest.approx(N_PAGES // 2 * (PAGE + 9))


def test_a_hot_set_needs_a_limit_that_holds_it():
    """Half of the memory, half a second: pending after every pass, however short."""
    one = recommend(intervals(hot(N_PAGES // 2), 100))
    assert one.action == "go"
    assert 0.5 < one.downtime_limit_s <= 0.5 * 1.1 + 0.01
    assert one.outlook.downtime_s.middle == pytest.approx(0.5, abs=0.01)
    assert one.outlook.total_s.middle == pytest.approx(1.5, abs=BUFFER_S + 0.005)
    assert "does not end" in one.sentence  # with 300 ms


def test_no_limit_that_a_link_a_tenth_slower_would_miss():
    """What fits into 290 ms needs 319 ms then, and QEMU's default would be a matter of luck."""
    one = recommend(intervals(hot(int(N_PAGES * 0.29)), 100))
    assert one.action == "go"
    assert 0.319 <= one.downtime_limit_s <= 0.38
    assert "it barely ends" in one.sentence
    one = recommend(intervals(hot(int(N_PAGES * 0.29)), 100), ceiling_s=0.32)
    assert one.action == "go"  # nothing larger is allowed
    assert recommend(intervals(hot(int(N_PAGES * 0.26)), 100)).downtime_limit_s == 0.3


def test_hugetlb_memory_is_written_less_than_its_pages_say():
    large = {"n_pages": 512, "page_bytes": 2 << 20}
    advice = advise(Recording(intervals(hot(300), 100, **large)), [1e8], 1.0, courses=2)
    (one,) = advice.recommendations
    assert one.action == "observe"
    assert "KVM's dirty log" in one.sentence
    assert any("pages of 2 MiB" in note for note in advice.notes)
    advice = advise(Recording(intervals(hot(5), 100, **large)), [1e9], 1.0, courses=2)
    assert advice.recommendations[0].action == "go"  # it ends all the more


def test_post_copy_where_the_hot_set_is_too_large_for_the_ceiling():
    one = recommend(intervals(hot(N_PAGES // 2), 100), ceiling_s=0.4)
    assert one.action == "postcopy"
    assert one.postcopy.missing_pages.high == N_PAGES // 2
    assert one.postcopy.degraded_s.middle == pytest.approx(0.5)
    assert one.postcopy.total_s.middle == pytest.approx(1.5, abs=BUFFER_S + 0.005)
    assert one.outlook is None
    assert "12800 pages" in one.sentence
    assert "uto-converge" in one.sentence


def test_a_lower_limit_where_the_downtime_would_be_above_the_ceiling():
    """Just above half of the limit, QEMU's passes are some 50 ms, and it stops at any of them."""
    one = recommend(intervals(uniform(N_PAGES, 2000), 100), ceiling_s=0.2)
    assert one.action == "go"
    assert one.downtime_limit_s < 0.2
    assert "200 ms allowed" in one.sentence


def test_wait_for_the_quiet_half_of_a_period():
    """It ends half a second before everything is written for two."""
    one = recommend(intervals(busy_half, 165))
    assert one.action == "wait"
    assert one.phase.period_s == pytest.approx(4, abs=0.1)
    assert 2.5 <= one.phase.wait_s <= 3.5
    assert one.outlook.total_s.middle == pytest.approx(1.0, abs=0.1)
    assert "Started at once, it ends, but takes" in one.sentence


def test_go_where_the_quiet_half_has_begun():
    assert recommend(intervals(busy_half, 160)).action == "go"


def test_throttle_where_that_takes_less_than_post_copy_may():
    """Pages are written just faster than they are sent: a fifth less will do."""
    one = recommend(intervals(uniform(N_PAGES, 1450, seed=1), 200), FULL / 2, ceiling_s=0.2)
    assert one.action == "throttle"
    assert 0 < one.outlook.throttled_s < 1.77
    assert "of its time" in one.sentence


def test_dont_where_no_switchover_is_so_short():
    one = recommend(intervals(idle, 100), ceiling_s=0.005)
    assert (one.action, one.downtime_limit_s) == ("dont", None)
    assert "5 ms are allowed" in one.sentence


@pytest.mark.parametrize(("pages_of", "patience_s"), [(idle, 0.5), (hot(N_PAGES // 2), 1.2)])
def test_dont_where_even_post_copy_takes_too_long(pages_of, patience_s):
    one = recommend(intervals(pages_of, 100), ceiling_s=0.45, patience_s=patience_s)
    assert one.action == "dont"
    assert "even post-copy takes" in one.sentence


# ---- what a trace cannot tell --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recorded", "bandwidth_Bps", "says"),
    [
        (intervals(hot(N_PAGES // 2), 1), FULL, "1 interval shows too little"),
        (intervals(uniform(N_PAGES, 2000), 19), FULL, "19 intervals show too little"),
        (intervals(hot(6000), 100, gap_s=0.02), FULL, "1.98 s between its intervals"),
        (intervals(hot(6000), 100, lost_pages=100), FULL, "at least 10000 dirty pages"),
        (intervals(hot(N_PAGES // 2), 100, length_s=2.5), FULL, "shorter intervals, of 150 ms"),
        (intervals(uniform(N_PAGES, 450), 25), FULL / 5, "only 2.5 s were observed"),
    ],
)
def test_observe_where_the_trace_cannot_tell(recorded, bandwidth_Bps, says):
    one = recommend(recorded, bandwidth_Bps)
    assert (one.action, one.downtime_limit_s, one.outlook) == ("observe", None, None)
    assert one.sentence.startswith("The trace cannot tell; observe ")
    assert says in one.sentence


@pytest.mark.parametrize(
    "recorded",
    [
        intervals(idle, 1),
        intervals(hot(100), 3),  # ten times as many would fit
        intervals(hot(100), 100, length_s=5),
        intervals(hot(6000), 100, gap_s=0.001),
        intervals(hot(6000), 100, lost_pages=10),
        intervals(hot(5000), 30, length_s=[0.1] * 29 + [9]),
    ],
)
def test_a_trace_that_lacks_something_may_be_enough(recorded):
    assert recommend(recorded).action == "go"


def test_missing_pages_are_bounded_where_the_first_pass_was_not_observed():
    """A pass of 10 s, 4 s seen: at most 2.5 times the pages that were seen written."""
    recorded = intervals(uniform(N_PAGES, 4000), 40)
    one = recommend(recorded, FULL / 10, ceiling_s=0.3)
    assert one.action == "postcopy"
    touched = Recording(recorded).touched_pages
    assert one.postcopy.missing_pages.high >= min(touched * 2.4, N_PAGES)


# ---- the table -----------------------------------------------------------------------------------


def test_a_table_has_a_row_a_bandwidth_and_a_column_a_limit():
    recording = Recording(intervals(hot(N_PAGES // 4), 60))
    advice = advise(recording, [2 * FULL, FULL], 0.5, [0.5, 0.1, 0.1])
    assert advice.bandwidths_Bps == (2 * FULL, FULL)
    assert advice.downtime_limits_s == (0.1, 0.5)
    likelihoods = [[one.likelihood for one in row] for row in advice.outlooks]
    assert likelihoods == [[0, 1], [0, 1]]  # the hot set takes 125 ms, and 250 ms
    assert [one.bandwidth_Bps for one in advice.recommendations] == [2 * FULL, FULL]


@pytest.mark.parametrize(
    ("ceiling_s", "limits"),
    [(1.0, [0.3, 0.55, 1.0]), (0.3, [0.3]), (0.1, [0.1, 0.17, 0.3]), (2.0, [0.3, 0.77, 2.0])],
)
def test_usual_limits(ceiling_s, limits):
    assert usual_limits_s(ceiling_s) == limits


def test_a_curve_will_do():
    """D(t) of 5000 pages that are all written within 50 ms."""
    window_s = np.array([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2])
    curve = DirtyCurve(window_s, np.full(7, 5000.0), 10.0, 50, N_PAGES)
    advice = advise(curve, [FULL], 1.0, n_pages=N_PAGES)
    (one,) = advice.recommendations
    assert one.action == "go"
    assert one.downtime_limit_s == 0.3
    assert 0.95 < one.outlook.total_s.middle < 1.25


@given(
    st.integers(0, N_PAGES), st.floats(0.05, 10), st.floats(0.001, 3),
    st.integers(1, 30), st.sampled_from(["hot", "uniform"]),
)  # fmt: skip
@examples(15)
def test_advice_keeps_what_is_allowed(n_dirty, share, ceiling_s, n_intervals, kind):
    pages_of = hot(n_dirty) if kind == "hot" else uniform(N_PAGES, n_dirty)
    recorded = intervals(pages_of, n_intervals)
    one = recommend(recorded, FULL * share, ceiling_s, courses=2)
    given = one.downtime_limit_s is not None
    assert given == (one.action in ("go", "wait", "throttle", "postcopy"))
    assert (one.postcopy is not None) == (one.action == "postcopy")
    assert (one.outlook is not None) == (one.action in ("go", "wait", "throttle"))
    assert bool(qmp_commands(one)) == bool(virsh_commands(one)) == given
    if given:
        assert 0 < one.downtime_limit_s <= max(ceiling_s, 0.3)


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "1s", True])
def test_numbers_that_make_no_sense_are_refused(value):
    recording = Recording(intervals(idle, 30))
    for arguments in (([value], 1.0), ([FULL], value), ([FULL], 1.0, [value])):
        with pytest.raises(UsageError, match="positive, finite number"):
            advise(recording, *arguments)
    with pytest.raises(UsageError, match="positive, finite number"):
        advise(recording, [FULL], 1.0, patience_s=value)
    with pytest.raises(UsageError, match="give one at least"):
        advise(recording, [], 1.0)


# ---- what is said to QEMU ------------------------------------------------------------------------


def test_commands():
    go = recommend(intervals(idle, 100))
    assert qmp_commands(go) == (
        {
            "execute": "migrate-set-parameters",
            "arguments": {"max-bandwidth": round(FULL), "downtime-limit": 300},
        },
    )
    assert "virsh migrate-setmaxdowntime DOMAIN 300" in virsh_commands(go)
    postcopy = recommend(intervals(hot(N_PAGES // 2), 100), ceiling_s=0.4)
    _, capability, start = qmp_commands(postcopy)
    assert capability["arguments"]["capabilities"][0]["capability"] == "postcopy-ram"
    assert start == {"execute": "migrate-start-postcopy"}
    assert "--postcopy" in virsh_commands(postcopy)[0]


# ---- which pages hold only zeros -----------------------------------------------------------------


def zeros(said, n_pages=1000):
    recording = Recording(intervals(hot(10), 2, n_pages=n_pages))
    return zeros_of(recording, said if isinstance(said, dict) else {"nonzero_pages": said})


def count(bitmaps):
    return sum(int(np.bitwise_count(words).sum()) for words in bitmaps)


def test_zero_pages_are_those_that_the_trace_counts():
    parts = [64, 0, 32, *([0] * 13)]  # ten written pages are among the first 64
    bitmaps, note = zeros(json.dumps({"part_pages": 64, "regions": {"ram": parts}}))
    assert note is None
    assert count(bitmaps) == 1000 - 96


def test_parts_that_the_trace_does_not_count_hold_something():
    bitmaps, note = zeros(json.dumps({"part_pages": 64, "regions": {"ram": [20]}}))
    assert note is None
    assert count(bitmaps) == 44
    bitmaps, _ = zeros(json.dumps({"part_pages": 64, "regions": {}}))
    assert count(bitmaps) == 0


def test_without_counts_no_page_is_zero():
    bitmaps, note = zeros({})
    assert bitmaps is None
    assert "at most" in note


@pytest.mark.parametrize(
    "said",
    [
        "", "{", "[]", "1", "null", "{}", '{"part_pages": 64}', "[" * 100_000,
        '{"part_pages": 0, "regions": {}}', '{"part_pages": "64", "regions": {}}',
        '{"part_pages": true, "regions": {}}', '{"part_pages": 64, "regions": 3}',
        '{"part_pages": 64, "regions": {"ram": 3}}', '{"part_pages": 64, "regions": {"ram": [65]}}',
        '{"part_pages": 64, "regions": {"ram": [-1]}}',
        '{"part_pages": 64, "regions": {"ram": [1.5]}}',
        '{"part_pages": 1000, "regions": {"ram": [1, 1]}}',
    ],
)  # fmt: skip
def test_counts_that_make_no_sense_are_left_out(said):
    bitmaps, note = zeros(said)
    assert bitmaps is None
    assert "makes no sense" in note
