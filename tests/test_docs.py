"""The documentation builds without a warning, has every public name, and says what is so."""

import ast
import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from sphinx.util.inventory import InventoryFile

import mempattern
from mempattern.cli.main import main

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
DESIGN = (DOCS / "design.md").read_text()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with all of it, built as `make docs` does."""
    folder = tmp_path_factory.mktemp("docs")
    done = sphinx("html", folder)
    assert done.returncode == 0, done.stderr
    return folder


def sphinx(builder, folder):
    return subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", builder,
         "-d", str(folder / "doctrees"), str(DOCS), str(folder / builder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def names(built):
    """The Python names that it has, each with its page."""
    inventory = InventoryFile.loads((built / "html/objects.inv").read_bytes(), uri="")
    return {
        name: item.uri
        for kind, items in inventory.data.items()
        if kind.startswith("py:")
        for name, item in items.items()
    }


def modules():
    for found in pkgutil.walk_packages(mempattern.__path__, "mempattern."):
        parts = found.name.split(".")
        if not any(part.startswith("_") for part in parts):
            yield found.name


def resolve(name):
    """What the dotted name stands for; None if that cannot be imported here."""
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:n]))
        except ImportError:
            continue
        for part in parts[n:]:
            value = getattr(value, part, None)
        return value
    return None


def exported():
    for module in ["mempattern", *modules()]:
        if "__all__" in vars(importlib.import_module(module)):
            for name in importlib.import_module(module).__all__:
                if not name.startswith("__"):
                    yield module, name


def in_examples():
    """What the pages import from us, also in examples that are not run."""
    for page in PAGES:
        for code in re.findall(r"```py(?:thon)?\n(.*?)```", page.read_text(), re.DOTALL):
            lines = "\n".join(
                line for line in code.splitlines() if line.startswith(("import ", "from "))
            )
            for node in ast.walk(ast.parse(lines)):
                if isinstance(node, ast.ImportFrom) and node.module.startswith("mempattern"):
                    yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("source", [exported, in_examples], ids=["exported", "in examples"])
def test_every_public_name_is_on_a_reference_page(names, source):
    """By this name or another: what a package exports is often named by where it is defined."""
    referred = [name for name, page in names.items() if page.startswith("reference/")]
    known = {id(resolve(name)) for name in referred} - {id(None)}
    wanted = [f"{module}.{name}" for module, name in source()]
    assert wanted
    assert not [name for name in wanted if name not in referred and id(resolve(name)) not in known]


def test_the_doctests(built):
    """Those of the docstrings, and of the pages."""
    done = sphinx("doctest", built)
    assert done.returncode == 0, done.stdout
    said = (built / "doctest/output.txt").read_text()
    (n_tests,) = re.findall(r"(\d+) tests\n +0 failures in tests", said)
    assert int(n_tests) >= 20


NOT_FOR_USERS = {"held"}
"""Of a `DirtyHistory`, for `GroupStats`: on no page."""


def referred():
    """The classes and functions that the reference pages have, by module or one by one."""
    for page in (DOCS / "reference").glob("*.md"):
        for kind, name in re.findall(r"^\.\. auto(module|class):: (\S+)", page.read_text(), re.M):
            value = resolve(name)
            if kind == "class":
                yield value
                continue
            wanted = getattr(value, "__all__", vars(value))
            for one in [getattr(value, name) for name in wanted if not name.startswith("_")]:
                if (inspect.isclass(one) or inspect.isfunction(one)) and (
                    hasattr(value, "__all__") or one.__module__ == value.__name__
                ):
                    yield one


def members(cls):
    """Of one class, from its source: its methods, properties and fields, and whether each has a
    docstring of its own. Those that `__init__` makes are fields if their type is written there."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    bodies = [(tree.body, "")]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name == "__init__":
                bodies.append((node.body, "self."))
            yield node.name, ast.get_docstring(node) is not None
    for body, owner in bodies:
        for node, after in zip(body, [*body[1:], None], strict=True):
            targets = [node.target] if isinstance(node, ast.AnnAssign) else []
            if isinstance(node, ast.Assign) and not owner:
                targets = node.targets
            is_said = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            for target in targets:
                name = ast.unparse(target).removeprefix(owner)
                if name.isidentifier() and ast.unparse(target).startswith(owner):
                    yield name, is_said


def test_every_public_name_says_what_it_is():
    """A docstring of its own; what is told of a field may be in its class's, in backticks."""
    silent = set()
    for value in set(referred()):
        if not value.__doc__:
            silent.add(f"{value.__module__}.{value.__qualname__}")
        ours = [base for base in getattr(value, "__mro__", ()) if "mempattern" in base.__module__]
        quoted = re.findall(r"`([^`]+)`", " ".join(base.__doc__ or "" for base in ours))
        said = set(re.findall(r"\w+", " ".join(quoted)))
        found = [(base, *member) for base in ours for member in members(base)]
        said |= {name for _, name, is_said in found if is_said}
        silent |= {
            f"{base.__module__}.{base.__qualname__}.{name}"
            for base, name, _ in found
            if not name.startswith("_") and name not in said and name not in NOT_FOR_USERS
        }
    assert not sorted(silent)


# ---- the map -------------------------------------------------------------------------------------


def the_map():
    """What the map names: folders of csrc/ in full, and what lies in src/mempattern/."""
    (text,) = re.findall(r"## The map\n\n```\n(.*?)```", DESIGN, re.DOTALL)
    return text


def test_the_map_names_every_folder():
    text = the_map()
    for folder in (ROOT / "csrc").iterdir():
        if folder.is_dir():
            name = folder.name
            assert re.search(rf"^csrc/{name}/", text, re.MULTILINE), name
    for folder in (ROOT / "src/mempattern").iterdir():
        if folder.is_dir() and folder.name != "__pycache__":
            assert re.search(rf"^  {folder.name}/", text, re.MULTILINE), folder.name


def test_the_map_names_only_what_is_there():
    text = the_map()
    here = None
    for line in text.splitlines():
        if not line.startswith(" "):
            here = ROOT / line.split()[0] if line else None
            assert here is None or here.exists(), line
        elif here == ROOT / "src/mempattern":
            for name in filter(None, line[2:28].strip().split(", ")):
                there = [here / name, here / f"{name}.py", here.parent / f"{name}.py"]
                assert name == "_native" or any(path.exists() for path in there), name
    for name in re.findall(r"\b(\w+\.(?:c|h|py|md))\b", text):
        assert any(ROOT.glob(f"*/**/{name}")), name


def test_every_module_is_in_the_map():
    words = set(re.findall(r"\w+", the_map()))
    inside = [path.relative_to(ROOT / "src/mempattern") for path in ROOT.glob("src/**/*.py")
              if path.parent != ROOT / "src"]  # fmt: skip
    missing = [
        str(path)
        for path in inside
        if path.stem != "__init__"
        and path.parts[0] != "cli"
        and "policies" not in path.parts[:-1]  # a file a platform
        and path.stem not in words
    ]
    assert not missing


def test_no_file_imports_from_further_down_the_map():
    names = re.findall(
        r"^  ((?:\w+, )*\w+)/? ", the_map().split("src/mempattern/")[1], re.MULTILINE
    )
    line_of = {name: i for i, line in enumerate(names) for name in line.split(", ")}
    below = set()
    for path in ROOT.glob("src/mempattern/**/*.py"):
        module = ".".join(path.relative_to(ROOT / "src/mempattern").with_suffix("").parts)
        if module == "__init__":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "mempattern":
                wanted = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module.startswith("mempattern."):
                wanted = [node.module.removeprefix("mempattern.")]
            else:
                continue
            for name in wanted:
                if line_of[name.split(".")[0]] > line_of[module.split(".")[0]]:
                    below.add((module, name))
    assert not below


def test_what_is_to_be_made_can_be():
    """Every `make TARGET` of the pages is in the Makefile."""
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in [*ROOT.glob("*.md"), *PAGES]:
        for target in re.findall(r"(?:`|^)make ([a-z][\w-]*)", page.read_text(), re.MULTILINE):
            assert target in targets, (page.name, target)


# ---- the pages -----------------------------------------------------------------------------------


def test_the_index_links_every_page():
    """Also for who reads it as a file, where a table of contents is no link."""
    text = re.sub(r"```\{toctree\}.*?```", "", (DOCS / "index.md").read_text(), flags=re.DOTALL)
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", text))
    assert {page.name for page in DOCS.glob("*.md")} - linked == {"index.md"}


def commands(page):
    return "".join(re.findall(r"```sh\n(.*?)```", (DOCS / page).read_text(), re.DOTALL))


def test_the_tutorial_shows_the_installation():
    assert commands("tutorial.md").startswith("python3 -m venv .venv\n.venv/bin/pip install")


@pytest.mark.usefixtures("qemu", "uffd", "sqlite")
def test_every_command_of_the_tutorial(tmp_path):
    """From the first one after the installation, in one shell and in this environment."""
    _, _, rest = commands("tutorial.md").partition("export PATH=$PWD/.venv/bin:$PATH\n")
    assert "mempattern-trace" in rest
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", rest],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "\nverdict " in done.stdout
    assert "30 Mbit/s" in done.stdout
    assert "oracle" in done.stdout
    assert "<!doctype html>" in (tmp_path / "guest.html").read_text()


def test_what_the_tutorial_shows_is_of_the_recorded_guest(tmp_path, monkeypatch, capsys):
    """Each line of what follows a command, in its order; not the rows, which are live."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "guest.mpt").symlink_to(DOCS / "tutorial.mpt")
    shown = re.findall(
        r"```sh\n(mempattern[^\n]*)\n```\n\n```\n(.*?)```",
        (DOCS / "tutorial.md").read_text(), re.DOTALL,
    )  # fmt: skip
    assert [command.split()[:2] for command, _ in shown[1:]] == [
        ["mempattern", "predict"],
        ["mempattern", "replay"],
    ]
    for command, text in shown:
        is_trace = command.startswith("mempattern-trace")
        arguments = ["report", "guest.mpt"] if is_trace else command.split()[1:]
        assert main(arguments) == 0
        printed = iter([line.rstrip() for line in capsys.readouterr().out.splitlines()])
        for line in text[text.index("...\n") if is_trace else 0 :].splitlines():
            assert line == "..." or line in printed, line


@pytest.mark.parametrize("page", ["analyse.md"])
def test_printed_is_what_the_comments_say(page, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    space = {}
    for code in re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL):
        exec(compile(code, page, "exec"), space)
        promised = [line[2:] for line in code.splitlines() if line.startswith("# ")]
        assert capsys.readouterr().out.splitlines()[-len(promised) :] == promised or not promised
