"""How much RAM QEMU's command line gives the guest (qemu(1), -m and -object memory-backend-*)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise

from mempattern._json import is_object

_SIZE = re.compile(r"(\d{1,20}(?:\.\d{1,20})?)([bkmgtpe]?)", re.IGNORECASE)
_DEFAULT_MIB = 128  # what QEMU gives without -m


def ram_bytes(arguments: Sequence[str]) -> int | None:
    """What -m says, QEMU's default if there is none, or None if it makes no sense here."""
    said: object = _DEFAULT_MIB
    for option, value in pairwise(arguments):
        if option in ("-m", "--m"):
            said = _properties(value, first="size").get("size", said)
    return _bytes(said, unit="m")


def backend_bytes(arguments: Sequence[str]) -> list[int]:
    """The sizes of the memory backends, as given; not all need be the guest's RAM."""
    sizes = (_bytes(str(backend.get("size")), unit="b") for backend in _backends(arguments))
    return [size for size in sizes if size is not None]


def _backends(arguments: Sequence[str]) -> Iterator[dict[str, object]]:
    for option, value in pairwise(arguments):
        if option not in ("-object", "--object"):
            continue
        backend: object
        try:  # libvirt writes JSON
            backend = json.loads(value)
        except (ValueError, RecursionError):
            backend = _properties(value, first="qom-type")
        if is_object(backend) and str(backend.get("qom-type")).startswith("memory-backend-"):
            yield backend


def _properties(value: str, first: str) -> dict[str, object]:
    """`first,key=value,...` as QEMU reads it: the first key may be left out."""
    properties: dict[str, object] = {}
    for i, part in enumerate(re.split(r"(?<!,),(?!,)", value)):  # ,, is a comma in a value
        key, equals, said = part.partition("=")
        if equals:
            properties[key] = said
        elif i == 0:
            properties[first] = part
    return properties


def _bytes(size: object, unit: str) -> int | None:
    found = _SIZE.fullmatch(str(size))
    if found is None:
        return None
    power = "bkmgtpe".index((found[2] or unit).lower())
    return int(Fraction(found[1]) * 1024**power)
