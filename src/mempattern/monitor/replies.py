"""Answers of QEMU's as what they should be: whoever serves the socket may say anything."""

from __future__ import annotations

from typing import Any

from mempattern._json import is_list, is_object
from mempattern.errors import QMPError


def as_object(command: str, said: object) -> dict[str, object]:
    """Raises `QMPError` if it is none."""
    if not is_object(said):
        raise QMPError(f"QEMU answered {command} with {type(said).__name__}, not with an object")
    return said


def capabilities_of(said: object) -> dict[str, bool]:
    """The answer to query-migrate-capabilities, by name. Raises `QMPError`."""
    if not is_list(said):
        raise QMPError("QEMU answered query-migrate-capabilities with no list")
    states: dict[str, bool] = {}
    for one in said:
        name, state = (one.get("capability"), one.get("state")) if is_object(one) else (0, 0)
        if not isinstance(name, str) or not isinstance(state, bool):
            raise QMPError(f"QEMU lists {one!r:.100} among its migration capabilities")
        states[name] = state
    return states


def parameters_of(said: object) -> dict[str, Any]:
    """The answer to query-migrate-parameters, with the numbers that we need. Raises `QMPError`."""
    parameters = as_object("query-migrate-parameters", said)
    for name in ("downtime-limit", "max-bandwidth"):
        number(parameters, name, "query-migrate-parameters")
    return parameters


def number(said: dict[str, object], name: str, command: str, default: int | None = None) -> float:
    """A finite number, not negative, of an answer. Raises `QMPError`."""
    value = said.get(name, default)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**64:
        return value
    raise QMPError(f"QEMU answered {command} with the {name} {value!r:.50}")
