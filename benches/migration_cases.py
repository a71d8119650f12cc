"""The migrations that are run: every pattern of the guest, by sizes, rates, links and limits.

Two sets, drawn alike from different seeds. `dev` is for choosing and calibrating; `held` is for
judging, and nobody looks at its results before everything is chosen. `untraced` is a third one,
for judging as well, of guests that are not traced any more while they migrate.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

PAGE = 4096
SENT = 4104  # bytes of a page in QEMU's stream: 8 of header
PATTERNS = ("idle", "sweep", "stride", "hotset", "uniform", "zipf", "phased", "phased")
PER_SET = 40
FILL_BYTES_START = 272 << 20
"""Behind the pages that the guest program works on, which begin at 16 MiB."""


@dataclass(frozen=True)
class Case:
    name: str
    accel: str
    command_line: str
    ram_mib: int
    fill_mib: int
    """Memory that is not zero, and that nobody writes."""
    bandwidth_Bps: int
    downtime_limit_ms: int
    clear_shift: int
    """log2 of the pages that QEMU clears in KVM's log at once; 18 is its default."""
    warm_up_s: float
    observe_s: float
    patience_s: float
    is_traced_meanwhile: bool = True
    """Else it is traced before only, as who asks for a forecast does it."""


def draw(which: str, seed: int) -> list[Case]:
    rng = random.Random(seed)
    return [_case(f"{which}-{i:02d}", PATTERNS[i % len(PATTERNS)], rng) for i in range(PER_SET)]


def _case(name: str, pattern: str, rng: random.Random) -> Case:
    accel = rng.choices(("kvm", "tcg"), (0.6, 0.4))[0]
    megabytes_per_s = rng.choice((15, 25, 40, 60, 80, 110))
    bandwidth = megabytes_per_s * 1_000_000
    pages_per_s = bandwidth / SENT
    limit_ms = rng.choice((300, 300, 300, 100, 600, 1000))
    # How much is written for each page that can be sent: half of the guests write less.
    load = rng.choice((0.1, 0.3, 0.5, 0.7, 0.85, 1.2, 1.6, 2.5))
    most = 14_000 if accel == "kvm" else 40_000
    rate = int(min(load * pages_per_s, most))
    pages = int(2 ** rng.uniform(10, 15.5))
    bulk_s = rng.uniform(1.5, 7)
    fill = max(0, min(700, int(bulk_s * bandwidth / 2**20 - pages * PAGE / 2**20)))
    line = f"pattern={pattern} pages={pages} rate={max(rate, 10)} seed={rng.randrange(1, 1000)}"
    if pattern == "stride":
        line += f" stride={rng.choice((3, 16, 64))}"
    if pattern == "hotset":
        line += f" hot={max(64, int(pages * rng.choice((0.02, 0.1, 0.3))))}"
    if pattern == "phased":
        busy = rng.choice(("uniform", "sweep", "hotset", "zipf"))
        calm = rng.choice(("idle", "idle", "hotset"))
        period_s = rng.choice((1.5, 3, 6))
        line += f" a={busy} b={calm} phase={max(1, int(rate * period_s / 2))}"
        line += f" hot={max(64, pages // 20)}"
    used = (FILL_BYTES_START >> 20) + fill
    return Case(
        name=name, accel=accel, command_line=line,
        ram_mib=next(size for size in (512, 768, 1024, 1536) if size >= used + 16),
        fill_mib=fill, bandwidth_Bps=bandwidth, downtime_limit_ms=limit_ms,
        clear_shift=rng.choice((18, 18, 13)), warm_up_s=5.0, observe_s=10.0,
        patience_s=40.0,
    )  # fmt: skip


def draw_hard(which: str, seed: int) -> list[Case]:
    """Around the edge of what stock QEMU completes, and beyond it."""
    rng = random.Random(seed)
    return [_hard(f"{which}-{i:02d}", HARD[i % len(HARD)], rng) for i in range(HARD_PER_SET)]


def _hard(name: str, pattern: str, rng: random.Random) -> Case:
    accel = rng.choices(("kvm", "tcg"), (0.6, 0.4))[0]
    bandwidth = rng.choice((15, 25, 40) if accel == "kvm" else (15, 25, 40, 60, 80)) * 1_000_000
    pages_per_s = bandwidth / SENT
    limit_ms = rng.choice((300, 300, 150, 500))
    at_limit = pages_per_s * limit_ms / 1000
    pages = int(at_limit * rng.choice((0.7, 1.5, 2.5, 5)))
    rate = int(
        min(pages_per_s * rng.choice((0.9, 1.3, 2, 4)), 13_000 if accel == "kvm" else 60_000)
    )
    line = f"pattern={pattern} pages={pages} rate={rate} seed={rng.randrange(1, 1000)}"
    if pattern == "stride":
        line += f" stride={rng.choice((3, 16))}"
    if pattern == "hotset":
        line += f" hot={int(pages * rng.choice((0.2, 0.5)))}"
    if pattern == "phased":
        line += f" a={rng.choice(('uniform', 'sweep'))} b={rng.choice(('hotset', 'zipf'))}"
        line += f" phase={int(rate * rng.choice((1, 2)))} hot={max(64, pages // 4)}"
    fill = int(rng.uniform(1, 3) * bandwidth / 2**20)
    return Case(
        name=name, accel=accel, command_line=line, ram_mib=768 if fill > 200 else 512,
        fill_mib=fill, bandwidth_Bps=bandwidth, downtime_limit_ms=limit_ms, clear_shift=18,
        warm_up_s=3.0, observe_s=8.0, patience_s=30.0,
    )  # fmt: skip


def draw_fierce(which: str, seed: int) -> list[Case]:
    """Far beyond it: more is written than sent, to more memory than the limit allows."""
    rng = random.Random(seed)
    return [_fierce(f"{which}-{i:02d}", HARD[i % len(HARD)], rng) for i in range(FIERCE_PER_SET)]


def _fierce(name: str, pattern: str, rng: random.Random) -> Case:
    case = _hard(name, pattern, rng)
    words = dict(word.split("=") for word in case.command_line.split())
    pages_per_s = case.bandwidth_Bps / SENT
    at_limit = pages_per_s * case.downtime_limit_ms / 1000
    pages = int(at_limit * rng.choice((3, 5, 8)))
    most = 13_000 if case.accel == "kvm" else 80_000
    words |= {
        "pages": str(pages),
        "rate": str(int(min(pages_per_s * rng.choice((1.8, 2.5, 4)), most))),
    }
    if pattern in ("hotset", "phased"):
        words["hot"] = str(int(pages * rng.choice((0.5, 0.8))))
    if pattern == "phased":
        words["phase"] = str(int(words["rate"]) * rng.choice((1, 2)))
    line = " ".join(f"{key}={value}" for key, value in words.items())
    return replace(case, command_line=line, patience_s=20.0)


def draw_untraced(seed: int) -> list[Case]:
    easy, hard = draw("", seed)[:UNTRACED_OF_EACH], draw_hard("", seed)[:UNTRACED_OF_EACH]
    return [
        replace(case, name=f"untraced-{i:02d}", is_traced_meanwhile=False)
        for i, case in enumerate((*easy, *hard))
    ]


HARD = ("sweep", "hotset", "uniform", "zipf", "phased", "stride")
HARD_PER_SET = 24
FIERCE_PER_SET = 12
UNTRACED_OF_EACH = 8
CASES = {
    "dev": draw("dev", 20261125),
    "held": draw("held", 77),
    "dev-hard": draw_hard("dev-hard", 4),
    "held-hard": draw_hard("held-hard", 1234),
    "dev-fierce": draw_fierce("dev-fierce", 5),
    "held-fierce": draw_fierce("held-fierce", 99),
    "untraced": draw_untraced(2026),
}
