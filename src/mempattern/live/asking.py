"""Asks a policy, one question after the other, without holding up anything else."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from mempattern._checks import number_within
from mempattern.interval import Interval
from mempattern.live.tracer import merged
from mempattern.migration.policies.base import Action, Policy, Progress

_ANSWER_S = 30.0
"""On which a policy is given up: QEMU goes by its last action all the while."""
_MOST_WAITING = 64
"""Each may hold a bitmap of all memory."""


async def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns, from a thread that nobody waits for at exit: a policy is somebody
    else's code, and may never come back. Raises what it raises; its `CancelledError`, which would
    cancel us, as a `RuntimeError`."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()

    def give(result: Any, error: BaseException | None) -> None:
        if not answer.done():
            answer.set_result((result, error))

    def run() -> None:
        result, failure = None, None
        try:
            result = function(*arguments)
        except BaseException as error:
            failure = error
        with suppress(RuntimeError):  # the loop is closed: nobody asks any more
            loop.call_soon_threadsafe(give, result, failure)

    threading.Thread(target=run, name="mempattern-policy", daemon=True).start()
    result, failure = await answer
    if isinstance(failure, asyncio.CancelledError):
        raise RuntimeError("asyncio.CancelledError") from failure
    if failure is not None:
        raise failure
    return result


class Asking:
    """The questions that wait for a policy, in their order; `act` is given each answer.

    Its argument is the action, what the policy was asked about, and how many seconds ago.
    Whatever the policy or `act` raises ends it, and is given to `failed`; so is a `TimeoutError`
    for an answer that takes longer than 30 s. Where many questions wait for a slow policy, a new
    one is put together with the last of its kind.
    Raises `UsageError` for a `poll_s` that is no number of seconds.
    """

    def __init__(
        self,
        policy: Policy,
        act: Callable[[Action, Progress, float], Awaitable[None]],
        failed: Callable[[BaseException], Awaitable[None]],
    ) -> None:
        self._policy, self._act, self._failed = policy, act, failed
        number_within("a policy's poll_s", policy.poll_s, 0, math.inf, "seconds")
        self._is_watched = type(policy).watch is not Policy.watch
        self._questions: deque[tuple[Callable[..., Any], Any, float]] = deque()
        self._is_asked = asyncio.Event()
        self._polled_s = 0.0
        self._is_polling = False

    def watch(self, interval: Interval) -> None:
        if self._is_watched:
            self._ask(self._policy.watch, interval)

    def after(self, done: Progress) -> None:
        self._ask(self._policy.after, done)

    def poll(self, now: Progress) -> None:
        """If it is time to, and the last one was answered."""
        if not self._is_polling and now.at_s >= self._polled_s + self._policy.poll_s:
            self._polled_s, self._is_polling = now.at_s, True
            self._ask(self._policy.poll, now)

    async def run(self) -> None:
        """For ever; to be cancelled."""
        try:
            while True:
                await self._is_asked.wait()
                ask, about, asked_s = self._questions.popleft()
                if not self._questions:
                    self._is_asked.clear()
                answer = await _in_time(ask, about)
                if isinstance(about, Interval):
                    continue
                if ask == self._policy.poll:
                    self._is_polling = False
                await self._act(answer, about, time.monotonic() - asked_s)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            await self._failed(error)

    def _ask(self, question: Callable[..., Any], about: Any) -> None:
        if len(self._questions) >= _MOST_WAITING:
            last = next((one for one in reversed(self._questions) if one[0] == question), None)
            if last is not None:
                self._questions.remove(last)
                about = _together(last[1], about)
        self._questions.append((question, about, time.monotonic()))
        self._is_asked.set()


async def _in_time(ask: Callable[..., Any], about: Any) -> Any:
    deadline = asyncio.timeout(_ANSWER_S)
    try:
        async with deadline:
            return await in_thread(ask, about)
    except TimeoutError:  # or the policy's own
        if not deadline.expired():
            raise
        raise TimeoutError(f"it has not answered within {_ANSWER_S:g} s") from None


def _together(before: Any, last: Any) -> Any:
    """Two successive intervals, or passes, as one."""
    if isinstance(last, Interval):
        return merged(before, last)
    earlier, found = before.found(), last.found()
    if earlier is not None and found is not None:
        found = merged(earlier, found)
    return replace(last, found=lambda: found)
