"""Writes the man pages, a page a command, from the parsers: `make man`.

python docs/man_pages.py FOLDER
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import mempattern
from mempattern.cli.arguments import Parser
from mempattern.cli.completion import programs
from mempattern.cli.main import COMMANDS

_DATE = "2026-11-26"
"""Of the pages: that of the version."""


def pages() -> dict[str, str]:
    """Each by its file's name."""
    root, trace = programs()
    found: dict[str, Parser] = {root.prog: root, trace.prog: trace}
    for action in root._actions:
        if isinstance(action.choices, dict):
            found |= {parser.prog.replace(" ", "-"): parser for parser in action.choices.values()}
    about = {
        **COMMANDS,
        root.prog: "whether a VM will live-migrate, from its dirty pages",
        trace.prog: "record which pages a process or a QEMU guest writes",
    }
    return {f"{name}.1": page(name, parser, about) for name, parser in found.items()}


def page(name: str, parser: Parser, about: dict[str, str]) -> str:
    """In man(7), which man and mandoc render. `about` says in a line what each command is for."""
    version = f"mempattern {mempattern.__version__}"
    lines = [f'.TH {name.upper()} 1 "{_DATE}" "{version}" "User Commands"']
    purpose = about[parser.prog.removeprefix("mempattern ")]
    lines += [".SH NAME", rf"{_text(name)} \- {_text(purpose)}"]
    lines += [".SH SYNOPSIS", *_paragraph(_usage(parser))]
    lines += [".SH DESCRIPTION", *_paragraph(parser.description or "")]
    for group in parser._action_groups:
        if options := [action for action in group._group_actions if action.help or action.choices]:
            lines += [f".SH {_text((group.title or '').upper())}"]
            for action in options:
                lines += _argument(action)
    lines += [".SH EXIT STATUS"]
    for code, meaning in parser.exits.items():
        lines += [".TP", f".B {code}", *_paragraph(meaning)]
    lines += [".SH ENVIRONMENT", ".TP", ".B NO_COLOR"]
    lines += _paragraph("If it is set and not empty, nothing is coloured.")
    lines += [".SH EXAMPLES"]
    for command, purpose in parser.examples:
        lines += [".TP", f".B {_text(command)}", *_paragraph(purpose)]
    others = [other if other not in COMMANDS else f"mempattern-{other}" for other in about]
    others.remove(name)
    lines += [".SH SEE ALSO", *(f".BR {_text(other)} (1)," for other in others)]
    lines[-1] = lines[-1].removesuffix(",")
    return "\n".join(lines) + "\n"


def _usage(parser: Parser) -> str:
    """What must be given, in words that do not depend on Python's version as argparse's do."""
    if parser.usage is not None:
        return parser.usage
    words = [parser.prog]
    grouped = []
    for group in parser._mutually_exclusive_groups:
        if group.required:
            words.append(f"({' | '.join(map(_with_value, group._group_actions))})")
            grouped += group._group_actions
    words += [_with_value(one) for one in parser._actions if one.option_strings
              and one.required and one not in grouped]  # fmt: skip
    words.append("[options]")
    for one in parser._get_positional_actions():
        value = one.metavar or one.dest
        words.append({"?": f"[{value}]", "+": f"{value} ..."}.get(str(one.nargs), str(value)))
    return " ".join(words)


def _with_value(option: argparse.Action) -> str:
    """As in "-o, --output FILE.mpt"."""
    names = ", ".join(option.option_strings)
    value = option.metavar or "|".join(option.choices or ()) or option.dest.upper()
    return names if option.nargs == 0 else f"{names} {value}".strip()


def _argument(action: argparse.Action) -> Iterator[str]:
    if isinstance(action, argparse._SubParsersAction):  # the commands, each with its own page
        for choice in action._choices_actions:
            yield from (".TP", f".B {_text(choice.dest)}", *_paragraph(choice.help or ""))
        return
    yield from (".TP", f".B {_text(_with_value(action))}")
    yield from _paragraph(argparse.HelpFormatter("")._expand_help(action))


def _paragraph(text: str) -> list[str]:
    """In lines of the source, each sentence in new ones."""
    sentences = re.split(r"(?<=[.!?]) (?=[A-Z])", " ".join(text.split()))
    return [
        _text(line)
        for sentence in sentences
        for line in textwrap.wrap(sentence, 64, break_long_words=False, break_on_hyphens=False)
    ]


def _text(text: str) -> str:
    """That is text only: no escapes, no requests, hyphens that may be copied."""
    text = text.replace("\\", r"\e").replace("-", r"\-").replace("`", r"\(ga")
    text = text.replace("'", r"\(aq").replace("~", r"\(ti").replace("^", r"\(ha")
    return rf"\&{text}" if text.startswith(".") else text


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text)
