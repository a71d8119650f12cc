"""Every error the library raises on purpose.

All derive from `MempatternError`, and each also from the builtin that a caller would catch anyway.
A message says what was wrong, what was expected, and what to do.
"""

from __future__ import annotations


class MempatternError(Exception):
    """Base of all errors of this library."""


class RegionError(MempatternError, ValueError):
    """Regions, groups or memslots that do not make sense, or do not match."""


class BitmapError(MempatternError, ValueError):
    """A bitmap of the wrong size, dtype, byte order or shape."""


class UsageError(MempatternError, ValueError):
    """An argument out of its range."""


class MissingPackageError(MempatternError, ImportError):
    """A package that an extra of this library installs is not there."""


class OutOfMemoryError(MempatternError, MemoryError):
    """There is no memory for the statistics or bitmaps of regions as large as these."""


class KernelError(MempatternError, RuntimeError):
    """A SIMD kernel that does not exist or cannot run on this machine."""


class BusyError(MempatternError, RuntimeError):
    """An object that one thread may use at a time was in use by another. Nothing was changed."""


class ClosedError(MempatternError, ValueError):
    """A source or guest was used after it was closed."""


class KVMError(MempatternError, OSError):
    """KVM refused: a wrong descriptor, an unknown memslot, a missing capability.

    `errno` is the kernel's; the pages taken before the failure come with the next collection,
    where there can be one.
    """

    def __init__(self, errno: int, message: str) -> None:
        super().__init__(errno, message)

    def __str__(self) -> str:
        return str(self.strerror)


class ProcessError(MempatternError, OSError):
    """A process that cannot be looked into: gone, another user's, or not what it should be.

    `errno` is the kernel's, or the nearest one to it.
    """

    def __init__(self, errno: int, message: str) -> None:
        super().__init__(errno, message)

    def __str__(self) -> str:
        return str(self.strerror)


class MonitorError(MempatternError, OSError):
    """Who runs a guest did not answer, refused, or is gone."""


class QMPError(MonitorError):
    """QEMU's monitor did not answer, belongs to another process, or said what makes no sense."""


class EndedError(QMPError):
    """QEMU has ended, and with it the guest, unless that had moved."""


class LibvirtError(MonitorError):
    """libvirt did not answer, knows no such domain, or refused."""


class LostError(MonitorError):
    """Who runs a guest was lost while its migration was under way: what became of it is not known
    here."""


class RingOverflowError(KVMError):
    """A dirty ring was full to the last entry: pages are lost, and the rings of no use any more.

    Every later collection raises it again.
    """


class GuestError(MempatternError, RuntimeError):
    """The micro VM's guest died, refused its workload, or did not finish in time."""


class ProcessEnded(MempatternError, EOFError):
    """The traced process ended, or executes another program: there is nothing more to collect."""


class StreamError(MempatternError, ValueError):
    """What QEMU sends is not the migration stream that was expected."""


class StreamEnded(MempatternError, EOFError):
    """The migration whose stream was read is over: there is nothing more to collect."""


class TraceError(MempatternError, ValueError):
    """A file is not a trace, or is damaged."""
