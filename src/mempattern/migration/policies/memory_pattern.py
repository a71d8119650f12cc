"""MP, the algorithm that this library is for, as a policy."""

from __future__ import annotations

from mempattern.classify.mp import MP
from mempattern.errors import UsageError
from mempattern.migration.policies.base import NOTHING, Action, Pass, Policy, Task
from mempattern.stats import GroupStats


class MemoryPattern(Policy):
    """MP (Chao Wei, NCU 2018): judge from the groups of each iteration whether the VM is memory
    intensive, and if it is, enter stop-and-copy early.

    Only the abstract is public; `classify.MP`, our reconstruction, gives the verdict, for the
    link's bandwidth and QEMU's limit. Until it says that the VM is memory intensive, QEMU's limit
    stays as it is. From then on the guest is stopped once what is to be sent takes no longer than
    the ceiling, at the bandwidth measured: at once, or by the limit, which is set to the ceiling.

    Raises `UsageError` where pages are not known.
    """

    def __init__(self) -> None:
        self._mp: MP | None = None
        self._stats: GroupStats | None = None
        self._ceiling_s = 0.0
        self._is_intensive = False

    def begin(self, task: Task) -> Action:
        self._mp = MP(task.bandwidth_Bps, task.downtime_limit_s)
        self._ceiling_s = task.ceiling_s
        return NOTHING

    def after(self, done: Pass) -> Action:
        self._is_intensive = self._is_intensive or self._judge(done)
        if not self._is_intensive:
            return NOTHING
        if done.pending_bytes <= self._ceiling_s * done.bandwidth_Bps:
            return Action(stop=True)
        return Action(downtime_limit_s=self._ceiling_s)

    def _judge(self, done: Pass) -> bool:
        assert self._mp is not None
        iteration = done.found()
        if iteration is None:
            raise UsageError("MP must know which pages are written: replay a trace")
        if self._stats is None:
            self._stats = GroupStats(iteration.regions)
        self._stats.update(iteration)
        verdict = self._mp.observe(self._stats, iteration)
        self.why: str = verdict.sentence
        return verdict.memory_intensive is True
