"""Quantities as people write them."""

import math
from contextlib import suppress

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mempattern.errors import UsageError
from mempattern.quantities import (
    BYTES,
    DURATIONS,
    format_bandwidth,
    format_changing_bandwidth,
    format_duration,
    format_range,
    format_size,
    parse_bandwidth,
    parse_changing_bandwidth,
    parse_duration,
    parse_pages,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "bytes_per_s"),
    [
        ("1.25GB/s", 1.25e9), ("1.25 GB/s", 1.25e9), ("1.25GB", 1.25e9), ("10 GBps", 10e9),
        ("10Gbit", 1.25e9), ("10Gbit/s", 1.25e9), ("10Gbps", 1.25e9), ("10gbps", 1.25e9),
        ("10Gb/s", 1.25e9), ("10gbit", 1.25e9), ("8 bit/s", 1.0), ("8bps", 1.0), ("1B/s", 1.0),
        ("125MiB/s", 125 * 2**20), ("1Kibit", 128.0), ("1kB/s", 1e3), ("1KB/s", 1e3),
        ("1e3 kB/s", 1e6), (".5Tbit/s", 6.25e10), (" 100Mbit ", 1.25e7), ("+1.MB/s", 1e6),
    ],
)  # fmt: skip
def test_bandwidths(text, bytes_per_s):
    assert parse_bandwidth(text) == pytest.approx(bytes_per_s, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("300ms", 0.3), ("1s", 1.0), ("1.5 s", 1.5), ("2m", 120.0), ("2min", 120.0),
        ("250us", 250e-6), ("250\u00b5s", 250e-6), ("250\u03bcs", 250e-6), ("1h", 3600.0),
    ],
)  # fmt: skip
def test_durations(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds, rel=1e-15)


def test_sizes():
    assert parse_size("3GiB") == 3 * 2**30
    assert parse_size("512 MB") == 512e6
    assert parse_pages("20000", 4096) == 20_000
    assert parse_pages("1MiB", 4096) == 256
    assert parse_pages("0", 4096) == 0
    assert parse_pages("5000B", 4096) == 1


@pytest.mark.parametrize(
    "text", ["100M", "100 M", "10G/s", "10Gps", "100mb/s", "100mb", "5ki", "1m"]
)
def test_what_may_be_bits_or_bytes_is_refused_with_both_spellings(text):
    with pytest.raises(UsageError, match="may be bits or bytes") as caught:
        parse_bandwidth(text)
    *_, bits, _, size = str(caught.value).split()
    assert parse_bandwidth(size) == pytest.approx(8 * parse_bandwidth(bits))
    assert ("i" in text) == size.endswith("iB/s")


def test_a_bandwidth_fits_into_64_bits():
    assert parse_bandwidth("16777215TiB/s") < 2**64
    with pytest.raises(UsageError, match="more than QEMU takes"):
        parse_bandwidth("16777216TiB/s")


@pytest.mark.parametrize("parse", [parse_bandwidth, parse_duration, parse_size])
@pytest.mark.parametrize(
    "text",
    [
        "", " ", "300", "-1", "fast", "ms", "nan", "infs", "infGB/s", "1e999s", "1e999GB",
        "0ms", "0GB", "-3ms", "-3GB", "1e-400s", "1e-400GB", "1 2 s", "1,5GB", "3 furlongs", "GB",
        "\u0661s", "\u0661GB", "1s\n2s", "10Gbit//s", "10iB", "1_0s", "0x1s",
    ],
)  # fmt: skip
def test_refusals_are_one_sentence_with_an_example(parse, text):
    with pytest.raises(UsageError) as caught:
        parse(text)
    example = str(caught.value).rpartition(" or ")[2]
    assert parse(example) > 0
    assert "\n" not in str(caught.value)


def test_pages_are_refused_with_both_ways_to_say_it():
    for text in ("many", "-3", "3.5", "1" * 20, "0GiB", "10Gbit"):
        with pytest.raises(UsageError, match=r"neither a number of pages, .* nor a size"):
            parse_pages(text, 4096)


@given(st.text(max_size=12))
def test_any_text_is_a_positive_number_or_refused(text):
    for parse in (parse_bandwidth, parse_duration, parse_size):
        with suppress(UsageError):
            assert 0 < parse(text) < math.inf


@given(st.floats(1e-6, 1e9))
def test_a_duration_is_read_as_it_is_shown(seconds):
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=0.006)


@given(st.floats(1, 1e15))
def test_a_bandwidth_is_read_as_it_is_shown(bandwidth):
    assert parse_bandwidth(format_bandwidth(bandwidth)) == pytest.approx(bandwidth, rel=0.006)


@given(st.floats(1, 1e15))
def test_a_size_is_read_as_it_is_shown(n_bytes):
    assert parse_size(format_range(n_bytes, n_bytes, n_bytes, BYTES)) == pytest.approx(
        n_bytes, rel=0.006
    )


@given(st.lists(st.floats(0, 1e6), min_size=3, max_size=3).map(sorted))
def test_a_range_has_one_unit_and_its_bounds(values):
    low, middle, high = values
    assume(high > 1e-3)
    text = format_range(low, middle, high, DURATIONS)
    value, unit = text.partition(" (")[0].split()
    bounds = text.partition("(")[2].rstrip(")") or f"{value}-{value}"
    shown = [bounds.split("-")[0], value, bounds.split("-")[1]]
    assert max(map(float, shown)) >= 1
    for number, expected in zip(shown, values, strict=True):
        least = parse_duration(f"0.001{unit}")
        read = parse_duration(f"{number}{unit}") if float(number) else 0.0
        assert abs(read - expected) <= 0.006 * expected + least


def test_ranges():
    assert format_range(4.21, 4.33, 4.46, DURATIONS) == "4.33 s (4.21-4.46)"
    assert format_range(0.0, 0.004, 0.014, DURATIONS) == "4 ms (0-14)"
    assert format_range(0.2501, 0.2502, 0.2503, DURATIONS) == "250 ms"
    assert format_range(590, 640, 700, DURATIONS) == "10.7 min (9.83-11.7)"
    assert format_range(0.9, 1.0, 1.1, BYTES) == "1 B (0.9-1.1)"
    assert format_range(3, 4, 5) == "4 (3-5)"
    assert format_range(3, 3, 3) == "3"
    assert format_duration(0.9997) == "1 s"
    assert format_bandwidth(1.25e9) == "10 Gbit/s"


@pytest.mark.parametrize(
    ("text", "changes", "again"),
    [
        ("1Gbit", [(0, 125e6)], "1 Gbit/s"),
        ("1Gbit+200Mbit@10s", [(0, 125e6), (10, 25e6)], "1 Gbit/s, 200 Mbit/s from 10 s on"),
        ("1e+9bit + 8e+6bit@1e+0s", [(0, 125e6), (1, 1e6)], "1 Gbit/s, 8 Mbit/s from 1 s on"),
        ("+1MB/s+2MB/s@50ms+3MB/s@1m", [(0, 1e6), (0.05, 2e6), (60, 3e6)],
         "8 Mbit/s, 16 Mbit/s from 50 ms on, 24 Mbit/s from 60 s on"),
    ],
)  # fmt: skip
def test_bandwidths_that_change(text, changes, again):
    found = parse_changing_bandwidth(text)
    assert [pytest.approx(change) for change in changes] == list(found)
    assert format_changing_bandwidth(found) == again


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not a bandwidth"), ("1Gbit+", "does not say from when on"),
        ("1Gbit+2Gbit", "'2Gbit' does not say from when on"), ("1Gbit@10s", "as in 10Gbit"),
        ("1Gbit+2Gbit@10", "has no unit"), ("1Gbit+@10s", "is not a bandwidth"),
        ("1Gbit+2Gbit@0s", "not positive"), ("1Gbit+2Gbit@5s+3Gbit@5s", "do not rise"),
        ("1Gbit+2Gbit@5s+3Gbit@4s", "do not rise"), ("1Gbit+2Gbit@5s@6s", "has the unit 's@6s'"),
    ],
)  # fmt: skip
def test_changes_that_make_no_sense(text, says):
    with pytest.raises(UsageError, match=says):
        parse_changing_bandwidth(text)


def test_sizes_are_shown_with_three_digits():
    assert [format_size(n) for n in (0, 5, 1023, 1024, 130_023_424, 5 * 2**40)] == [
        "0 B", "5 B", "1023 B", "1 KiB", "124 MiB", "5 TiB",
    ]  # fmt: skip
