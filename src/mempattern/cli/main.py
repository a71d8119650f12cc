"""`mempattern`: one command, a subcommand for each thing to do.

Exit codes: 0 done, 1 it failed (one line on stderr says why), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import mempattern
from mempattern.cli import INTERRUPTED, demo
from mempattern.errors import MempatternError


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(
        prog="mempattern",
        description="Know from a virtual machine's dirty pages whether and how it will "
        "live-migrate.",
    )
    root.add_argument("--version", action="version", version=f"mempattern {mempattern.__version__}")
    commands = root.add_subparsers(title="commands", required=True, metavar="COMMAND")
    demo.add_to(commands)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # the reader has left; there is nobody to tell
        return 1
    except (MempatternError, MemoryError, OSError) as error:
        print(f"mempattern: {error}", file=sys.stderr)
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
