"""Where the wheel and the C tests pass: python benches/portability.py RESULTS.json

The C tests as on arm64, from the log of `make arm64`; the wheel in dist/ installed into an empty
environment of each Python, which is Debian's where none is found, and tested there; and a wheel for
arm64, built by the cross-compiler, tested by Debian's arm64 Python under qemu-user.
`make portability` does it all.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import machine

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build/portability"
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
# Debian's release that has the Pythons which no machine has yet.
DEBIAN = {"3.14": "forky"}
# What the native module and the versions of Python could break.
TESTS = ("kernels", "quantities", "bitmaps", "interval", "stats", "history", "distinct",
         "distinct_stateful", "trace", "layout", "maps", "curve", "intensity", "verdict",
         "simulate", "bad_policies", "mp", "ramstream", "jit", "jit_policies",
         "jit_refusals", "trace_refused", "trace_damage", "kvm_sources",
         "kvm_wrong_hands")  # fmt: skip
# At an emulator's speed; without what starts another Python, which the kernel cannot.
ARM64_TESTS = ("kernels", "quantities", "bitmaps", "interval", "history", "distinct",
               "distinct_stateful", "trace")  # fmt: skip
ARM64_CHOICE = "not environment"
TEST_PACKAGES = ("pytest", "hypothesis", "pytest-benchmark")
MANYLINUX = ("manylinux2014", "manylinux_2_27", "manylinux_2_28")


def run(*command: str | Path, **environment: str) -> None:
    """Quietly, and with what it said if it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")


def answer(*command: str | Path) -> str:
    """The first line that a program prints, or "" if there is none such that works."""
    try:
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.partition("\n")[0]


def c_tests(build: Path) -> list[dict[str, Any]]:
    """The name, result and seconds of each test that meson logged there."""
    lines = (build / "meson-logs/testlog.json").read_text().splitlines()
    rows = sorted(map(json.loads, lines), key=lambda row: row["name"])
    return [
        {"name": row["name"].rpartition(":")[2], "result": row["result"],
         "duration_s": round(row["duration"], 1)}
        for row in rows
    ]  # fmt: skip


def python_tests(
    interpreter: list[str | Path], name: str, tests: tuple[str, ...], choice: str = ""
) -> dict[str, Any]:
    """The tests under that Python: how many passed, failed and were skipped."""
    log = BUILD / f"{name}.xml"
    log.unlink(missing_ok=True)
    done = subprocess.run(
        [*map(str, interpreter), "-m", "pytest", "-q", "-p", "no:cacheprovider",
         f"--junitxml={log}", "-k", choice, *(f"tests/test_{test}.py" for test in tests)],
        cwd=ROOT, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_PROFILE": "short"},
        stdout=(BUILD / f"{name}.log").open("w"), stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    suite = ET.parse(log).getroot()[0].attrib
    failed, skipped = int(suite["failures"]) + int(suite["errors"]), int(suite["skipped"])
    return {"passed": int(suite["tests"]) - failed - skipped, "failed": failed, "skipped": skipped,
            "interrupted": done.returncode == 2,
            "duration_s": round(float(suite["time"]), 1)}  # fmt: skip


def mirror() -> str:
    """Where this machine has Debian's packages from."""
    return answer("apt-get", "indextargets", "--format=$(REPO_URI)", "Origin: Debian",
                  "Created-By: Packages")  # fmt: skip


def unpacked(release: str, architecture: str, package: str) -> Path:
    """What Debian's package needs, in a directory of its own."""
    system = BUILD / f"{release}-{package}-{architecture}"
    if system.exists():
        return system
    fetched, part = BUILD / f"{system.name}.debs", BUILD / f"{system.name}.part"
    script = Path("/usr/share/debootstrap/scripts") / release
    others = () if script.exists() else (mirror(), script.with_name("sid"))
    run("debootstrap", f"--arch={architecture}", "--variant=minbase", "--download-only",
        f"--include={package}", release, fetched, *others)  # fmt: skip
    for archive in sorted(fetched.glob("var/cache/apt/archives/*.deb")):
        run("dpkg-deb", "-x", archive, part)
    return part.rename(system)


def debians_python(version: str) -> Path:
    """One that runs here, by the C library that it came with."""
    system = unpacked(DEBIAN[version], "amd64", f"python{version}")
    python = system / f"usr/bin/python{version}"
    run("patchelf", "--set-interpreter", system / "usr/lib64/ld-linux-x86-64.so.2",
        "--force-rpath", "--set-rpath", system / "usr/lib/x86_64-linux-gnu", python)  # fmt: skip
    return python


def find_python(version: str) -> Path | None:
    """An interpreter of that version which runs, from PATH or pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found: list[str | Path | None] = [
        shutil.which(f"python{version}"),
        *pyenv.glob(f"versions/{version}.*/bin/python3"),
    ]
    for candidate in (each for each in found if each):
        if answer(candidate, "-c", "import ssl, venv; print(1)"):
            return Path(candidate)
    return None


def may_unpack() -> bool:
    return not os.geteuid() and shutil.which("debootstrap") is not None


def on_python(version: str, wheel: Path) -> dict[str, Any]:
    python = found = find_python(version)
    if python is None and version in DEBIAN and may_unpack():
        python = debians_python(version)
    if python is None:
        return {"python": version, "found": False}
    environment = BUILD / f"venv-{version}"
    run(python, "-m", "venv", "--clear", "--without-pip", environment)
    python = environment / "bin/python"
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "-q",
        wheel,
        *TEST_PACKAGES,
        "numba",
    )
    whole = answer(python, "-c", "import platform as p; print(p.python_version())")
    numpy = answer(python, "-c", "import numpy; print(numpy.__version__)")
    return {"python": whole, "found": True, "numpy": numpy,
            "from": "" if found else f"Debian {DEBIAN[version]}",
            **python_tests([python], f"python-{version}", TESTS)}  # fmt: skip


def arm64_python() -> list[str | Path]:
    """Debian's, unpacked; the command that runs it, with the arm64 wheel and what that needs."""
    release = re.search(r"VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text())
    assert release, "this is no Debian"
    system = unpacked(release[1], "arm64", "python3")
    python: list[str | Path] = [
        "qemu-aarch64-static", "-L", system, "-E", f"PYTHONPATH={system / 'site'}",
        system / "usr/bin/python3",
    ]  # fmt: skip
    version = answer(*python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])")

    wheels = BUILD / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps",
        f"--wheel-dir={wheels}", f"-Csetup-args=--cross-file={ROOT / 'csrc/tests/arm64.ini'}", ROOT,
        _PYTHON_HOST_PLATFORM="linux-aarch64")  # fmt: skip
    (wheel,) = wheels.glob("*-cp311-abi3-linux_aarch64.whl")
    run(sys.executable, "-m", "pip", "install", "-q", "--upgrade", "--only-binary=:all:",
        f"--target={system / 'site'}", f"--python-version={version}",
        *(f"--platform={kind}_aarch64" for kind in ("linux", *MANYLINUX)),
        wheel, *TEST_PACKAGES)  # fmt: skip
    return python


def on_arm64() -> dict[str, Any]:
    if not may_unpack():
        return {"found": False, "why": "that takes root, and debootstrap (apt-get install it)"}
    python = arm64_python()
    says = (
        "import platform as p, mempattern.kernels as k; print(p.python_version(), *k.available())"
    )
    version, *kernels = answer(*python, "-c", says).split()
    numpy = answer(*python, "-c", "import numpy; print(numpy.__version__)")
    return {"python": version, "found": True, "numpy": numpy, "kernels": kernels,
            **python_tests(python, "python-arm64", ARM64_TESTS, ARM64_CHOICE)}  # fmt: skip


def manylinux(wheel: Path) -> str:
    """The platform tag that the wheel may have, by the symbols of the C library that it needs."""
    done = subprocess.run(
        [sys.executable, "-m", "auditwheel", "show", wheel],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return re.findall(r'"(manylinux\w+)"', done.stdout)[0]


def main(results: Path) -> None:
    BUILD.mkdir(parents=True, exist_ok=True)
    (wheel,) = (ROOT / "dist").glob("mempattern-*.whl")
    found: dict[str, Any] = {
        "machine": platform.machine(),
        "system": f"{platform.system()} {machine.kernel()}",
        "compiler": answer("aarch64-linux-gnu-gcc", "--version"),
        "emulator": answer("qemu-aarch64-static", "--version"),
        "c_arm64": c_tests(ROOT / "build/c-arm64"),
        "wheel": wheel.name,
        "manylinux": manylinux(wheel),
        "tests": TESTS,
        "arm64_tests": ARM64_TESTS,
    }
    with ThreadPoolExecutor() as at_once:
        arm64 = at_once.submit(on_arm64)
        found["pythons"] = list(at_once.map(lambda version: on_python(version, wheel), VERSIONS))
        found["arm64_python"] = arm64.result()
    results.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
