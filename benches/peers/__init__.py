"""The library's peers, one module each; work.py says what they have in common.

All of them run in one thread. Sets and arrays are made of the bitmaps beforehand, which is not
timed and is in the peers' favour, as KVM gives bitmaps. What a peer cannot do it has no function
for, and is left out there:

- pyroaring, CRoaring and bitarray have no counts by group: windows by group and the whole update
  are NumPy's, Numba's and C's. Their counts by group are asked for group by group.
- CRoaring in Debian's version cannot shift a set, and so cannot count runs; it writes and reads the
  same files as pyroaring, which has the work on traces.
- Numba and plain C leave files to other libraries.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from peers.work import Case, Run

OURS, LIMIT = "ours", "limit"
MODULES = {
    OURS: "peers.ours",
    "NumPy": "peers.with_numpy",
    "Numba": "peers.with_numba",
    "bitarray": "peers.with_bitarray",
    "pyroaring": "peers.with_pyroaring",
    "plain C": "peers.plain_c",
    "CRoaring": "peers.croaring",
    LIMIT: "peers.limits",
}
PYTHON = ("NumPy", "Numba", "bitarray", "pyroaring")
"""Those of Python's world."""


@functools.cache
def module_of(name: str) -> ModuleType | str:
    """The peer, or why it is not here."""
    try:
        return importlib.import_module(MODULES[name])
    except ImportError as error:
        return str(error)


def missing() -> dict[str, str]:
    """Peers that are not here, and why."""
    return {name: why for name in MODULES if isinstance(why := module_of(name), str)}


def doing(work: str) -> Iterator[tuple[str, Callable[[Case], Run]]]:
    """Each that is here and can do the work, by name, with the function that prepares it."""
    for name in MODULES:
        module = module_of(name)
        if isinstance(module, ModuleType) and hasattr(module, work):
            yield name, getattr(module, work)


def same(found: Any, wanted: Any) -> bool:
    """Whether two found the same, fractions up to rounding; functions are asked first."""
    found, wanted = (value() if callable(value) else value for value in (found, wanted))
    is_list = isinstance(found, tuple | list)
    if is_list and not all(isinstance(one, int | float) for one in found):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    found, wanted = np.asarray(found), np.asarray(wanted)
    if found.dtype.kind in "biu" and wanted.dtype.kind in "biu":
        return np.array_equal(found, wanted)
    return found.shape == wanted.shape and np.allclose(found, wanted, rtol=1e-9, atol=1e-6)
