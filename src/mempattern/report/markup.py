"""Pieces of HTML. Whatever text goes in comes out escaped; only `Markup` goes in as it is."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from typing import Any


class Markup(str):
    """HTML that was made here."""

    __slots__ = ()


def escape(value: object) -> Markup:
    return value if isinstance(value, Markup) else Markup(html.escape(str(value)))


def join(parts: Iterable[object]) -> Markup:
    return Markup("".join(escape(part) for part in parts))


def element(name: str, *content: object, **attributes: object) -> Markup:
    """`class_` is the attribute class, `data_x` is data-x; those that are None are left out."""
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{told}>{join(content)}</{name}>")


def table(
    caption: str,
    headings: Sequence[str],
    rows: Iterable[Sequence[object]],
    text: Sequence[int] = (),
) -> Markup:
    """The first cell of each row is its heading; the columns `text` are no numbers. It scrolls, for
    the keyboard too.
    """

    def kind(column: int) -> str | None:
        return "text" if column in text else None

    head = [element("th", name, scope="col", class_=kind(i)) for i, name in enumerate(headings)]
    body = [
        element(
            "tr",
            element("th", row[0], scope="row"),
            *(element("td", cell, class_=kind(i)) for i, cell in enumerate(row[1:], 1)),
        )
        for row in rows
    ]
    return element(
        "div",
        element(
            "table",
            element("caption", caption),
            element("thead", element("tr", *head)),
            element("tbody", *body),
        ),
        class_="scroll", tabindex=0, role="region", aria_label=caption,
    )  # fmt: skip


def facts(pairs: Iterable[tuple[object, object]], kind: str = "facts") -> Markup:
    """A list of names and values."""
    found = [element("div", element("dt", k), element("dd", v)) for k, v in pairs]
    return element("dl", *found, class_=kind)


def script_json(value: Any) -> Markup:
    """For a script element of no script: nothing in it can end that."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("&", "\\u0026"))
