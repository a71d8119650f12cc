"""What is not compiled, and what is said then: functions, dtypes, an environment without Numba."""

import os
import subprocess
import sys

import numpy as np
import pytest

from mempattern import errors, jit


def no_such_method(words, n_pages):
    return words.n_pages


def writes_to_the_bitmap(words, n_pages):
    words[0] = 0
    return 0


def imports(words, n_pages):
    import math  # noqa: PLC0415

    return math.inf


def one_argument(words):
    return 0


def says_nothing(words, n_pages):
    pass


def sometimes_says_nothing(words, n_pages):
    if n_pages > 64:
        return 1


def a_float(words, n_pages):
    return 0.5


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            no_such_method,
            r"no_such_method does not compile in Numba's nopython mode: Unknown attribute "
            r"'n_pages' of type .* \(line \d+\)$",
        ),
        (writes_to_the_bitmap, r"nopython mode: Cannot modify readonly array"),
        (imports, r"nopython mode: Use of unsupported opcode \(IMPORT_NAME\) found"),
        (one_argument, r"one_argument must take the arguments \(words, n_pages\), not \(words\)$"),
        (says_nothing, r"says_nothing must return a number, not none$"),
        (sometimes_says_nothing, r"must return a number, not Option"),
        (a_float, r"a_float returns float64, and result is uint32: make result a float"),
        (abs, r"only a Python function can be compiled, not <built-in"),
    ],
)
def test_what_is_no_reducer_is_told_in_a_sentence(function, message):
    with pytest.raises(errors.UsageError, match=message) as raised:
        jit.group_reducer(np.uint32)(function)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    assert "\n" not in str(raised.value)


def test_what_is_no_policy_is_told_in_a_sentence():
    with pytest.raises(errors.UsageError, match=r"must take the arguments \(passes\)"):
        jit.policy(a_float)


@pytest.mark.parametrize(
    ("result", "state", "message"),
    [
        ("f2", None, "result must be the dtype of integers, bools, float32 or float64"),
        ("O", None, "result must be the dtype"),
        ("no such", None, "result must be a dtype, not 'no such'"),
        (">u4", None, "result has dtype >u4, which Numba does not compile"),
        (
            "u4",
            "f8",
            r"state must be a structured dtype, not float64: write \[\('some_name', '<f8'",
        ),
        ("u4", [("a", "O")], "state has dtype .*, which Numba does not compile"),
    ],
)
def test_dtypes_that_cannot_be(result, state, message):
    with pytest.raises(errors.UsageError, match=message):
        jit.group_reducer(result, state=state)(lambda words, n_pages, *_state: 0)


def run_python(program, **environment):
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_numba_is_imported_only_when_asked_for():
    assert run_python("import mempattern, sys; print('numba' in sys.modules)") == "False"


def test_without_numba_the_extra_is_named():
    said = run_python(
        "import sys; sys.modules['numba'] = None\n"
        "try: from mempattern import jit\n"
        "except ImportError as error: print(type(error).__name__, error)"
    )
    assert said == (
        "MissingPackageError compiling your own functions needs the package numba: "
        "pip install 'mempattern[jit]'"
    )


def test_what_the_environment_may_forbid():
    """Numba's switch to turn compiling off; and a kernel that cannot run."""
    reducer = "@jit.group_reducer('u4')\ndef f(words, n_pages):\n    return 0"
    counts = "import numpy as np\njit.group_counts(np.zeros(1, 'u8'), 64, 64, np.zeros(1, 'u4'))"
    for program, environment, message in [
        (reducer, {"NUMBA_DISABLE_JIT": "1"}, "f cannot be compiled while NUMBA_DISABLE_JIT is"),
        (counts, {"MEMPATTERN_KERNEL": "sse9"}, "MEMPATTERN_KERNEL names a kernel that cannot"),
    ]:
        indented = program.replace("\n", "\n    ")
        caught = (
            f"from mempattern import jit\ntry:\n    {indented}\nexcept Exception as e: print(e)"
        )
        assert run_python(caught, **environment).startswith(message)
