"""A connection to libvirt: calls that block, and events for asyncio."""

from __future__ import annotations

import asyncio
import functools
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from types import ModuleType
from typing import Any

from mempattern.errors import LibvirtError, MissingPackageError

_ASK_S, _ASKS = 5, 4
"""A libvirt that answers none of so many questions in a row, so far apart, counts as gone."""


class Connection:
    """To the libvirt at `uri`, as `virsh --connect` takes it; None: to the one virsh would choose.

    Its methods block, and any thread may call them. Raises `LibvirtError` if nobody answers there,
    `MissingPackageError` without libvirt-python.
    """

    def __init__(self, uri: str | None) -> None:
        self._libvirt = library()
        _run_events()
        try:
            self._handle = self._libvirt.open(uri)
        except self._libvirt.libvirtError as error:
            raise LibvirtError(
                f"{_sentence(error, uri)}. Is libvirtd (or virtqemud) running, and may you use it? "
                f"Give its URI with --connect"
            ) from error
        self.uri: str = str(self._handle.getURI())
        self._watched: list[int] = []
        with suppress(self._libvirt.libvirtError):  # a driver without a daemon needs none
            self._handle.setKeepAlive(_ASK_S, _ASKS)

    def ask(self, function: str, *arguments: Any, of: Any = None) -> Any:
        """What the call returns; of a domain, or of the connection. Raises `LibvirtError`."""
        try:
            return getattr(of or self._handle, function)(*arguments)
        except self._libvirt.libvirtError as error:
            raise LibvirtError(_sentence(error, self.uri)) from error

    def watch(
        self, domain: Any, events: dict[str, Callable[..., None]], loop: asyncio.AbstractEventLoop
    ) -> None:
        """From now on each event (`VIR_DOMAIN_EVENT_ID_` and the name) is told in that loop, with
        its arguments. Raises `LibvirtError`."""
        for name, told in events.items():

            def tell(_c: Any, _d: Any, *said: Any, told: Callable[..., None] = told) -> None:
                with suppress(RuntimeError):  # the loop is closed: nobody listens any more
                    loop.call_soon_threadsafe(told, *said[:-1])

            number = getattr(self._libvirt, f"VIR_DOMAIN_EVENT_ID_{name}")
            self._watched.append(self.ask("domainEventRegisterAny", domain, number, tell, None))

    def close(self) -> None:
        """Hang up."""
        with suppress(LibvirtError):  # it is gone
            for number in self._watched:
                self.ask("domainEventDeregisterAny", number)
        with suppress(LibvirtError):
            self.ask("close")


def library() -> ModuleType:
    """`libvirt`, imported on use. Raises `MissingPackageError` if it is not installed."""
    is_first = "libvirt" not in sys.modules
    try:
        libvirt = import_module("libvirt")  # an extra, imported on use
    except ImportError as error:
        raise MissingPackageError(
            "talking to libvirt needs the package libvirt-python: pip install 'mempattern[libvirt]'"
        ) from error
    if is_first:  # else it prints each error to stderr, too; whoever imported it may want that
        libvirt.registerErrorHandler(_ignore, None)
    return libvirt


def _ignore(_context: object, _error: object) -> None:
    pass


def binding_folder() -> str:
    """Where it is, for a Python that looks nowhere by itself."""
    return os.path.dirname(str(library().__file__))


@functools.cache
def _run_events() -> None:
    """libvirt wants its event loop before the first connection; it keeps one that is there."""
    libvirt = library()
    libvirt.virEventRegisterDefaultImpl()

    def run() -> None:
        with suppress(libvirt.libvirtError):
            while True:
                libvirt.virEventRunDefaultImpl()

    threading.Thread(target=run, name="mempattern-libvirt", daemon=True).start()


def _sentence(error: Exception, uri: str | None) -> str:
    said = " ".join(str(error).split())
    return f"libvirt at {uri}: {said}" if uri else f"libvirt: {said}"
