"""What was read as JSON, before it is used: anybody may have written it."""

from __future__ import annotations

from typing import TypeGuard


def is_object(said: object) -> TypeGuard[dict[str, object]]:
    """JSON has no other names than strings."""
    return isinstance(said, dict)


def is_list(said: object) -> TypeGuard[list[object]]:
    return isinstance(said, list)
