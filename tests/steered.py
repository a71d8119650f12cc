"""A migration steered on a QEMU that answers by a script, and what QEMU must be after it."""

import asyncio
import time

from fake_qmp import MIB, PARAMETERS, active

from mempattern.live.controller import MigrationController
from mempattern.migration.policies import NOTHING, Policy

PENDING = 90 * MIB  # takes 0.94 s at 100 MB/s
PASSES = [active(n, PENDING, at_s=n / 10) for n in range(1, 7)]


class Answers(Policy):
    """One answer after each pass, and then none."""

    def __init__(self, *answers, begin=NOTHING):
        self.answers, self.at_begin, self.seen = list(answers), begin, []

    def begin(self, task):
        self.task = task
        return self.at_begin

    def after(self, done):
        self.seen.append(done)
        return self.answers.pop(0) if self.answers else NOTHING


def steer(fake, policy, tmp_path, *, uri="tcp:there:1", left_ms=300, by_guard=False, **more):
    """The result of a migration steered by the policy; QEMU must be as it was before, but for the
    limit if somebody else has changed that."""
    more = {"max_downtime_s": 1.0, "traces": False} | more

    async def run():
        path = str(tmp_path / "qmp")
        async with fake.serving(path):
            controller = MigrationController(path, uri, policy, **more)
            try:
                return await asyncio.wait_for(controller.run(), 20)
            finally:
                if by_guard:
                    await settled(fake)

    before = dict(fake.capabilities)
    try:
        return asyncio.run(run())
    finally:
        assert fake.parameters == PARAMETERS | {"downtime-limit": left_ms}
        assert fake.capabilities == before


async def settled(fake):
    """The guard has put all back."""
    await until(lambda: fake.parameters == PARAMETERS and not fake.capabilities["events"])


async def until(so):
    for _ in range(200):
        if so():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it did not come")


def slowly(*steps):
    """So that a policy, which answers in a thread of its own, has answered before the next."""
    return [
        step if when == 0 else (lambda _, step=step: (time.sleep(0.03), step)[1])
        for step in steps
        for when in (0, 1)
    ]
