"""What a verdict costs beyond the statistics, for a 1 TiB guest all of whose groups are active."""

import numpy as np
from conftest import keep

from mempattern import GroupStats, Region
from mempattern.classify import MP

N_PAGES = 1 << 28


def bench_mp_observe(benchmark):
    """The link carries little more than is written, so that the projection has passes to follow."""
    region = Region("ram", N_PAGES)
    stats = GroupStats([region])
    random = np.random.default_rng(1)
    written_Bps = N_PAGES // 2 * region.page_bytes / 10
    mp = MP(bandwidth_Bps=1.05 * written_Bps)

    def next_iteration():
        """Half of all pages."""
        words = random.integers(0, 2**64, region.n_words, dtype=np.uint64)
        stats.update({"ram": words}, duration_s=10.0)
        mp.watch(0.05, int(0.05 * written_Bps))

    verdict = benchmark.pedantic(
        lambda: mp.observe(stats, 10.0), setup=next_iteration, rounds=20, warmup_rounds=2
    )
    assert verdict.active_groups == region.n_groups()
    milliseconds = [1e3 * seconds for seconds in benchmark.stats.stats.data]
    keep(benchmark, "the clock", milliseconds, at_most=1, unit=" ms")
