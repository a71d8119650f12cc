"""A trace for Perfetto (ui.perfetto.dev): counters of the VM and of each region, by interval.

In TracePackets, as protos/perfetto/trace/trace_packet.proto, clock_snapshot.proto and track_event/
define them, and not as JSON: that has microseconds as floating-point numbers of no clock. Packets
have whole nanoseconds of CLOCK_MONOTONIC, and say so: the counters lie where they belong beside a
trace of the same host's scheduler.
"""

from __future__ import annotations

from typing import BinaryIO

from mempattern._closing import Closing
from mempattern.analysis.watch import Row
from mempattern.bitmaps import Seen
from mempattern.interval import Interval

_MONOTONIC = 3
"""BUILTIN_CLOCK_MONOTONIC (protos/perfetto/common/builtin_clock.proto)."""
_SEQUENCE = 1
_COUNTER = 4
"""TrackEvent.TYPE_COUNTER"""
_UNSIGNED = (1 << 64) - 1

_PAGES, _GROUPS = "pages", "groups"
_NOTHING = Seen(0, 0, 0, 0, 0)


class PerfettoWriter(Closing):
    """Writes the intervals of a trace, one after the other, to a file.

    A counter's value holds from the start of its interval; where intervals are missing, and after
    the last one, it is 0. It is written where it changes. Regions have their counters from the
    first page on that is written in them.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._n_tracks = 0
        self._counters: dict[tuple[str | None, str], tuple[int, int]] = {}
        """Track and last value, by region (None: all) and what is counted."""
        self._parents: dict[str | None, int] = {}
        self._end_ns: int | None = None

    def add(self, interval: Interval, row: Row) -> None:
        """The next interval, and what a `Watch` made of it."""
        if self._end_ns is None:
            clock = _number(1, _MONOTONIC) + _number(2, interval.start_ns)
            self._packet(6, _bytes(1, clock) + _number(2, _MONOTONIC))
        elif interval.start_ns > self._end_ns:
            self._end()
        self._put_all(interval.start_ns, None, row.seen)
        self._put(interval.start_ns, None, "lost pages", _PAGES, row.lost_pages)
        for region in row.regions:
            activity = row.active.get(region.name)
            if activity or region.name in self._parents:
                seen = activity.seen if activity else _NOTHING
                self._put_all(interval.start_ns, region.name, seen)
        self._end_ns = interval.end_ns

    def close(self) -> None:
        """After the last interval nothing is known. May be called twice."""
        self._end()

    def _end(self) -> None:
        if self._end_ns is not None:
            for (region, what), _ in list(self._counters.items()):
                self._put(self._end_ns, region, what, "", 0)

    def _put_all(self, at_ns: int, region: str | None, seen: Seen) -> None:
        self._put(at_ns, region, "dirty", _PAGES, seen.dirty_pages)
        self._put(at_ns, region, "redirtied", _PAGES, seen.redirtied_pages)
        self._put(at_ns, region, "fresh", _PAGES, seen.fresh_pages)
        self._put(at_ns, region, "active groups", _GROUPS, seen.active_groups)

    def _put(self, at_ns: int, region: str | None, what: str, unit: str, value: int) -> None:
        known = self._counters.get((region, what))
        if known is not None and known[1] == value:
            return
        track = known[0] if known is not None else self._counter(region, what, unit)
        self._counters[region, what] = track, value
        event = _number(9, _COUNTER) + _number(11, track) + _number(30, value)
        stamp = _number(8, at_ns) + _number(58, _MONOTONIC) + _number(10, _SEQUENCE)
        self._packet(11, event, stamp)

    def _counter(self, region: str | None, what: str, unit: str) -> int:
        if region not in self._parents:
            self._parents[region] = self._track(self._name if region is None else region)
        counter = _bytes(8, _bytes(6, unit.encode()))
        return self._track(what, _number(5, self._parents[region]) + counter)

    def _track(self, name: str, rest: bytes = b"") -> int:
        self._n_tracks += 1
        text = name.encode(errors="replace")
        self._packet(60, _number(1, self._n_tracks) + _bytes(2, text) + rest)
        return self._n_tracks

    def _packet(self, field: int, message: bytes, stamp: bytes = b"") -> None:
        self._file.write(_bytes(1, stamp + _bytes(field, message)))


# ---- Protocol Buffers' wire format ---------------------------------------------------------------


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value & _UNSIGNED)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    octets = bytearray()
    while value > 0x7F:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)
