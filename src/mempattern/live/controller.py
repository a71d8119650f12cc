"""Steers a live migration of an unpatched QEMU by a policy."""

from __future__ import annotations

import asyncio
import math
import os
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import Any, get_args

from mempattern._checks import number_within, positive_seconds
from mempattern.errors import EndedError, LostError, MonitorError, UsageError
from mempattern.interval import Interval
from mempattern.live.asking import Asking, in_thread
from mempattern.live.decisions import Audience, Decision, Listener, Passed, Result
from mempattern.live.figures import PRECOPY, UNDER_WAY, Figures
from mempattern.live.migrator import Guest, Migrator, OnNonconvergence
from mempattern.live.observing import observe
from mempattern.live.over_libvirt import Domain
from mempattern.live.over_qmp import QMPSocket
from mempattern.live.steering import NO_DEFERRAL, Steering, highest_limit_s
from mempattern.migration.policies.base import NOTHING, Action, Pass, Policy, Progress, Task
from mempattern.migration.policies.deferral import HotPages
from mempattern.migration.policies.qemu import AutoConverge
from mempattern.trace.blobs import count_dirty

_MOST_BPS = 2.0**63
"""QEMU's `max-bandwidth` is a whole number of so many bits; 0 is "unlimited"."""
_LOOK_S = 0.05
_SILENCE_S = 120.0
"""QEMU answers nobody in the pause; what it may take, and so much more."""
_FIGURES_S = 2.0
"""The status "completed" comes before the times do, which are 0 until then."""
_PUT_BACK_S = 2.0
_GOES_ON = (
    "the migration was under way, and goes on by QEMU's own rules with the settings of before"
)
_IS_LOST = "the migration was under way, so that the guest is lost unless it had arrived"
_LEAST_S, _FULL_SENDS = 60.0, 10
"""Patience: so many times what sending all memory takes, but not less."""


class MigrationController:
    """One migration of a guest, steered by the policy.

    The guest is that of the QEMU behind a QMP socket, or a `Domain` of libvirt's. It goes to `uri`,
    as QEMU's `migrate` takes it; without one, a migration that somebody else has started is steered
    to its end, and that is all that can be done to a `Domain`. Before that the guest is traced for
    `observe_s` seconds, so that the policy may know it from the first pass on.

    No downtime limit is set that would let the guest stand still for longer than `max_downtime_s`.
    `bandwidth_Bps` is what the migration may send; QEMU's `max-bandwidth` is set to it (not to that
    of a migration under way), and by default it is what QEMU has there. A migration that has not
    ended after `patience_s`, by default ten times what sending all memory takes and at least a
    minute, is dealt with as `on_nonconvergence` says. `output` is where a trace of it all goes.
    `listener` is told what happens. Without `traces` nobody looks at the guest's pages.

    Whatever happens here, QEMU goes on by its own rules, with the parameters it had before.
    Raises `UsageError` for numbers that make no sense.
    """

    def __init__(
        self,
        guest: str | os.PathLike[str] | Domain,
        uri: str | None,
        policy: Policy,
        *,
        max_downtime_s: float,
        bandwidth_Bps: float | None = None,
        observe_s: float = 0.0,
        on_nonconvergence: OnNonconvergence = "continue",
        patience_s: float | None = None,
        traces: bool = True,
        output: str | os.PathLike[str] | None = None,
        force: bool = False,
        listener: Listener | None = None,
    ) -> None:
        if isinstance(policy, HotPages):
            raise UsageError(NO_DEFERRAL)
        self._guest: Guest
        if isinstance(guest, Domain):
            if uri is not None:
                raise UsageError(
                    "a domain's migration is started by libvirt (virsh migrate --live): attach to "
                    "it, without a destination"
                )
            self._guest = guest
        else:
            self._guest = QMPSocket(guest)
        if uri is not None and not uri.strip():
            raise UsageError("the destination is empty: name one, as in tcp:10.0.0.2:4444")
        self._uri = uri
        self._ceiling_s = positive_seconds("max_downtime_s", max_downtime_s)
        if bandwidth_Bps is not None:
            number_within("bandwidth_Bps", bandwidth_Bps, 1, _MOST_BPS, "bytes/s")
        self._bandwidth_Bps = bandwidth_Bps
        if patience_s is not None:
            positive_seconds("patience_s", patience_s)
        self._patience_s = patience_s
        if on_nonconvergence not in get_args(OnNonconvergence):
            raise UsageError(
                f"on_nonconvergence must be one of {', '.join(get_args(OnNonconvergence))}, not "
                f"{on_nonconvergence!r}"
            )
        self._on_nonconvergence: OnNonconvergence = on_nonconvergence
        self._observe_s = number_within("observe_s", observe_s, 0, math.inf, "seconds")
        self._traces = traces
        self._output, self._force = output, force
        self._listener = Audience(listener or Listener())
        # QEMU's own is what that policy imitates.
        self._auto_converges = isinstance(policy, AutoConverge)
        self._policy = Policy() if self._auto_converges else policy
        self._asking = Asking(self._policy, self._answered, self._policy_failed)
        self._cancelled = asyncio.Event()
        self._decisions: list[Decision] = []
        self._passes: list[Passed] = []
        self._failure: str | None = None
        self._is_told = False
        self._now = Figures("none")
        self._is_started = uri is None

    @property
    def figures(self) -> Figures:
        """QEMU's last ones; the status is "none" before there were any."""
        return self._now

    @property
    def is_under_way(self) -> bool:
        """The migration was started, and has not ended, as far as is known."""
        return self._is_started and not self._now.is_over

    def cancel(self) -> None:
        """Ask for the migration's end; the guest goes on where it is. `run` returns then."""
        self._cancelled.set()

    async def run(self) -> Result:
        """To the migration's end, however that is: `Result.completed` says.

        If it is cancelled as a task is, the migration goes on without it. Raises `MonitorError`
        (`QMPError`, `LibvirtError`) if who runs the guest does not answer or refuses to start,
        `LostError`, which is one, if it is lost while the migration is under way,
        `UsageError` for one that cannot be started or steered, `ProcessError` where its memory
        cannot be traced, `TraceError` for the output.
        """
        async with AsyncExitStack() as stack:
            async with self._guest.open() as migrator:  # before anything is traced
                facts = migrator.facts
                await self._check(migrator)
            seen = await observe(
                stack, self._guest, self._observe_s if self._traces else None,
                output=self._output, force=self._force, facts=facts, saw=self._saw,
                said=self._listener.said,
            )  # fmt: skip
            migrator = await stack.enter_async_context(self._guest.open())
            await self._check(migrator)
            self._migrator, self._seen, self._tracer = migrator, seen, seen.tracer
            self._steering = Steering(migrator, self._ceiling_s)
            try:
                await self._migrate(stack)
            except MonitorError as error:
                if not self.is_under_way:
                    raise
                then = _IS_LOST if isinstance(error, EndedError) else _GOES_ON
                raise LostError(f"{error}; {then}") from error
            finally:
                await self._put_back()
            result = Result(
                self._now, self._ceiling_s, tuple(self._decisions), tuple(self._passes),
                self._failure,
            )  # fmt: skip
            result = replace(result, trace_failure=seen.keep(result))
            self._listener.ended(result)
            return result

    async def _check(self, migrator: Migrator) -> None:
        starts = self._uri is not None
        now = await migrator.check(
            starts=starts, traces=self._traces, on_nonconvergence=self._on_nonconvergence
        )
        highest_limit_s(self._ceiling_s, migrator.handover_s)  # or it is too low for any
        self._now = Figures("none") if starts else now  # it may be of a migration before

    # ---- the migration ---------------------------------------------------------------------------

    async def _migrate(self, stack: AsyncExitStack) -> None:
        task = await self._prepare()
        action = await self._begin(task)
        tasks = [asyncio.create_task(self._tracer.run())]
        stack.callback(lambda: [task.cancel() for task in tasks])
        if action.give_up and self._uri is not None:
            self._now = replace(self._now, status="not started")
            return
        if self._uri is not None:
            self._listener.said("migrating")
            await self._tracer.iteration()  # the first one begins here
            await self._start(self._uri)
        tasks.append(asyncio.create_task(self._asking.run()))
        await self._follow(task)

    async def _start(self, uri: str) -> None:
        self._is_started = True
        try:
            await self._migrator.start(uri)
        except MonitorError:  # it refused, or was lost, and may have begun
            self._is_started = (await self._figures()).status in UNDER_WAY
            raise

    async def _figures(self) -> Figures:
        longest_s = self._ceiling_s + _SILENCE_S
        try:
            return await asyncio.wait_for(self._migrator.figures(), longest_s)
        except TimeoutError as error:
            raise MonitorError(
                f"QEMU has not said for {longest_s:g} s where the migration stands, as it does in "
                f"a pause that is longer than was allowed, or when it hangs"
            ) from error

    async def _prepare(self) -> Task:
        """Set what is taken only before a migration; what is known before it."""
        if self._uri is not None:
            await self._migrator.prepare(
                on_nonconvergence=self._on_nonconvergence, auto_converges=self._auto_converges,
                bandwidth_Bps=self._bandwidth_Bps,
            )  # fmt: skip
        limit_s = self._steering.limit_s
        highest_s = highest_limit_s(self._ceiling_s, self._migrator.handover_s)
        if limit_s > highest_s:
            did = await self._steering.do(Action(downtime_limit_s=highest_s))
            why = "QEMU's own limit is above what the ceiling allows"
            self._decide(did, why, self._progress(), limit_s)
        n_pages = self._seen.n_pages or await self._migrator.ram_bytes() // 4096
        bandwidth_Bps = self._bandwidth_Bps or self._now.bandwidth_Bps
        bandwidth_Bps = bandwidth_Bps or self._migrator.bandwidth_Bps
        if not bandwidth_Bps:
            raise UsageError(
                "QEMU's max-bandwidth is unlimited: say what the link carries (--bandwidth)"
            )
        ram_s = n_pages * self._seen.page_bytes / bandwidth_Bps
        self._patience_s = self._patience_s or max(_LEAST_S, _FULL_SENDS * ram_s)
        return Task(
            n_pages, self._seen.page_bytes, bandwidth_Bps, self._steering.limit_s,
            highest_s, self._patience_s, self._seen.zero_pages, self._seen.recording,
        )  # fmt: skip

    async def _begin(self, task: Task) -> Action:
        """What the policy does before the first page; one that fails here fails the start."""
        if task.observed is not None and self._seen.intervals:
            self._listener.said("playing the migration out")
        try:
            action: Action = await in_thread(self._policy.begin, task)
        except BaseException as error:
            ours = asyncio.current_task()
            if ours is not None and ours.cancelling():  # the policy did not raise it
                raise
            raise UsageError(f"the policy failed before the start: {_words(error)}") from error
        if not isinstance(action, Action) or not action.give_up or self.is_under_way:
            limit_s = self._steering.limit_s
            did = await self._steering.do(action)
            self._decide(did, self._why(), self._progress(), limit_s)
        return action

    async def _follow(self, task: Task) -> None:
        """Until it is over."""
        is_late = is_cancelled = False
        before = self._now
        while True:
            await self._migrator.next_event(_LOOK_S)
            asked_ns = time.monotonic_ns()  # the answer may come after the pause
            now = await self._figures()
            if now.status in ("failed", "cancelled"):  # QEMU has forgotten the rest by then
                now = replace(self._now, status=now.status, error=now.error)
            self._now = now
            self._listener.looked(now)
            if now.is_over:  # and perhaps QEMU has ended, too, so that nothing is seen of it
                break
            self._tell_failure()
            if self._cancelled.is_set() and not is_cancelled and now.status in PRECOPY:
                is_cancelled = True
                await self._migrator.cancel()
                self._decide(["cancel"], "asked for", self._progress())
            if now.status != "active" or is_cancelled:
                continue
            if now.number > max(before.number, 1):
                await self._pass(now, before, asked_ns)
            elif self._failure is None:
                await self._poll()
            before = now
            if now.at_s > task.patience_s and not is_late:
                is_late = True
                await self._give_up_hope()
        await self._last_figures()

    async def _pass(self, now: Figures, before: Figures, asked_ns: int) -> None:
        iteration = await self._tracer.iteration()
        n_pages = None
        if iteration is not None:
            bitmaps = iteration.bitmaps
            n_pages = sum(count_dirty(bitmaps[r.name], r) for r in iteration.regions)
        done = Passed(asked_ns, now, self._steering.limit_s, n_pages)
        self._passes.append(done)
        self._listener.passed(done, iteration)
        if self._failure is None and now.remaining_bytes:  # else it was the last, in the pause
            sent = now.sent_bytes - before.sent_bytes
            left = max(before.remaining_bytes - sent, 0) / now.page_bytes
            standing = self._standing(now)
            self._asking.after(Pass(left_pages=left, found=lambda: iteration, **standing))

    async def _give_up_hope(self) -> None:
        actions = {
            "postcopy": Action(postcopy=True),
            "throttle": Action(throttle=0.99, downtime_limit_s=self._ceiling_s),
            "cancel": Action(give_up=True),
        }
        action = actions.get(self._on_nonconvergence, NOTHING)
        try:
            did = await self._steering.do(action)
        except (UsageError, MonitorError) as error:
            did = [f"nothing: {error}"]
        why = f"it has not ended within {self._patience_s:g} s"
        self._decide(did or ["nothing"], why, self._progress())

    async def _last_figures(self) -> None:
        deadline = time.monotonic() + _FIGURES_S
        while self._now.status == "completed" and not self._now.at_s:
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(_LOOK_S)
            try:
                self._now = await self._figures()
            except MonitorError:  # the guest has moved, and its QEMU here has ended
                break
        await self._tracer.collect()
        self._listener.looked(self._now)

    async def _put_back(self) -> None:
        """What cannot be done here is left to the guard."""
        is_over = self._now.status not in UNDER_WAY
        work = asyncio.create_task(self._migrator.put_back(is_over=is_over))
        work.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            await asyncio.wait([work], timeout=_PUT_BACK_S)
        finally:
            work.cancel()

    # ---- the policy ------------------------------------------------------------------------------

    async def _poll(self) -> None:
        try:
            self._asking.poll(self._progress())
        except Exception as error:  # `poll_s` is the policy's, and may change
            await self._policy_failed(error)

    async def _answered(self, action: Action, about: Progress, late_s: float) -> None:
        if self._now.status != "active" or self._failure is not None:
            return
        limit_s = self._steering.limit_s
        try:
            did = await self._steering.do(action)
        except MonitorError as error:  # perhaps it has ended meanwhile, and QEMU refuses
            self._listener.said(str(error))
            return
        self._decide(did, self._why(), about, limit_s, late_s)

    async def _policy_failed(self, error: BaseException) -> None:
        """QEMU goes on by itself, as it would have without a policy."""
        self._failure = f"the policy failed: {_words(error)}"
        self._listener.said(self._failure)
        with suppress(MonitorError):
            await self._steering.undo()

    def _why(self) -> str:
        try:
            return str(self._policy.why)
        except Exception as error:  # it is somebody else's code, as all of a policy
            return f"(the policy cannot say why: {_words(error)})"

    def _tell_failure(self) -> None:
        if self._tracer.failure is not None and not self._is_told:
            self._is_told = True
            self._listener.said(self._tracer.failure)

    def _decide(
        self, did: list[str], why: str, about: Progress, limit_s: float | None = None,
        late_s: float = 0.0,
    ) -> None:  # fmt: skip
        if not did:
            return
        now_s = self._steering.limit_s
        decision = Decision(
            about.at_s, about.number, "; ".join(did), why, about.pending_bytes,
            about.bandwidth_Bps, about.limit_s if limit_s is None else limit_s, self._ceiling_s,
            now_s, late_s,
        )  # fmt: skip
        self._decisions.append(decision)
        self._listener.decided(decision)

    def _progress(self) -> Progress:
        return Progress(**self._standing(self._now))

    def _standing(self, now: Figures) -> dict[str, Any]:
        """The fields of a `Progress`."""
        return {
            "number": now.number,
            "at_s": now.at_s,
            "sent_bytes": now.sent_bytes,
            "pending_pages": now.remaining_bytes / now.page_bytes,
            "page_bytes": now.page_bytes,
            "bandwidth_Bps": now.bandwidth_Bps,
            "limit_s": self._steering.limit_s,
        }

    def _saw(self, interval: Interval) -> None:
        if self._now.status == "active" and self._failure is None:
            self._asking.watch(interval)
        self._listener.saw(interval)


def _words(error: BaseException) -> str:
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
