"""The best source there is for a process."""

from __future__ import annotations

import errno
from typing import Literal, SupportsIndex

from mempattern.errors import ProcessError, UsageError
from mempattern.sources import soft_dirty
from mempattern.sources.layout import Layout
from mempattern.sources.process import ProcessWrites
from mempattern.sources.soft_dirty import SoftDirty

Choice = Literal["auto", "uffd", "soft-dirty"]

_WORTH_ANOTHER_TRY = (errno.ENOTSUP, errno.ENOSYS, errno.ENOTTY, errno.EACCES, errno.EBUSY)


def open_process(
    pid: SupportsIndex,
    source: Choice = "auto",
    layout: Layout | None = None,
    *,
    split_thp: bool = True,
) -> ProcessWrites | SoftDirty:
    """A source of the process's writes: `ProcessWrites`, else `SoftDirty` where that works.

    `split_thp` is as in `ProcessWrites`; soft-dirty bits never split a huge page.
    Raises `ProcessError` (with `errno`, and what would help), `UsageError`.
    """
    if source not in ("auto", "uffd", "soft-dirty"):
        raise UsageError(f"source is auto, uffd or soft-dirty, not {source!r}")
    if source == "soft-dirty":
        return SoftDirty(pid, layout)
    try:
        return ProcessWrites(pid, layout, split_thp=split_thp)
    except ProcessError as error:
        if source == "uffd" or error.errno not in _WORTH_ANOTHER_TRY:
            raise
        if not soft_dirty.works():
            raise ProcessError(
                error.errno,
                f"{error}. Soft-dirty bits, the other way, this kernel does not have "
                "(CONFIG_MEM_SOFT_DIRTY)",
            ) from None
        return SoftDirty(pid, layout)
