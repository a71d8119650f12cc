"""Regions that come and grow at either end, as the stateful tests have them follow."""

from dataclasses import replace

from mempattern import Region

MOST_REGIONS = 5


def new_region(number, n_pages):
    """With room to grow at its start."""
    return Region(f"slot {number}", n_pages, address=(number + 1) << 40)


def grown_regions(regions, growths, new, group_pages, order):
    """`growths` are groups in front and pages behind, `new` sizes of further regions."""
    grown = []
    for region, (groups, pages) in zip(regions, growths, strict=False):
        front = groups * group_pages
        grown.append(
            replace(
                region,
                address=region.address - front * region.page_bytes,
                n_pages=region.n_pages + front + pages,
            )
        )
    for n_pages in new[: MOST_REGIONS - len(grown)]:
        grown.append(new_region(len(grown), n_pages))
    order.shuffle(grown)
    return tuple(grown)
