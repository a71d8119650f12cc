"""The instructions of the C core's pieces of work, against those kept (benches/instructions.py)."""

import json
import warnings

import instructions
import pytest
from instructions import Piece


def of(**counts):
    return {name: Piece(n, 1, "word", n) for name, n in counts.items()}


@pytest.mark.usefixtures("callgrind")
def test_no_piece_takes_more_instructions_than_are_kept():
    kept, counted = instructions.load(instructions.KEPT), instructions.count()
    worse = instructions.worse(kept, counted)
    assert not worse, "\n".join([*worse, "If that is meant, keep the new ones: make instructions"])
    for name, change in instructions.changes(kept, counted).items():
        if change < -instructions.TOLERANCE:  # what was won could be lost again unseen
            warnings.warn(
                f"{name} takes {-change:.1%} less: make instructions keeps that", stacklevel=1
            )


def test_only_what_exceeds_the_tolerance_is_worse():
    kept = of(a=1000, b=1000, c=1000)
    assert instructions.worse(kept, of(a=1029, b=1000, c=10)) == []
    (said,) = instructions.worse(kept, of(a=1031, b=1000, c=10))
    assert said == "a takes 3.1% more instructions than are kept (1,031 instead of 1,000)"


def test_pieces_that_come_and_go_are_told():
    assert instructions.worse(of(a=1, b=1), of(b=1, c=1)) == [
        "a is kept, but not counted any more",
        "c is counted, but not kept yet",
    ]


def test_totals_belong_to_pieces_in_order():
    lines = ["update, dense[avx2],word,10", "ring harvest,entry,7"]
    assert instructions.pieces(lines, [25, 7, 0]) == {
        "update, dense[avx2]": Piece(25, 10, "word", 2.5),
        "ring harvest": Piece(7, 7, "entry", 1.0),
    }
    with pytest.raises(ValueError, match="zip"):  # callgrind dumped more, or less, than was printed
        instructions.pieces(lines, [25, 7])


def test_what_is_kept_reads_as_it_was_written(tmp_path):
    path = tmp_path / "kept.json"
    path.write_text(instructions.as_json(of(a=5, b=6)))
    assert instructions.load(path) == of(a=5, b=6)


def test_another_compiler_is_no_regression(tmp_path, monkeypatch):
    here = {"compiler": "gcc 12.2.0", "libc": "glibc 2.36", "valgrind": "v", "processor": "p"}
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps({"tools": here, "pieces": {}}))
    monkeypatch.setattr(instructions, "tools", lambda: here)
    assert instructions.problem(kept) is None
    monkeypatch.setattr(instructions, "tools", lambda: here | {"compiler": "gcc 13.1.0"})
    assert "compiler gcc 12.2.0, here gcc 13.1.0:" in instructions.problem(kept)
    monkeypatch.setattr(instructions, "tools", lambda: here | {"valgrind": None})
    assert "apt-get install valgrind" in instructions.problem(kept)
