"""How the documentation is built: `make docs`, into build/docs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

import mempattern

project = "mempattern"
version = release = mempattern.__version__
copyright = "the mempattern authors, Apache-2.0"
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.doctest", "sphinx.ext.viewcode"]
root_doc = "index"
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"mempattern {release}"
html_copy_source = False
pygments_style = "friendly"

myst_heading_anchors = 4  # links to a page's headings work as they do on GitHub
suppress_warnings = [
    "ref.python",  # of two names that are spelt alike, such as the two policies', either will do
]
highlight_language = "none"

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True, "undoc-members": True, "show-inheritance": True}
maximum_signature_line_length = 90
python_use_unqualified_type_names = True
default_role = "py:obj"  # `name` in a docstring is a link if there is such a name

doctest_global_setup = "import numpy as np\nimport mempattern"

nitpicky = True
nitpick_ignore_regex = [
    ("py:obj", r"[\s\S]*"),  # what stands in backticks need not be a name
    (
        "py:.*",
        r"(numpy|np|npt|numba|collections|concurrent|asyncio|types|typing|pathlib|os|enum)\b.*",
    ),
    ("py:.*", r"(Any|Callable.*|Iterable|Iterator|Mapping|Sequence|Path|Self|Executor|Literal)"),
]


def closest(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, inner: nodes.Node
) -> nodes.Node | None:
    """A link for a name that is not written in full: to the one object that ends in it.

    Types in signatures are named by the module that defines them, and docstrings name errors and
    methods as a reader knows them.
    """
    if node.get("refdomain") != "py":
        return None
    name = node["reftarget"].removesuffix("()")
    objects = env.domains["py"].objects  # type: ignore[attr-defined]
    ends = [name]
    if node["reftype"] != "obj" and name.startswith("mempattern."):
        ends.append(name.rpartition(".")[2])
    for end in ends:
        found = {
            (one.docname, one.node_id)
            for known, one in objects.items()
            if known == end or known.endswith(f".{end}")
        }
        if len(found) == 1:
            docname, node_id = found.pop()
            here = node.get("refdoc", env.docname)
            return make_refnode(app.builder, here, docname, node_id, inner, name)
    return None


def public_bases(app: Sphinx, name: str, value: object, options: object, bases: list[type]) -> None:
    """Where a base is nobody's business, what it has is shown as the class's own."""
    bases[:] = [
        base for base in bases if "._" not in f".{base.__module__}.{base.__qualname__}"
    ] or [object]


def without_object(app: Sphinx, doctree: nodes.document) -> None:
    """Every class is one: "Bases: object" tells nothing."""
    for paragraph in list(doctree.findall(nodes.paragraph)):
        if paragraph.astext() == "Bases: object":
            paragraph.parent.remove(paragraph)


class Help(Directive):
    """What a command says of itself: `{help} mempattern predict`."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        command = Path(sys.executable).with_name(self.arguments[0].split()[0])
        said = subprocess.run(
            [command, *self.arguments[0].split()[1:], "--help"],
            env={"COLUMNS": "90", "NO_COLOR": "1"},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        return [nodes.literal_block(said, said, language="none")]


def setup(app: Sphinx) -> None:
    app.add_directive("help", Help)
    app.connect("missing-reference", closest)
    app.connect("autodoc-process-bases", public_bases)
    app.connect("doctree-read", without_object)
