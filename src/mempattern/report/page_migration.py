"""The page's part on a migration that was recorded."""

from __future__ import annotations

from mempattern.report.markup import Markup, element, join, table
from mempattern.report.migrated import (
    Migrated,
    bandwidth,
    dirty_rate,
    n_bytes,
    per_second,
    seconds,
    share,
    whole,
)


def migration_section(migrated: Migrated | None) -> Markup:
    if migrated is None:
        return Markup("")
    passes = [
        [
            whole(one, "number"), seconds(one, "at_s"), n_bytes(one, "sent_bytes"),
            n_bytes(one, "remaining_bytes"), bandwidth(one), per_second(dirty_rate(one)),
            whole(one, "dirty_pages"), seconds(one, "expected_downtime_s"),
            seconds(one, "limit_s"), share(one, "throttle"),
        ]
        for one in migrated.passes
    ]  # fmt: skip
    decisions = [
        [seconds(one, "at_s"), one.get("did", "-"), one.get("why", "-")]
        for one in migrated.decisions
    ]
    parts: list[object] = [
        element("h3", "QEMU's figures"),
        element("p", f"The trace is of a migration, which {migrated.sentence}."),
        element("p", "Upright lines in the map are the ends of its passes. Below it, dashes are "
                "the bandwidth and dots the dirty rate, as QEMU measured them.", class_="hint"),
        element("details", element("summary", "The passes as a table"), table(
            "query-migrate after each pass; dirty pages are the tracer's",
            ("Pass", "At", "Sent", "Remaining", "Bandwidth", "Dirty rate", "Dirty pages",
             "Expected downtime", "Limit", "Throttled"), passes)),
    ]  # fmt: skip
    if decisions:
        parts.append(element("details", element("summary", "What was decided, and why"), table(
            "Decisions of the policy", ("At", "Did", "Why"), decisions, text=(1, 2))))  # fmt: skip
    if migrated.n_left:
        parts.append(element("p", f"{migrated.n_left:,} more are left out.", class_="hint"))
    return join(parts)
