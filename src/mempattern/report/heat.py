"""Where in the memory it happened: a strip of cells for each of the most active regions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mempattern.analysis.watch import Row
from mempattern.regions import Region

Density = npt.NDArray[np.float64]
"""Share of dirty pages, 0 to 1, in each of a few equal stretches of a region."""

CELLS = 64
"""Columns of all regions' strips together, where there is room for them."""

_LABEL = 8
_ENOUGH = 9  # cells of a region, before another one is left out for its sake


@dataclass(frozen=True, slots=True)
class Strip:
    """A region's place on a line."""

    region: Region
    n_cells: int
    width: int
    """Of the column: room for the cells and for the beginning of the name."""

    @property
    def heading(self) -> str:
        name = self.region.name
        long = f"{name} address →"
        return (long if len(long) <= self.width else name)[: self.width].ljust(self.width)

    def density(self, row: Row) -> Density:
        """What the row's interval did to the region as it is now: `n_cells` shares."""
        region, group_pages = self.region, row.group_pages
        n_groups = region.n_groups(group_pages)
        dirty = np.zeros(n_groups)
        if (activity := row.active.get(region.name)) is not None:
            below = activity.region.address - region.address
            first = max(0, below // (region.page_bytes * group_pages))
            known = activity.dirty[: n_groups - first]
            dirty[first : first + known.size] = known
        edges = np.linspace(0, n_groups, self.n_cells + 1).astype(np.int64)
        pages = np.minimum(edges * group_pages, region.n_pages)
        return np.asarray(np.add.reduceat(dirty, edges[:-1]) / np.diff(pages))


class Strips:
    """Shares a line's columns out among the regions most written to, and keeps to these while it
    can, so that one line compares with the next.
    """

    def __init__(self) -> None:
        self.shown: tuple[Strip, ...] = ()
        self.n_hidden: int = 0
        self._dirty: dict[str, int] = {}
        self._names: frozenset[str] = frozenset()
        self._for: tuple[tuple[Region, ...], int] = ((), 0)

    def follow(self, row: Row, cells: int) -> None:
        """Count the row in, and see whether the strips still fit it and the width of the line."""
        for name, activity in row.active.items():
            self._dirty[name] = self._dirty.get(name, 0) + activity.seen.dirty_pages
        names = self._choose(row, cells)
        if names == self._names and self._for == (row.regions, cells):
            return
        self._names, self._for = names, (row.regions, cells)
        shown = [region for region in row.regions if region.name in names]
        self.shown = _share_out(shown, cells, row.group_pages)
        self.n_hidden = len(row.regions) - len(shown)

    def _choose(self, row: Row, cells: int) -> frozenset[str]:
        """As many as have room, the most active first; one that is drawn gives way to one that is
        not when that has been twice as active.
        """

        def rank(region: Region) -> tuple[int, int]:
            return self._dirty.get(region.name, 0), region.n_pages * region.page_bytes

        best: set[str] = set()
        for region in sorted(row.regions, key=rank, reverse=True):
            wanted = min(region.n_groups(row.group_pages), _ENOUGH)
            cells -= max(wanted, min(len(region.name), _LABEL)) + 1
            if cells < -1 and best:
                break
            best.add(region.name)
        coming, going = best - self._names, self._names - best
        if coming and going:
            most = max(self._dirty.get(name, 0) for name in coming)
            if most <= 2 * min(self._dirty.get(name, 0) for name in going):
                return self._names
        return frozenset(best)


def _share_out(regions: list[Region], cells: int, group_pages: int) -> tuple[Strip, ...]:
    """By size; every region gets room for a few letters of its name, none more cells than groups.

    The small ones come first, so that what they do not need is left for the large.
    """
    sizes = {region.name: region.n_pages * region.page_bytes for region in regions}
    unshared = sum(sizes.values())
    strips: dict[str, Strip] = {}
    cells += 1  # a blank follows each, but none the last
    for region in sorted(regions, key=lambda region: sizes[region.name]):
        label = min(len(region.name), _LABEL, cells - 1)
        fair = round(cells * sizes[region.name] / unshared) - 1
        n_cells = min(max(fair, label, 1), region.n_groups(group_pages))
        strips[region.name] = Strip(region, n_cells, max(n_cells, label))
        cells -= strips[region.name].width + 1
        unshared -= sizes[region.name]
    return tuple(strips[region.name] for region in regions)


def heat_level(density: Density, n_levels: int) -> list[int]:
    """0 for no dirty page, else 1 to n_levels - 1 on a square-root scale, which shows the faint."""
    scaled = np.ceil(np.sqrt(np.clip(density, 0, 1)) * (n_levels - 1))
    return [int(level) for level in scaled]
