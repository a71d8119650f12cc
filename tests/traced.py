"""What tests of the sources of another process ask: of an interval, and of the process."""

from pathlib import Path

from target import PAGE

from mempattern.sources import ProcessWrites
from mempattern.sources.layout import address_range


def over(target, address, n_pages, **options):
    layout = address_range(address, address + n_pages * PAGE)
    return ProcessWrites(target.pid, layout, **options)


def file_of(tmp_path, n_pages):
    path = tmp_path / "file"
    path.write_bytes(b"x" * (n_pages * PAGE))
    return str(path)


def only(interval):
    """The dirty pages of an interval over one region."""
    (region,) = interval.regions
    return interval.pages(region.name).tolist()


def addresses(interval):
    return {
        region.address + int(page) * region.page_bytes
        for region in interval.regions
        for page in interval.pages(region.name)
    }


def is_watched(pid):
    smaps = Path(f"/proc/{pid}/smaps").read_text()
    return any(line.startswith("VmFlags:") and " uw" in line for line in smaps.splitlines())


def huge_kib(pid, address):
    """In transparent huge pages, of the mapping that has the address."""
    inside = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        head = line.split(" ", 1)[0]
        if "-" in head and ":" not in head:
            low, high = (int(part, 16) for part in head.split("-"))
            inside = low <= address < high or address <= low < address + (8 << 20)
        elif inside and line.startswith("AnonHugePages:") and int(line.split()[1]):
            return int(line.split()[1])
    return 0
