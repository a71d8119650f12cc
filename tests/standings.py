"""Where a migration stands, made up: what a policy is told in tests by hand."""

from mempattern.migration.policies import Pass, Progress, Task

PAGE_BYTES = 4096


def a_task(ram_bytes=1 << 30, ceiling_s=1.0, bandwidth_Bps=40e6, limit_s=0.3):
    return Task(ram_bytes // PAGE_BYTES, PAGE_BYTES, bandwidth_Bps, limit_s, ceiling_s, 3600.0)


def a_pass(number, at_s, pending_pages, **more):
    return Pass(**_standing(number, at_s, pending_pages, {"left_pages": 0} | more))


def a_poll(at_s, pending_pages, number=2, **more):
    return Progress(**_standing(number, at_s, pending_pages, more))


def _standing(number, at_s, pending_pages, more):
    usual = {"sent_bytes": 0.0, "page_bytes": PAGE_BYTES, "bandwidth_Bps": 40e6, "limit_s": 0.3}
    given = {"number": number, "at_s": at_s, "pending_pages": pending_pages}
    return given | usual | more


def limits(actions):
    """The limits in ms that the actions set; None where they set none."""
    set_s = [action.downtime_limit_s for action in actions]
    return [None if limit_s is None else round(limit_s * 1000, 6) for limit_s in set_s]
