"""A recommendation in words, with the figures that it rests on."""

from __future__ import annotations

from mempattern.migration.outlook import Outlook, Phase, PostCopy, Range
from mempattern.quantities import BYTES, DURATIONS, Ladder, format_duration, format_range

DEFAULT_LIMIT_S = 0.3
"""QEMU's (migration/migration.c), and libvirt's."""


def go(
    limit_s: float, chosen: Outlook, usual: Outlook, ceiling_s: float, faster: tuple[float, Outlook]
) -> str:
    """`usual` is with QEMU's limit, `faster` with the largest one that is allowed."""
    default = f"QEMU's default downtime limit of {format_duration(DEFAULT_LIMIT_S)}"
    if limit_s == DEFAULT_LIMIT_S:
        how = f"with {default}"
    elif limit_s > DEFAULT_LIMIT_S:
        less = "it barely ends" if usual.converges else share(usual)
        how = f"with a downtime limit of {format_duration(limit_s)} (with {default} {less})"
    else:
        how = (
            f"with a downtime limit of {format_duration(limit_s)} (with {default} it may be longer "
            f"than the {format_duration(ceiling_s)} allowed)"
        )
    larger_s, then = faster
    more = ""
    if chosen.total_s and then.total_s and then.total_s.high < chosen.total_s.low:
        more = f" A limit of {format_duration(larger_s)} would make it {_text(then.total_s)}."
    return f"Go now, {how}: {figures(chosen)}.{more}"


def wait(limit_s: float, phase: Phase, now: Outlook) -> str:
    took = ""
    if now.converges and now.total_s and now.sent_bytes:
        took = f", but takes {_text(now.total_s)} and sends {_text(now.sent_bytes, BYTES)}"
    return (
        f"Wait: the workload repeats itself every {format_duration(phase.period_s)}. Start "
        f"{format_duration(phase.wait_s)} after the end of the trace, or whole periods later, with "
        f"a downtime limit of {format_duration(limit_s)}: {figures(phase.outlook)}. Started at "
        f"once, {share(now)}{took}."
    )


def throttle(limit_s: float, throttled: Outlook, why: str) -> str:
    """`why` nothing less will do, as `falls_short` says it."""
    return (
        f"Throttle the guest (auto-converge), with a downtime limit of {format_duration(limit_s)}: "
        f"{_throttled(throttled)}. Without it, {why}."
    )


def postcopy(limit_s: float, expected: PostCopy, why: str, instead: str) -> str:
    """`instead` is what comes of throttling."""
    return (
        f"Use post-copy: with a downtime limit of {format_duration(limit_s)} {why}. "
        f"Switched over after the first pass it takes {_text(expected.total_s)} and sends "
        f"{_text(expected.sent_bytes, BYTES)}; the guest waits for "
        f"{_text(expected.missing_pages, None)} pages at most from the network, "
        f"{_text(expected.degraded_s)} in all. {instead}."
    )


def auto_converge(throttled: Outlook, why: str | None) -> str:
    """The alternative; or `why` it is none."""
    return f"With auto-converge {why}" if why else f"Auto-converge instead: {_throttled(throttled)}"


def too_long(limit_s: float, why: str, expected: PostCopy, patience_s: float) -> str:
    return (
        f"Do not migrate: with a downtime limit of {format_duration(limit_s)} {why}, and even "
        f"post-copy takes {_text(expected.total_s)}, where {format_duration(patience_s)} are "
        f"allowed."
    )


def too_strict(ceiling_s: float, least_s: float) -> str:
    return (
        f"Do not migrate: the guest stands still for up to {format_duration(least_s)} whatever it "
        f"does, and {format_duration(ceiling_s)} are allowed."
    )


def figures(outlook: Outlook) -> str:
    """Of one that ends."""
    assert outlook.total_s
    assert outlook.sent_bytes
    assert outlook.downtime_s
    return (
        f"it takes {_text(outlook.total_s)}, sends {_text(outlook.sent_bytes, BYTES)}, and the "
        f"guest stands still for {_text(outlook.downtime_s)}"
    )


def share(outlook: Outlook) -> str:
    """How sure it is that it ends."""
    if outlook.converges:
        return "it ends"
    if outlook.converges is None:
        return f"it ends in {100 * outlook.likelihood:.0f} % of the cases only"
    return "it does not end"


def falls_short(outlook: Outlook, ceiling_s: float) -> str:
    """Why it will not do."""
    if not outlook.converges or outlook.total_s is None or outlook.downtime_s is None:
        return share(outlook)
    if outlook.downtime_s.high > ceiling_s:
        longest = format_duration(outlook.downtime_s.high)
        return f"the guest may stand still for {longest}, longer than is allowed"
    return f"it takes {_text(outlook.total_s)}"


def _throttled(outlook: Outlook) -> str:
    return f"{figures(outlook)}, and it loses {format_duration(outlook.throttled_s)} of its time"


def _text(one: Range, ladder: Ladder | None = DURATIONS) -> str:
    return format_range(one.low, one.middle, one.high, ladder)
