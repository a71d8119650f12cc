"""What starting imports: what takes long to import is imported by what needs it."""

import subprocess
import sys
from pathlib import Path

import pytest

from mempattern.cli.main import COMMANDS

SLOW = {"asyncio", "dask", "matplotlib", "multiprocessing", "numba", "pyarrow", "rich"}
HELPS = [("mempattern",), ("trace",), *(("mempattern", name) for name in COMMANDS)]


def imported_by(code: str) -> set[str]:
    """The modules there are after it has run, or has ended by itself."""
    code = (
        f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_the_package_imports_nothing_slow():
    assert not SLOW & imported_by("import mempattern")


@pytest.mark.parametrize("words", HELPS, ids="-".join)
def test_help_imports_nothing_slow(words):
    command, *arguments = words
    arguments = [command, *arguments, "--help"]
    code = f"sys.argv[:] = {arguments}; import mempattern_commands; mempattern_commands.{command}()"
    found = imported_by(code)
    assert f"mempattern.cli.{'trace' if command == 'trace' else 'main'}" in found
    assert not SLOW & found


@pytest.mark.parametrize("wanted", [None, *COMMANDS])
def test_only_the_command_given_is_imported(wanted):
    words = ["mempattern", *([wanted] if wanted else []), "--help"]
    found = imported_by(
        f"sys.argv[:] = {words}; import mempattern_commands; mempattern_commands.mempattern()"
    )
    assert {name for name in COMMANDS if f"mempattern.cli.{name}" in found} == (
        {wanted} if wanted else set()
    )


def test_a_report_imports_nothing_slow():
    guest = Path(__file__).parent.parent / "docs/guest.mpt"
    found = imported_by(f"from mempattern.cli.main import main; main(['report', '{guest}'])")
    assert "mempattern.migration.intensity" in found
    assert not SLOW & found
