"""What the C core's results mean, where the arguments were checked before the call."""

from __future__ import annotations

import errno
import os

from mempattern import kernels
from mempattern.errors import BusyError, OutOfMemoryError


def check(result: int, user: str = "this function") -> None:
    """Raise the exception for a negative errno; `user` is the object that was used."""
    if result == 0:
        return
    if result in (-errno.EBUSY, -errno.ESTALE):  # stale: another thread's follow() came in between
        raise busy(user)
    if result == -errno.ENOMEM:
        raise OutOfMemoryError(f"there is no memory for {user}; give it smaller or fewer regions")
    if result in (-errno.ENOENT, -errno.ENOTSUP):
        raise kernels.unavailable()
    raise RuntimeError(f"the C core failed unexpectedly: {os.strerror(-result)}")


def busy(user: str) -> BusyError:
    return BusyError(f"{user} is in use by another thread; use one at a time")
