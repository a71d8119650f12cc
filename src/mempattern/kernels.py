"""The C core's SIMD kernels: which there are, and which is used."""

from __future__ import annotations

import os

from mempattern._native import ffi, lib
from mempattern.errors import KernelError

ENVIRONMENT_VARIABLE = "MEMPATTERN_KERNEL"


def available() -> tuple[str, ...]:
    """Names of the kernels that this CPU and operating system can run, best first."""
    names: list[str] = []
    while (name := lib.mpat_kernel_available(len(names))) != ffi.NULL:
        names.append(ffi.string(name).decode())
    return tuple(names)


def active() -> str:
    """Name of the kernel in use. Raises `KernelError` if `MEMPATTERN_KERNEL` names none of ours."""
    name = lib.mpat_kernel_active()
    if name == ffi.NULL:
        raise unavailable()
    return str(ffi.string(name).decode())


def use(name: str | None) -> None:
    """Use the named kernel from now on, in every object and thread; None for the default.

    Raises `KernelError` if there is no such kernel or this machine cannot run it.
    """
    if name is not None and name not in available():
        raise unavailable(str(name))
    lib.mpat_kernel_use(ffi.NULL if name is None else name.encode())


def unavailable(wanted: str | None = None) -> KernelError:
    """The error for a kernel that cannot be used; by default, the one the environment names."""
    if wanted is None:
        wanted = f"{ENVIRONMENT_VARIABLE}={os.environ.get(ENVIRONMENT_VARIABLE)}"
    return KernelError(
        f"{wanted}: no such kernel here; this machine can run {', '.join(available())}"
    )
