"""Policies of your own: after each pass of a pre-copy migration, which downtime to allow."""

# pyright: reportCallIssue=false
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types

from mempattern.errors import UsageError
from mempattern.jit._compile import compile_loop, compile_user, numba_type, part, read_only

PASS = np.dtype(
    [
        ("number", "i8"),
        ("at_s", "f8"),
        ("sent_bytes", "f8"),
        ("pending_bytes", "f8"),
        ("fresh_pages", "f8"),
        ("bandwidth_Bps", "f8"),
        ("limit_s", "f8"),
        ("ceiling_s", "f8"),
        ("ram_bytes", "f8"),
        ("dirty_pages", "i8"),
        ("redirtied_pages", "i8"),
        ("active_groups", "i8"),
    ]
)
"""A sync of a pre-copy migration, which ends a pass. The fields up to `limit_s` are those of
`mempattern.migration.policies.Pass`: `number` is QEMU's `dirty-sync-count`, of which 1 begins the
bulk copy and 2 ends it; `at_s` is since the migration's start; `sent_bytes` is all that was sent
until then, `pending_bytes` what is to be sent now, with the `fresh_pages` that the sync added;
`bandwidth_Bps` is as measured, and `limit_s` the downtime limit in force. `ceiling_s` is the
longest downtime allowed, and `ram_bytes` the size of RAM: the same in all passes. `dirty_pages`,
`redirtied_pages` and `active_groups` are of the pages found written since the sync before, as
`GroupStats` counts them; -1 where pages are not known."""

_PASSES = read_only(numba_type("PASS", PASS))


def policy(function: Callable[..., Any]) -> Policy:
    """Decorator: compile a policy.

    The function is called as `function(passes)` with an array of dtype `PASS`: all passes of one
    migration up to now, of which `passes[-1]` has just ended; it must not write to them. It returns
    the downtime limit to set, in seconds: 0 or less leaves the limit as it is, and infinity stops
    the guest now. Like a reducer it is compiled at once, runs without the GIL, and has its indices
    checked.

    Raises `UsageError` if it does not compile, takes other arguments, or returns no number.
    """
    return Policy(function)


class Policy:
    """A compiled policy; made by `policy`. Immutable.

    `function` is the Python function, `compiled` the one that compiled code may call, and `dtype`
    that of its passes.
    """

    dtype = PASS

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.compiled: Any = compile_user(function, {"passes": _PASSES})[0]
        limits_s = types.Array(types.float64, 1, "C")
        self._run = compile_loop(_loop(self.compiled), _PASSES, limits_s)

    def __call__(self, passes: npt.NDArray[np.void]) -> float:
        """The limit in seconds after the last of these passes, all of one migration.

        Raises `UsageError` for an array that is not of dtype `PASS` and shape (n,) with n > 0, and
        if the policy returns what is not a number.
        """
        limit_s = float(self.compiled(_as_passes(passes)))
        self._check(np.array([limit_s]))
        return limit_s

    def run(self, passes: npt.NDArray[np.void]) -> npt.NDArray[np.float64]:
        """The limit in seconds after each of the passes of any number of migrations, one after the
        other: an array of float64, shape (n,). A number that is not above the one before begins a
        migration. No decision changes the passes after it.

        Raises as a call does, and `UsageError` for a number of which the one before is missing.
        """
        given = _as_passes(passes)
        number = given["number"]
        wrong = np.flatnonzero(np.diff(number) > 1)
        if wrong.size:
            at = int(wrong[0])
            raise UsageError(
                f"pass {at + 1} has number {number[at + 1]} after {number[at]}; give all passes of "
                f"each migration in order"
            )
        limits_s = np.empty(given.size, np.float64)
        self._run(given, limits_s)
        self._check(limits_s)
        return limits_s

    def _check(self, limits_s: npt.NDArray[np.float64]) -> None:
        unknown = np.flatnonzero(np.isnan(limits_s))
        if unknown.size:
            raise UsageError(
                f"{self.function.__name__} returned NaN as limit {unknown[0]} of {limits_s.size}; "
                f"return 0 to leave the limit as it is"
            )


def _loop(decide: Any) -> Callable[..., None]:
    def run(passes: npt.NDArray[np.void], limits_s: npt.NDArray[np.float64]) -> None:
        first = 0
        for i in range(limits_s.size):
            if i > 0 and passes[i].number <= passes[i - 1].number:
                first = i
            limits_s[i] = decide(part(passes, first, i - first + 1))

    return run


def _as_passes(passes: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    if not isinstance(passes, np.ndarray) or passes.dtype != PASS or passes.ndim != 1:
        raise UsageError(
            "passes must be an array of dtype mempattern.jit.PASS and one dimension: "
            "write numpy.array([...], PASS)"
        )
    if passes.size == 0:
        raise UsageError("there is no pass to decide after")
    given = np.ascontiguousarray(passes).view(np.ndarray)
    given.flags.writeable = False
    return given
