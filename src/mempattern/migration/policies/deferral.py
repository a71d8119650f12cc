"""Hot pages are not sent before the last round."""

from __future__ import annotations

from dataclasses import replace

from mempattern._checks import whole_number
from mempattern.errors import UsageError
from mempattern.history import DirtyHistory
from mempattern.migration.policies.base import Action, Pass, Policy, Task


class HotPages(Policy):
    """Defer the pages dirty in at least `at_least` of the `of_last` last passes.

    As publicly described: Hu et al. 2011, and FRS (Tseng, NCU 2016), which finds the most often
    referenced pages and does not send them again. How often is often they do not say; the defaults
    are ours.

    A pass ends when what is not deferred takes no longer than QEMU's limit. If all that is then to
    be sent, deferred pages and others, takes no longer than the ceiling at the bandwidth measured,
    the guest is stopped: the last round is as long as the ceiling allows. Else it goes on, and a
    page that cooled down is sent with the others. A hot set above the ceiling does not end.

    Raises `UsageError` for numbers that make no sense, and where pages are not known.
    """

    def __init__(self, *, at_least: int = 2, of_last: int = 3) -> None:
        last = whole_number(of_last, 1, 255)
        if last is None or whole_number(at_least, 1, last) is None:
            raise UsageError(
                f"at_least must be from 1 to of_last, which is at most 255, "
                f"not {at_least!r} of {of_last!r}"
            )
        self._at_least, self._of_last = at_least, of_last
        self._history: DirtyHistory | None = None
        self._ceiling_s = 0.0

    def begin(self, task: Task) -> Action:
        self._ceiling_s = task.ceiling_s
        return Action()

    def after(self, done: Pass) -> Action:
        found = done.found()
        if found is None:
            raise UsageError("HotPages must know which pages are written: replay a trace")
        if self._history is None:
            self._history = DirtyHistory(found.regions, self._of_last)
        self._history.update(found)
        if done.pending_bytes <= self._ceiling_s * done.bandwidth_Bps:
            return Action(stop=True)
        hot = self._history.hot_pages(self._at_least)
        return Action(defer=replace(found, bitmaps=hot))
