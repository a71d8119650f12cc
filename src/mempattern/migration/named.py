"""Policies by their names: those of the library, and one's own in a file or a module."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from mempattern.errors import MissingPackageError, UsageError
from mempattern.migration.policies.base import Policy
from mempattern.migration.registry import POLICIES

Maker = Callable[[], Policy] | None
"""Of a policy; None stands for the oracle."""
ALL = "all"
"""Stands for every policy of the library."""


def named_policies(names: Sequence[str]) -> dict[str, Maker]:
    """What makes each of them, by name. "FILE.py:NAME" and "module:NAME" are a class of one's own
    that derives from `Policy` and is made without arguments, or a function that was compiled by
    `mempattern.jit.policy`; it goes by NAME. Names that are given twice count once.

    Raises `UsageError` for an unknown name, for a file or a module that does not load, for a NAME
    that is none of its policies or another policy's name, and for one that cannot be made.
    """
    found: dict[str, Maker] = {}
    origins: dict[str, str] = {}
    for name in names:
        if name == ALL:
            more: dict[str, Maker] = dict(POLICIES)
        elif ":" in name:
            more = {name.rpartition(":")[2]: _own(name)}
        elif name in POLICIES:
            more = {name: POLICIES[name]}
        else:
            raise UsageError(
                f"there is no policy {name!r}; there are {', '.join(POLICIES)}, {ALL} for all of "
                f"them, and one's own as in FILE.py:NAME or module:NAME"
            )
        for key in more:
            origin = name if ":" in name else ""
            if origins.setdefault(key, origin) != origin or (origin and key in POLICIES):
                raise UsageError(f"{name!r} has the name of another policy; call it otherwise")
        found |= more
    return found


def _own(name: str) -> Callable[[], Policy]:
    place, _, attribute = name.rpartition(":")
    module = _load_file(Path(place)) if place.endswith(".py") else _load_module(place)
    policy = getattr(module, attribute, None)
    if policy is None:
        there = [key for key, value in vars(module).items() if _is_policy(value, module)]
        raise UsageError(
            f"{place} has no {attribute!r}; its policies are: {', '.join(there) or 'none'}"
        )
    make = _maker(policy)
    if make is None:
        raise UsageError(
            f"{attribute!r} of {place} is no policy: neither a class that derives from "
            f"mempattern.migration.Policy nor a function compiled by mempattern.jit.policy"
        )
    try:
        make()
    except Exception as error:
        raise UsageError(
            f"{attribute!r} of {place} cannot be made without arguments: {error_text(error)}"
        ) from None
    return make


def _load_file(path: Path) -> ModuleType:
    """A module of its own, which nothing else can be confused with."""
    name = f"_mempattern_policies_{abs(hash(path.absolute())):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UsageError(f"there is no file {path} to take a policy from")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for it
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UsageError(f"{path} does not load: {error_text(error, path)}") from None
    return module


def _load_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise UsageError(f"the module {name!r} does not load: {error_text(error)}") from None


def _maker(policy: Any) -> Callable[[], Policy] | None:
    if inspect.isclass(policy) and issubclass(policy, Policy):
        return policy
    if type(policy).__module__ == "mempattern.jit.policies":
        compiled = importlib.import_module("mempattern.migration.policies.compiled")
        return partial(compiled.Compiled, policy)
    return None


def _is_policy(value: Any, module: ModuleType) -> bool:
    is_class = inspect.isclass(value) and value.__module__ == module.__name__
    return _maker(value) is not None and (is_class or not inspect.isclass(value))


def error_text(error: BaseException, path: Path | None = None) -> str:
    """Of somebody else's code, in one line, with the last of its lines in that file."""
    if isinstance(error, MissingPackageError):
        return str(error)
    words = " ".join(str(error).split())
    text = f"{type(error).__name__}: {words}" if words else type(error).__name__
    if path is not None and not isinstance(error, SyntaxError):
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        text += f" (line {lines[-1]})" if lines else ""
    return text
