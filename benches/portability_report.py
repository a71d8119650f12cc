"""docs/portability.md from the results: python benches/portability_report.py RESULTS.json"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HEAD = """\
# Where it runs

<!-- Made by benches/portability_report.py; do not edit. -->

`make portability` ran what is below and wrote this page; `make arm64` runs its first part alone,
and is part of `make test`.
"""


def c_part(found: dict[str, Any]) -> Iterator[str]:
    passed = sum(row["result"] == "OK" for row in found["c_arm64"])
    yield f"""
## The C core on arm64

{passed} of {len(found["c_arm64"])} tests passed, compiled by `{found["compiler"]}` and run by
`{found["emulator"]}`: qemu-user emulates the processor, the kernel is the host's. What has
kernels is tested on each there is, so on NEON too.

| test | result | seconds, emulated |
|---|---|---|"""
    for row in found["c_arm64"]:
        yield f"| {row['name']} | {row['result'].lower()} | {row['duration_s']} |"
    yield """
Not there: following another process's writes (`csrc/process`) and the micro VM are for x86-64;
elsewhere their functions answer `-ENOTSUP`, which `test_unsupported` holds them to. So no test on
arm64 has a real KVM.

**The dirty ring.** arm64 has `KVM_CAP_DIRTY_LOG_RING_ACQ_REL` alone, and a ring is opened by either
capability. What that one asks of a VMM is done everywhere: an entry's flags are read by a
load-acquire and handed back by a store-release. `test_ring_order` has threads fill rings by these
rules while they are harvested. An emulator on x86-64 does not reorder memory as an arm64 processor
may; so that test was also run under ThreadSanitizer, which finds no race in it, and one as soon as
either order is relaxed; and a test finds `ldar` or `ldapr`, and `stlr`, in the arm64 code. The ring
is mapped at page 64 of the vCPU's file, also where the headers (before Linux 6.2) do not say so.

## Compilers and C libraries

Tried by hand, not by a target. gcc 12 and clang 14 compile the library without a warning under
`-Wall -Wextra -Wpedantic`; the header also as C++11 to C++20. `make install-c CC=clang` installs it
too. With musl 1.2.3 (`musl-gcc`, Linux's headers given by `-isystem`) it builds, and its tests
pass, on a real KVM too, whose guest was gcc's, for `musl-gcc` has no `-m32`. musl takes the request
of an `ioctl` as an `int`, of which `-Wconversion` warns. No Python was tried with musl."""


def listed(tests: list[str]) -> str:
    return ", ".join(f"`test_{name}`" for name in tests)


def row(what: str, result: dict[str, Any]) -> str:
    if not result["found"]:
        why = result.get("why", "no such Python was found")
        return f"| {what} | not run: {why} | | | | |"
    python = result["python"] + (", interrupted" if result.get("interrupted") else "")
    return (
        f"| {what} {python} | {result['numpy']} | {result['passed']} | "
        f"{result['failed']} | {result['skipped']} | {result['duration_s']} |"
    )


def python_part(found: dict[str, Any]) -> Iterator[str]:
    yield f"""
## The wheel

`{found["wheel"]}`, one for all Pythons from 3.11 on; `abi3audit --strict` finds
nothing in it that the stable ABI of 3.11 has not. `make wheel` builds and audits it. Below it is
installed into an empty environment and tested there, by
{listed(found["tests"])}.
The suite's other tests need what is not in a wheel, or were left out for their length.

| Python | NumPy | passed | failed | skipped | seconds |
|---|---|---|---|---|---|"""
    for result in found["pythons"]:
        yield row(result.get("from", result["python"]), result).replace("|  ", "| ")
    arm64 = found["arm64_python"]
    yield row("arm64" if arm64["found"] else "arm64, Debian's", arm64)
    if arm64["found"]:
        yield f"""
The arm64 wheel is built by the cross-compiler (`_PYTHON_HOST_PLATFORM=linux-aarch64`,
`-Csetup-args=--cross-file=csrc/tests/arm64.ini`) and run by Debian's arm64 Python, under qemu-user
too, by
{listed(found["arm64_tests"])},
without the tests that start another Python. What was skipped there needs KVM or the micro VM."""
    yield f"""
All of them at once, on a busy machine: the seconds say little. A Python that was not found is
Debian's, unpacked, and run by the C library that it came with.

**Without a compiler.** With nothing in `PATH`, `mempattern doctor` and `mempattern demo`, on a real
KVM, run from the wheel in an empty environment: it has the guest and the recorded demo in it.

**manylinux.** `auditwheel show` finds this wheel fit for `{found["manylinux"]}`, as glibc was where
it was built. For older systems it has to be built on one; that was not tried.

**Free-threaded Python** takes no abi3 wheel. pip 26.3, asked for `cp314t`, says
`ERROR: {found["wheel"]} is not a supported wheel on this platform.`

**The sdist** (`python -m build --sdist`) is installed by pip, with a compiler. It has 20 MB, most
of them recorded migrations.

On {found["machine"]}, {found["system"]}."""


if __name__ == "__main__":
    results = json.loads(Path(sys.argv[1]).read_text())
    print(HEAD + "\n".join([*c_part(results), *python_part(results)]))
