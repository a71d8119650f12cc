"""The trace file that a command writes beside what it shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mempattern._closing import Closing
from mempattern._os_errors import explained
from mempattern.cli.exits import Unwritable, said
from mempattern.errors import MempatternError, TraceError
from mempattern.interval import Interval
from mempattern.sources import Source
from mempattern.trace import TraceWriter


def check_output(path: Path, force: bool) -> None:
    """Before anything is attached to or started. Raises `Unwritable`."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:  # symbolic links in a circle, a name that is too long
        raise Unwritable(explained(error)) from None
    if path.exists() and not path.is_file():
        raise Unwritable(f"{path} is no regular file; name another one")
    if path.exists() and not force:
        raise Unwritable(f"{path} exists; name another file, or overwrite it with --force")
    if not path.parent.is_dir():
        raise Unwritable(f"{path} cannot be written: there is no directory {path.parent}")


class TraceFile(Closing):
    """A trace file, or none if `path` is None. Raises `Unwritable`; what fails later raises nothing
    and is kept in `failure`, so that the summary can be shown.
    """

    def __init__(
        self, path: Path | None, source: Source, meta: Mapping[str, str], *, force: bool
    ) -> None:
        self.failure: str | None = None
        self._writer: TraceWriter | None = None
        if path is None:
            return
        try:
            self._writer = TraceWriter(path, source.regions, source.provenance, meta, force=force)
        except (MempatternError, OSError) as error:
            raise Unwritable(said(error)) from None

    @property
    def dropped(self) -> int:
        """Intervals that are not in the file, because the disk did not keep up."""
        return self._writer.dropped if self._writer is not None else 0

    def write(self, interval: Interval) -> None:
        if self._writer is not None and self.failure is None:
            try:
                self._writer.write(interval)
            except TraceError as error:
                self.failure = str(error)

    def close(self) -> None:
        """May be called twice."""
        if self._writer is not None:
            try:
                self._writer.close()
            except TraceError as error:
                self.failure = self.failure or str(error)
