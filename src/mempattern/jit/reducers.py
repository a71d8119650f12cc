"""Numbers of your own for each group, computed from its words in one compiled loop."""

# pyright: reportCallIssue=false
from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt
from numba import types

from mempattern._intervals import lend_all
from mempattern._memory import view
from mempattern._results import busy
from mempattern.errors import UsageError
from mempattern.interval import AnyBitmap, Bitmap, Interval
from mempattern.jit._compile import compile_loop, compile_user, numba_type, part, read_only
from mempattern.regions import GROUP_PAGES, Region, check_group_pages, check_regions, origins

_WORDS = read_only(types.uint64)
_STATELESS = np.zeros(0, np.uint8)  # in the place of states that are not looked at


def group_reducer(
    result: npt.DTypeLike, *, state: npt.DTypeLike | None = None
) -> Callable[[Callable[..., Any]], GroupReducer]:
    """Decorator: compile a function of one group's words into one over all groups of all regions.

    The function is called as `function(words, n_pages)`, or with `state` as
    `function(words, n_pages, state)`, and returns a number, which becomes one of dtype `result`
    as C would convert it. `words` is a read-only uint64 array, the group's part of the bitmap,
    its bits past the region's end zero; `n_pages` is the group's size, less than `group_pages` only
    in a short last one. `state` is a structured dtype, such as `[("mean", "f8")]`, and the
    function's last argument one such record, the group's own: zero before the first interval, and
    kept from each to the next. It is compiled at once, in Numba's nopython mode, to run without the
    GIL and with its indices checked.

    Raises `UsageError` if the function does not compile, takes other arguments, or returns what is
    no number or, for integers, a float; and for a dtype that is not as above.
    """
    result_dtype = _dtype("result", result)
    if result_dtype.kind not in "biu" and result_dtype not in (np.float32, np.float64):
        raise UsageError(
            f"result must be the dtype of integers, bools, float32 or float64, not {result_dtype}"
        )
    state_dtype = None if state is None else _dtype("state", state)
    if state_dtype is not None and state_dtype.names is None:
        raise UsageError(
            f"state must be a structured dtype, not {state_dtype}: "
            f"write [('some_name', '{state_dtype.str}')]"
        )
    return lambda function: GroupReducer(function, result_dtype, state_dtype)


class GroupReducer:
    """A compiled function of a group's words; made by `group_reducer`. Immutable."""

    def __init__(
        self,
        function: Callable[..., Any],
        result: np.dtype[Any],
        state: np.dtype[Any] | None,
    ) -> None:
        self.function = function
        """The Python function."""
        self.result = result
        """dtype of what it gives for each group."""
        self.state = state
        """Structured dtype of what it keeps of each group, or None."""
        out = types.Array(numba_type("result", result), 1, "C")
        arguments = {"words": _WORDS, "n_pages": types.int64}
        if state is not None:
            arguments["state"] = numba_type("state", state)
        reduce, returned = compile_user(function, arguments)
        if isinstance(returned, types.Float) and result.kind != "f":
            raise UsageError(
                f"{function.__name__} returns {returned}, and result is {result}: "
                f"make result a float, or round in the function"
            )
        states = types.Array(arguments.get("state", types.uint8), 1, "C")
        loop = _stateless(reduce) if state is None else _stateful(reduce)
        self.run: Any = compile_loop(loop, _WORDS, types.int64, types.int64, states, out)
        """The compiled loop: of our own `GroupReduction` only, for it checks no sizes."""

    def over(
        self, regions: Iterable[Region], group_pages: SupportsIndex = GROUP_PAGES
    ) -> GroupReduction:
        """What takes intervals of these regions, with a state of its own.

        Raises `RegionError`.
        """
        return GroupReduction(self, regions, group_pages)


class GroupReduction:
    """A reducer over the groups of the given regions, interval by interval.

    Call it with an `Interval`, or a mapping with one bitmap for each region, as
    `GroupStats.update` takes it: it returns a dict from each region's name to a new array of shape
    (n_groups,) and the reducer's `result` dtype. Where the reducer's function raises, so does the
    call, and the groups before have the interval in their state. Raises `BitmapError`,
    `RegionError`.

    One thread at a time; a second one gets `BusyError` and changes nothing.
    """

    def __init__(
        self, reducer: GroupReducer, regions: Iterable[Region], group_pages: SupportsIndex
    ) -> None:
        self.reducer = reducer
        self.group_pages: int = check_group_pages(group_pages)
        """Pages of a group; a region's last one may have fewer."""
        self.regions: tuple[Region, ...] = check_regions(regions)
        """The regions, as last followed."""
        self.state: Mapping[str, npt.NDArray[Any]] = self._new_state(self.regions)
        """Of each region, by its name, the groups' records: an array of shape (n_groups,), which
        may be read and written between intervals. Empty if the reducer keeps none."""
        self._busy = threading.Lock()

    def __call__(self, bitmaps: Interval | Mapping[str, AnyBitmap]) -> dict[str, npt.NDArray[Any]]:
        if not self._busy.acquire(blocking=False):
            raise busy("this GroupReduction")
        try:
            names = frozenset(region.name for region in self.regions)
            _pointers, lent = lend_all(bitmaps, self.regions, names)
            return {
                region.name: self._reduce(region, view(words, words, "<u8", region.n_words))
                for region, words in zip(self.regions, lent, strict=True)
            }
        finally:
            self._busy.release()

    def _reduce(self, region: Region, words: Bitmap) -> npt.NDArray[Any]:
        run, group_pages = self.reducer.run, self.group_pages
        states = self.state.get(region.name, _STATELESS)
        out = np.empty(region.n_groups(group_pages), self.reducer.result)
        if region.n_pages % 64 == 0:
            run(words, region.n_pages, group_pages, states, out)
            return out
        before = out.size - 1  # the groups before the last, whose last word is not all the region's
        pages = before * group_pages
        last = words[pages // 64 :].copy()
        last[-1] &= np.uint64((1 << region.n_pages % 64) - 1)
        last.flags.writeable = False
        run(words[: pages // 64], pages, group_pages, states, out[:before])
        run(last, region.n_pages - pages, group_pages, states[before:], out[before:])
        return out

    def follow(self, regions: Iterable[Region]) -> None:
        """Go on with these regions, as `GroupStats.follow`: groups keep their state wherever they
        lie in their region now, and that of new ones is zero. `state` is new, if anything changed.

        Raises `RegionError`, `BusyError`; nothing changes then.
        """
        checked = check_regions(regions)
        if checked == self.regions:
            return
        if not self._busy.acquire(blocking=False):
            raise busy("this GroupReduction")
        try:
            moved = origins(self.regions, checked, self.group_pages)
            state = self._new_state(checked)
            for region, (number, page) in zip(checked, moved, strict=True):
                if state and number >= 0:
                    old = self.state[region.name]
                    first = page // self.group_pages
                    state[region.name][first : first + old.size] = old
            self.regions, self.state = checked, state
        finally:
            self._busy.release()

    def _new_state(self, regions: tuple[Region, ...]) -> Mapping[str, npt.NDArray[Any]]:
        dtype = self.reducer.state
        if dtype is None:
            return {}
        sizes = {region.name: region.n_groups(self.group_pages) for region in regions}
        # Not to be replaced: an array of another length would be overrun.
        return MappingProxyType({name: np.zeros(size, dtype) for name, size in sizes.items()})


def _stateless(reduce: Any) -> Callable[..., None]:
    """Over `out.size` groups of `n_pages` pages in all.

    The last one, which may be short, comes apart: with a length that all others share, counting was
    up to 1.7 times as fast.
    """

    def loop(words: Bitmap, n_pages: int, group_pages: int, _states: Any, out: Any) -> None:
        n_words, last = group_pages // 64, out.size - 1
        for g in range(last):
            out[g] = reduce(part(words, g * n_words, n_words), group_pages)
        if last >= 0:
            rest = part(words, last * n_words, words.size - last * n_words)
            out[last] = reduce(rest, n_pages - last * group_pages)

    return loop


def _stateful(reduce: Any) -> Callable[..., None]:
    """The same, with each group's state."""

    def loop(words: Bitmap, n_pages: int, group_pages: int, states: Any, out: Any) -> None:
        n_words, last = group_pages // 64, out.size - 1
        for g in range(last):
            out[g] = reduce(part(words, g * n_words, n_words), group_pages, states[g])
        if last >= 0:
            rest = part(words, last * n_words, words.size - last * n_words)
            out[last] = reduce(rest, n_pages - last * group_pages, states[last])

    return loop


def _dtype(name: str, value: npt.DTypeLike) -> np.dtype[Any]:
    try:
        return np.dtype(value)
    except TypeError as error:
        raise UsageError(f"{name} must be a dtype, not {value!r}: {error}") from None
