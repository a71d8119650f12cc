"""Texts of others, as the fuzzer writes them: read, or refused with one of our errors.

The first byte says whose text it is: QEMU's monitor's, a command line and the list of
mappings, the facts in a trace. Seeds are real (seeds.py).
"""

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace

import atheris

with atheris.instrument_imports(include=["mempattern"]):
    from mempattern.cli.demo import recorded_labels
    from mempattern.errors import MempatternError
    from mempattern.qemu import ram
    from mempattern.qemu.command_line import backend_bytes, ram_bytes
    from mempattern.qemu.mtree import parse_flat_view, parse_host_address
    from mempattern.report.migrated import Migrated
    from mempattern.report.page_migration import migration_section
    from mempattern.sources import maps
    from mempattern.sources.content import META, Content

FACTS = ("migration", "migration.passes.000", "migration.decisions.000", META, "demo_labels")


def flat_view(text: str) -> None:
    for piece in parse_flat_view(text):
        assert piece.start >= 0
        assert piece.n_bytes > 0
        assert piece.offset >= 0


def host_address(text: str) -> None:
    assert 0 <= parse_host_address(text, "pc.ram") < 1 << 64


def process(text: str) -> None:
    """A QEMU's command line and mappings; these again as they were, and without the first."""
    command_line, _, mappings = text.partition("\1")
    arguments = command_line.split("\0")
    assert (ram_bytes(arguments) or 0) >= 0
    assert all(size >= 0 for size in backend_bytes(arguments))
    parser = maps.MapsParser(dict)
    found = parser.parse(mappings)
    assert parser.parse(mappings) == found
    less = mappings.partition("\n")[2]
    assert parser.parse(less) == maps.MapsParser(dict).parse(less)
    for mapping in found:
        assert isinstance(mapping.name, str)
    ram._arguments = lambda _: arguments  # type: ignore[assignment]
    ram.read_mappings = lambda pid: found
    for block in ram.guest_ram_blocks(1).blocks:
        assert block.region.n_pages > 0


def facts(text: str) -> None:
    meta = dict(zip(FACTS, text.split("\0"), strict=False))
    content = Content.from_meta(meta)
    assert content is None or content.part_pages % 64 == 0
    migrated = Migrated.of(meta, 0)
    migration_section(migrated)
    if migrated is not None:
        json.dumps(migrated.marks(), allow_nan=False)
    recorded_labels(SimpleNamespace(path="fuzzed", meta=meta))  # type: ignore[arg-type]


KINDS: tuple[Callable[[str], None], ...] = (flat_view, host_address, process, facts)


def one_input(given: bytes) -> None:
    if given:
        with suppress(MempatternError):
            KINDS[given[0] % len(KINDS)](given[1:].decode(errors="surrogateescape"))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
