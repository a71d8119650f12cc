"""Where the wheel and the C tests pass: python benches/portability.py RESULTS.json

The C tests as on arm64, from the log of `make arm64`; the wheel in dist/ installed into an empty
environment of each Python that is found, and tested there; and a wheel for arm64, built by the
cross-compiler, tested by Debian's arm64 Python under qemu-user. `make portability` does it all.
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
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build/portability"
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
# What the native module and the versions of Python could break; at an emulator's speed.
TESTS = ("kernels", "interval", "history", "quantities")
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


def python_tests(interpreter: list[str | Path], name: str) -> dict[str, Any]:
    """TESTS under that Python: how many passed, failed and were skipped."""
    log = BUILD / f"{name}.xml"
    log.unlink(missing_ok=True)
    subprocess.run(
        [*map(str, interpreter), "-m", "pytest", "-q", "-p", "no:cacheprovider",
         f"--junitxml={log}", *(f"tests/test_{test}.py" for test in TESTS)],
        cwd=ROOT, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_PROFILE": "short"},
        stdout=(BUILD / f"{name}.log").open("w"), stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    suite = ET.parse(log).getroot()[0].attrib
    failed, skipped = int(suite["failures"]) + int(suite["errors"]), int(suite["skipped"])
    return {"passed": int(suite["tests"]) - failed - skipped, "failed": failed, "skipped": skipped,
            "duration_s": round(float(suite["time"]), 1)}  # fmt: skip


def find_python(version: str) -> tuple[Path, str] | None:
    """An interpreter of that version which runs, from PATH or pyenv, and its whole version."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found: list[str | Path | None] = [
        shutil.which(f"python{version}"),
        *pyenv.glob(f"versions/{version}.*/bin/python3"),
    ]
    for candidate in (each for each in found if each):
        whole = answer(
            candidate, "-c", "import ssl, venv, platform as p; print(p.python_version())"
        )
        if whole:
            return Path(candidate), whole
    return None


def on_python(version: str, wheel: Path) -> dict[str, Any]:
    found = find_python(version)
    if found is None:
        return {"python": version, "found": False}
    environment = BUILD / f"venv-{version}"
    run(found[0], "-m", "venv", "--clear", environment)
    run(environment / "bin/pip", "install", "-q", wheel, *TEST_PACKAGES)
    numpy = answer(environment / "bin/python", "-c", "import numpy; print(numpy.__version__)")
    return {"python": found[1], "found": True, "numpy": numpy,
            **python_tests([environment / "bin/python"], f"python-{version}")}  # fmt: skip


def arm64_python() -> list[str | Path]:
    """Debian's, unpacked; the command that runs it, with the arm64 wheel and what that needs."""
    debian, system = BUILD / "debian", BUILD / "arm64"
    release = re.search(r"VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text())
    assert release, "this is no Debian"
    run("debootstrap", "--arch=arm64", "--variant=minbase", "--download-only",
        "--include=python3", release[1], debian)  # fmt: skip
    for package in sorted(debian.glob("var/cache/apt/archives/*.deb")):
        run("dpkg-deb", "-x", package, system)
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
    if os.geteuid() or not shutil.which("debootstrap"):
        return {"found": False, "why": "that takes root, and debootstrap (apt-get install it)"}
    python = arm64_python()
    says = (
        "import platform as p, mempattern.kernels as k; print(p.python_version(), *k.available())"
    )
    version, *kernels = answer(*python, "-c", says).split()
    numpy = answer(*python, "-c", "import numpy; print(numpy.__version__)")
    return {"python": version, "found": True, "numpy": numpy, "kernels": kernels,
            **python_tests(python, "python-arm64")}  # fmt: skip


def main(results: Path) -> None:
    BUILD.mkdir(parents=True, exist_ok=True)
    (wheel,) = (ROOT / "dist").glob("mempattern-*.whl")
    found = {
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "compiler": answer("aarch64-linux-gnu-gcc", "--version"),
        "emulator": answer("qemu-aarch64-static", "--version"),
        "c_arm64": c_tests(ROOT / "build/c-arm64"),
        "wheel": wheel.name,
        "tests": TESTS,
        "pythons": [on_python(version, wheel) for version in VERSIONS],
        "arm64_python": on_arm64(),
    }
    results.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
