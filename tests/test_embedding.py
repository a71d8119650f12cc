"""The installed C library: what it exports, that C and C++ can use it, the example's numbers."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import mempattern
from mempattern._native import ffi, lib

ROOT = Path(__file__).parent.parent
HEADER = ROOT / "csrc/include/mempattern.h"
DECLARED = set(re.findall(r"MPAT_API[^;(]*?\b(mpat_\w+)\(", HEADER.read_text()))
STRICT = ["-Wall", "-Wextra", "-pedantic", "-Werror"]


def run(*command, **more):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """Where `make install-c` has put the library."""
    for program in ("pkg-config", "c++", "nm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not in PATH: apt-get install pkg-config g++ binutils")
    where = tmp_path_factory.mktemp("installed")
    run("make", "-C", str(ROOT), "install-c", f"PREFIX={where}")
    return where


@pytest.fixture
def build(prefix, tmp_path):
    """Compiles a source file against the installed library and runs it."""
    finds = {"PKG_CONFIG_PATH": str(prefix / "lib/pkgconfig"), "PATH": "/usr/bin:/bin"}

    def build(compiler, source, *flags, static=False):
        program = tmp_path / "program"
        asked = ["--cflags", "--libs", *(["--static"] if static else [])]
        options = run("pkg-config", *asked, "mempattern", env=finds).split()
        run(compiler, *flags, *(["-static"] if static else []), str(source), *options,
            "-o", str(program))  # fmt: skip
        return run(str(program), env={"LD_LIBRARY_PATH": str(prefix / "lib")})

    return build


def test_what_is_installed(prefix):
    files = {str(p.relative_to(prefix)) for p in prefix.rglob("*") if not p.is_dir()}
    assert files == {
        "include/mempattern.h",
        "lib/libmempattern.a",
        "lib/libmempattern.so",
        "lib/libmempattern.so.0",
        f"lib/libmempattern.so.{mempattern.__version__}",
        "lib/pkgconfig/mempattern.pc",
    }


def test_it_exports_what_the_header_declares_and_nothing_else(prefix):
    """By the linker's map, which is held to the header too."""
    linker_map = (ROOT / "csrc/mempattern.map").read_text()
    mapped = re.findall(r"^ +(mpat_\w+);", linker_map, re.MULTILINE)
    assert mapped == sorted(DECLARED)
    symbols = run("nm", "-D", "--defined-only", str(prefix / "lib/libmempattern.so.0"))
    exported = [line.split()[-1] for line in symbols.splitlines()]
    assert sorted(exported) == sorted(
        ["MEMPATTERN_0", *(f"{name}@@MEMPATTERN_0" for name in DECLARED)]
    )


def test_the_static_library_defines_no_name_that_is_not_prefixed(prefix):
    symbols = run("nm", "-g", "--defined-only", str(prefix / "lib/libmempattern.a"))
    names = [line.split()[2] for line in symbols.splitlines() if len(line.split()) == 3]
    assert set(names) > DECLARED
    assert all(name.startswith("mpat_") for name in names)


PROGRAM = """
#include <mempattern.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
    const uint64_t bitmap[] = {7};
    uint32_t count = 0;

    if (mpat_group_counts(bitmap, 64, 64, &count) != 0 || count != 3)
        return 1;
    return puts(mpat_version()) < 0 || strcmp(mpat_version(), MPAT_VERSION) != 0;
}
"""


@pytest.mark.parametrize("static", [False, True], ids=["shared", "static"])
@pytest.mark.parametrize(
    ("compiler", "standard"), [("cc", "c11"), ("c++", "c++17"), ("c++", "c++20")]
)
def test_c_and_cplusplus_include_and_link_it(build, tmp_path, compiler, standard, static):
    source = tmp_path / ("program.c" if compiler == "cc" else "program.cc")
    source.write_text(PROGRAM)
    printed = build(compiler, source, f"-std={standard}", *STRICT, static=static)
    assert printed == f"{mempattern.__version__}\n"


def hold_to_the_guest(printed):
    """Each round the guest writes 16 pages of group 0 again and 4 new ones of group 1."""
    intervals, groups, curve = re.fullmatch(
        r"((?:interval .+\n)+)group .+\n((?: .+\n)+?)intervals .+\n((?: .+\n)+)", printed
    ).groups()
    assert intervals.splitlines() == [
        f"interval {i}: 20 dirty, {16 if i else 0} redirtied, {4 if i else 20} fresh"
        for i in range(16)
    ]
    rows = [[int(word) for word in line.split()] for line in groups.splitlines()]
    assert rows == [[0, 16, 16 * 16, 16], [1, 64, 4 * 16, 16], [2, 0, 0, 0]]
    windows = [[float(word) for word in line.split()] for line in curve.splitlines()]
    lengths = [1, 2, 3, 4, 6, 8, 12, 16]
    assert [[n, count, pages] for n, count, _, pages in windows] == [
        [n, 16 // n, 16 + 4 * n] for n in lengths
    ]
    assert all(duration_s > 0 for _, _, duration_s, _ in windows)


@pytest.mark.usefixtures("kvm")
def test_the_example_sees_what_its_guest_wrote(build):
    hold_to_the_guest(build("cc", ROOT / "examples/vmm.c", "-std=c11", "-O2", *STRICT))


def test_the_page_shows_what_the_example_prints():
    page = (ROOT / "docs/embedding.md").read_text()
    (shown,) = re.findall(r"\$ ./vmm\n(.*?)```", page, re.DOTALL)
    between = "".join(f"interval {i}: 20 dirty, 16 redirtied, 4 fresh\n" for i in range(2, 15))
    hold_to_the_guest(shown.replace("...\n", between))


def test_the_examples_errors_say_which_call(build, tmp_path):
    """Where there is no KVM, as in a source that looks for it elsewhere."""
    source = tmp_path / "vmm.c"
    source.write_text((ROOT / "examples/vmm.c").read_text().replace("/dev/kvm", "/dev/no-kvm"))
    with pytest.raises(AssertionError, match="vmm: /dev/no-kvm: No such file or directory"):
        build("cc", source)


@pytest.mark.parametrize(
    ("name", "n_bytes"),
    [("mpat_origin", 16), ("mpat_seen", 40), ("mpat_groups", 72), ("mpat_window", 48),
     ("mpat_sent", 24), ("mpat_memslot", 16), ("mpat_collection", 40), ("mpat_kvm_fault", 24),
     ("mpat_process_fault", 16), ("mpat_mapping", 40), ("mpat_process_collection", 48),
     ("mpat_ramblock", 264), ("mpat_ramstream_state", 48), ("mpat_ramstream_pass", 48)],
)  # fmt: skip
def test_structs_are_as_libmempattern_so_0_has_them(name, n_bytes):
    """A caller has room for so much: another size takes another soname."""
    assert ffi.sizeof(name) == n_bytes


def test_every_struct_is_in_the_list_above():
    (listed,) = [
        mark.args[1]
        for mark in test_structs_are_as_libmempattern_so_0_has_them.pytestmark
        if mark.name == "parametrize"
    ]
    defined = re.findall(r"^} (mpat_\w+);", HEADER.read_text(), re.MULTILINE)
    assert sorted(name for name, _ in listed) == sorted(defined)


def test_the_python_module_says_the_same_version():
    assert ffi.string(lib.mpat_version()).decode() == mempattern.__version__
