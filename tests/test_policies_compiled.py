"""Policies compiled by Numba in a migration: told what others are told, and obeyed."""

import subprocess
import sys

import numpy as np
import pytest
from migrations import BANDWIDTH, BARE, LIMIT_PAGES, LIMIT_S, PAGES, migrate
from paged_memory import PagedMemory
from recordings import hot, idle
from standings import a_pass, a_task, limits

from mempattern import GroupStats, jit
from mempattern.migration.policies import NOTHING, Action, Compiled, Policy
from mempattern.migration.precopy import precopy

HOT = hot(PAGES, 40, int(2 * LIMIT_PAGES))


@jit.policy
def by_number(passes):
    """A limit of 10 ms times the number of the sync; then nothing twice, and at last the end."""
    n = passes[-1]["number"]
    return 0.01 * n if n < 5 else 0.0 if n == 5 else -1.0 if n == 6 else np.inf


@jit.policy
def stops_at_a_stall(passes):
    pending = passes["pending_bytes"]
    return np.inf if pending.size > 1 and pending[-1] >= pending[-2] else 0.0


def test_what_it_returns_by_hand():
    policy = Compiled(by_number)
    policy.begin(a_task())
    actions = [policy.after(a_pass(n, 1.0 * n, 9000)) for n in range(2, 8)]
    assert limits(actions[:3]) == [20, 30, 40]
    assert actions[3:] == [NOTHING, NOTHING, Action(stop=True)]


class Both(Policy):
    """Follows one, and keeps what it was told."""

    def __init__(self, compiled):
        self.compiled, self.told, self.seen = compiled, [], []

    def begin(self, task):
        return self.compiled.begin(task)

    def after(self, done):
        self.told.append(done)
        found = done.found()
        if found is not None:
            self.stats = GroupStats(found.regions) if not self.seen else self.stats
            self.seen.append(self.stats.update(found))
        return self.compiled.after(done)


class Rows:
    """In a compiled policy's place: keeps what it is given."""

    dtype = jit.PASS

    def __call__(self, passes):
        self.rows = passes.copy()
        return 0.0


@pytest.mark.parametrize("knows_pages", [True, False])
def test_the_passes_are_those_of_the_others(knows_pages):
    rows = Rows()
    policy = Both(Compiled(rows))
    if knows_pages:
        writes = np.arange(PAGES) < 2 * LIMIT_PAGES
        memory = PagedMemory(PAGES, lambda start_s, end_s: writes)
        precopy(memory, BANDWIDTH, LIMIT_S, policy=policy, host=BARE, patience_s=20)
        counts = [(one.dirty_pages, one.redirtied_pages, one.active_groups) for one in policy.seen]
        assert counts[1] == (5860, 5860, 12)
    else:
        policy.begin(a_task())
        for number in range(2, 30):
            policy.after(a_pass(number, 1.5 * number, 9000 + number, left_pages=100))
        counts = [(-1, -1, -1)] * 28
    assert rows.rows["number"].tolist() == list(range(2, len(policy.told) + 2))
    names = jit.PASS.names
    assert {row["ceiling_s"] for row in rows.rows} == {1.0 if not knows_pages else LIMIT_S}
    for name in names[:7]:
        assert rows.rows[name].tolist() == [getattr(done, name) for done in policy.told]
    assert rows.rows[list(names[9:])].tolist() == counts


def test_a_hot_guest_is_stopped_where_it_stalls():
    course = migrate(HOT, policy=Compiled(stops_at_a_stall), patience_s=30)
    assert course.converged
    stalled = course.passes[-2]
    assert stalled.pending_pages >= course.passes[-3].pending_pages
    assert course.passes[-1].at_s == stalled.at_s
    assert migrate(idle(PAGES, 10), policy=Compiled(stops_at_a_stall)).converged


def test_an_object_steers_one_migration_and_the_compiled_policy_many():
    first, second = (
        migrate(HOT, policy=Compiled(stops_at_a_stall), patience_s=30) for _ in range(2)
    )
    assert first == second


def test_numba_is_not_imported_with_it():
    program = (
        "from mempattern.migration.policies import Compiled; import sys; "
        "print('numba' in sys.modules)"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "False"


def test_it_knows_the_ceiling_and_the_size_of_the_vm():
    @jit.policy
    def by_ceiling(passes):
        return passes[-1]["ceiling_s"] / 2 + passes[-1]["ram_bytes"] / 2**40

    policy = Compiled(by_ceiling)
    policy.begin(a_task(ram_bytes=1 << 31, ceiling_s=0.4))
    assert policy.after(a_pass(2, 1.0, 9000)).downtime_limit_s == 0.2 + 2**-9
