"""When things are closed: by `with`, and in children that fork(2) made."""

from __future__ import annotations

import os
import socket
from abc import ABC, abstractmethod
from types import TracebackType
from typing import IO, Self
from weakref import WeakSet

_not_for_children: WeakSet[socket.socket | IO[str]] = WeakSet()


class Closing(ABC):
    """`with` closes it, whatever happened."""

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def close_in_children(end: socket.socket | IO[str]) -> None:
    """Close it in every child that is forked, so that it ends when this process does, however.

    A forked child (multiprocessing's, say) has all descriptors; close-on-exec is too late for one
    that executes nothing.
    """
    _not_for_children.add(end)


def _close_all() -> None:
    for end in list(_not_for_children):
        end.close()


os.register_at_fork(after_in_child=_close_all)
