"""Asks a policy, one question after the other, without holding up anything else."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from mempattern._checks import number_within
from mempattern.interval import Interval
from mempattern.migration.policies.base import Action, Policy, Progress


async def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns, from a thread that nobody waits for at exit: a policy is somebody
    else's code, and may never come back. Raises what it raises."""
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
    if failure is not None:
        raise failure
    return result


class Asking:
    """The questions that wait for a policy, in their order; `act` is given each answer.

    Its argument is the action, what the policy was asked about, and how many seconds ago.
    Whatever the policy or `act` raises ends it, and is given to `failed`.
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
        self._questions: asyncio.Queue[tuple[Callable[..., Any], Any, float]] = asyncio.Queue()
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
                ask, about, asked_s = await self._questions.get()
                answer = await in_thread(ask, about)
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
        self._questions.put_nowait((question, about, time.monotonic()))
