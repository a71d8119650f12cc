"""Record docs/migration.txt: what `mempattern migrate` says of a real migration under KVM.

python docs/record_migration.py
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "benches"))

from reproduce_program import PROGRAM_GUESTS  # noqa: E402
from reproduce_run import URI, pair  # noqa: E402

SAID = HERE / "migration.txt"
GUEST = next(guest for guest in PROGRAM_GUESTS if guest.name == "sweep")


def main() -> None:
    with pair(GUEST, "kvm") as (here, _):
        command = f"mempattern migrate --qmp {here.qmp} --to {URI} --bandwidth 200Mbit " \
                  "--max-downtime 1500ms --observe 5s"  # fmt: skip
        program = str(Path(sys.executable).with_name("mempattern"))
        said = subprocess.run(
            [program, *command.split()[1:]], capture_output=True, text=True, check=True
        ).stdout
    shown = command.replace(str(here.qmp), "/run/vm/qmp.sock").replace(URI, "tcp:10.0.0.2:4444")
    SAID.write_text(f"$ {shown}\n{said}")
    print(SAID.read_text())


if __name__ == "__main__":
    main()
