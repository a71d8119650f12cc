"""The questions to a slow policy: few of them wait, and no page is forgotten."""

import asyncio

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mempattern.interval import Interval, Provenance
from mempattern.live import asking
from mempattern.live.asking import Asking
from mempattern.migration.policies import NOTHING, Policy
from mempattern.migration.policies.base import Pass, Progress
from mempattern.regions import Region

RAM = Region("ram", 256)
STANDING = {"at_s": 1.0, "sent_bytes": 0.0, "pending_pages": 9.0, "page_bytes": 4096,
            "bandwidth_Bps": 1e8, "limit_s": 0.3}  # fmt: skip


class Slow(Policy):
    poll_s = 0.0

    def __init__(self):
        self.told, self.passes, self.polls = [], [], 0

    def watch(self, interval):
        self.told.append(interval)

    def after(self, done):
        self.passes.append((done.number, done.found()))
        return NOTHING

    def poll(self, now):
        self.polls += 1
        return NOTHING


def interval(start, end, bitmap):
    return Interval(end, start, end, (RAM,), {"ram": bitmap}, Provenance("model"))


@given(n=st.integers(1, 300), every=st.integers(1, 40), sees=st.booleans(), seed=st.integers(0, 99))
def test_few_wait_and_no_page_is_forgotten(n, every, sees, seed):
    """All is asked before the first answer; the last question is a poll."""
    written = np.random.default_rng(seed).integers(0, 1 << 64, (n, RAM.n_words), np.uint64)
    written &= written[::-1] & np.uint64(0x1111)
    policy, most = Slow(), 0

    async def run():
        nonlocal most
        answered = asyncio.Event()

        async def act(action, about, late_s):
            if policy.polls:
                answered.set()

        questions = Asking(policy, act, act)
        for i, bitmap in enumerate(written):
            questions.watch(interval(i, i + 1, bitmap))
            if (i + 1) % every == 0:
                pages = np.bitwise_or.reduce(written[i + 1 - every : i + 1])
                found = interval(i + 1 - every, i + 1, pages) if sees else None
                questions.after(
                    Pass(number=i + 1, left_pages=0.0, found=lambda found=found: found, **STANDING)
                )
            most = max(most, len(questions._questions))
        questions.poll(Progress(number=n, **STANDING))
        task = asyncio.create_task(questions.run())
        await asyncio.wait_for(answered.wait(), 20)
        task.cancel()

    asyncio.run(run())
    assert most <= asking._MOST_WAITING + 2
    check(policy.told, written, n)
    n_passes = n // every
    if n_passes:
        numbers = [number for number, _ in policy.passes]
        assert numbers == sorted(set(numbers))
        assert numbers[-1] == n_passes * every
        if sees:
            check([found for _, found in policy.passes], written, n_passes * every)
        else:
            assert {found for _, found in policy.passes} == {None}


def check(intervals, written, end):
    """They follow each other up to there, with the pages written in each."""
    starts = [0] + [one.end_ns for one in intervals]
    assert [one.start_ns for one in intervals] == starts[:-1]
    assert starts[-1] == end
    for one in intervals:
        expected = np.bitwise_or.reduce(written[one.start_ns : one.end_ns])
        np.testing.assert_array_equal(one.bitmaps["ram"], expected)
