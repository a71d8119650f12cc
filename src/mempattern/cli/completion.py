"""`mempattern completion`: what has a shell complete both commands."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import cast

from mempattern.cli.arguments import Parser

SHELLS = ("bash", "zsh", "fish")

_DESCRIPTION = """\
Print what has your shell complete mempattern and mempattern-trace. Nothing is
run when you press Tab: the script knows all options."""

_EXAMPLES = (
    ("mempattern completion bash >> ~/.bash_completion", "bash, with the package bash-completion"),
    ("mempattern completion zsh >> ~/.zshrc", "zsh, after its compinit"),
    ("mempattern completion fish > ~/.config/fish/conf.d/mempattern.fish", "fish"),
)


def fill(completion: Parser) -> None:
    completion.describe(_DESCRIPTION, _EXAMPLES, {0: "", 1: "", 2: "", 4: ""})
    completion.add_argument("shell", choices=SHELLS, help=f"yours: {', '.join(SHELLS)}")
    completion.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    for program in programs():
        sys.stdout.write(script(program, options.shell))
    return 0


def programs() -> tuple[Parser, Parser]:
    """The parsers of both commands, with all there is in them."""
    from mempattern.cli import main, trace  # noqa: PLC0415

    return main.parser(), trace.parser()


def script(program: Parser, shell: str) -> str:
    """Of one command, in that shell's language."""
    import shtab  # noqa: PLC0415

    _complete_values(program)
    return f"{shtab.complete(program, shell=shell)}\n"


def _complete_values(parser: argparse.ArgumentParser) -> None:
    """Files, and policies, which may be others than those that are named."""
    import shtab  # noqa: PLC0415

    from mempattern.migration.registry import POLICIES  # noqa: PLC0415

    for action in parser._actions:
        if isinstance(action.choices, dict):  # a command each
            parsers = cast("dict[str, argparse.ArgumentParser]", action.choices)
            for command in parsers.values():
                _complete_values(command)
        elif action.dest == "policy":
            action.choices = list(POLICIES)
        elif action.type is Path or re.match("FILE|SOCKET", str(action.metavar)):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
