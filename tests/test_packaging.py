"""A wheel built here is one abi3 wheel that works alone; the documents' examples run as printed."""

import re
import sqlite3
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import mempattern

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """One that is built of this checkout."""
    where = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps",
         "--wheel-dir", str(where), str(ROOT)],
        check=True,
    )  # fmt: skip
    (wheel,) = where.glob("*.whl")
    return wheel


def test_the_wheel_needs_no_more_than_the_stable_abi(wheel):
    audit = [sys.executable, "-m", "abi3audit", "--strict", str(wheel)]
    done = subprocess.run(audit, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_installs_into_an_empty_environment(wheel, tmp_path):
    """With what it depends on, from the package index; -I: nothing of ours is in reach."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path)], check=True)
    binaries = tmp_path / "bin"
    subprocess.run([binaries / "pip", "install", "-q", str(wheel)], check=True)
    program = """
import mempattern, numpy
ram = mempattern.Region("ram", n_pages=1000)
stats = mempattern.GroupStats([ram], group_pages=64)
bitmap = numpy.full(ram.n_words, 7, numpy.uint64)
print(stats.update({"ram": bitmap}, duration_s=0.1).dirty_pages, mempattern.__file__)
"""
    printed = subprocess.run(
        [binaries / "python", "-I", "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert printed[0] == "48"
    assert Path(printed[1]).is_relative_to(tmp_path)
    demo = Path(printed[1]).parent / "sample/demo.mpt"
    report = subprocess.run(
        [binaries / "mempattern", "report", demo], capture_output=True, text=True, check=True
    ).stdout
    assert "50028 pages in its regions" in report


def test_a_wheel_imports_from_an_empty_directory(wheel, tmp_path):
    """Into a new environment, whose other packages come from ours."""
    assert "-cp311-abi3-linux" in wheel.name
    names = zipfile.ZipFile(wheel).namelist()
    assert "mempattern/_native.abi3.so" in names
    assert "mempattern/sample/demo.mpt" in names
    assert {"mempattern/py.typed", "mempattern/_native.pyi"} <= set(names)
    assert "mempattern_commands.py" in names
    assert "mempattern/schemas/interval-1.json" in names
    assert [name for name in names if name.endswith("/share/man/man1/mempattern-trace.1")]
    assert not [name for name in names if "meson" in name or name.endswith((".c", ".pyc"))]
    assert not [name for name in names if "libmempattern" in name or name.endswith(".h")]

    alone = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(alone)
    empty = tmp_path / "empty"
    empty.mkdir()
    # -S and an own path: neither this checkout nor its editable install is in reach.
    site = [path for path in sys.path if path.endswith("site-packages")]
    program = f"import sys; sys.path[:0] = {[str(alone), *site]!r}; import mempattern; "
    program += "print(mempattern.__file__); import mempattern.microvm as m; print(m.guest_path())"
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], cwd=empty, check=True, capture_output=True, text=True
    )
    assert all(line.startswith(str(alone)) for line in done.stdout.splitlines()), done.stdout


def test_the_version_is_the_same_wherever_it_is_written():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (meson,) = re.findall(r"\n  version: '(.+?)'", (ROOT / "meson.build").read_text())
    (header,) = re.findall(
        r'#define MPAT_VERSION "(.+?)"', (ROOT / "csrc/include/mempattern.h").read_text()
    )
    assert mempattern.__version__ == project["version"] == meson == header


@pytest.mark.usefixtures("kvm")
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_python_examples_run_as_printed(document, capsys):
    """All of a document's examples, one after the other; what a comment promises is printed."""
    space = {}
    for code in re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL):
        exec(compile(code, str(document), "exec"), space)
        printed = capsys.readouterr().out
        for promised in re.findall(r"print\(seen\) +# (.+)", code):
            assert promised in printed


def test_sql_examples_say_what_is_printed():
    """Of docs/trace.md, on the recorded demo; the answers are in the comments after them."""
    database = sqlite3.connect(ROOT / "src/mempattern/sample/demo.mpt")
    examples = re.findall(r"```sql\n(.*?)```", (ROOT / "docs/trace.md").read_text(), re.DOTALL)
    for example in examples:
        rows = database.execute(example).fetchall()
        assert ["-- " + "|".join(map(str, row)) for row in rows] == [
            line for line in example.splitlines() if line.startswith("--")
        ]
    database.close()
    assert len(examples) >= 3


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target


def test_the_c_example_compiles(tmp_path):
    """The C of docs/embedding.md, put into a function."""
    (code,) = re.findall(r"```c\n(.*?)```", (ROOT / "docs/embedding.md").read_text(), re.DOTALL)
    include, body = code.split("\n", 1)
    source = tmp_path / "example.c"
    source.write_text(
        f"{include}\nvoid example(int vm_fd, uint64_t ram_bytes);\n"
        f"void example(int vm_fd, uint64_t ram_bytes)\n{{\n{body}}}\n"
    )
    subprocess.run(
        ["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only",
         f"-I{ROOT / 'csrc/include'}", str(source)],
        check=True,
    )  # fmt: skip


@pytest.mark.parametrize("command", ["mempattern", "trace"])
def test_ctrl_c_while_it_is_imported(command):
    program = f"""
import builtins, sys, mempattern_commands
real = builtins.__import__
def interrupt(name, *more):
    if name == "numpy":
        raise KeyboardInterrupt
    return real(name, *more)
builtins.__import__ = interrupt
sys.exit(mempattern_commands.{command}())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")
