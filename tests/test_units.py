"""Quantities: what is read, what is refused and how, and that printing can be read back."""

from __future__ import annotations

import contextlib
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdplan import units
from pdplan.errors import InputError

ACCEPTED = [
    (units.parse_tokens, "4k", 4096),
    (units.parse_tokens, "1k", 1024),
    (units.parse_tokens, "1.5K", 1536),
    (units.parse_tokens, "4,000", 4000),
    (units.parse_tokens, "1_000_000", 1_000_000),
    (units.parse_tokens, "1M", 1_048_576),
    (units.parse_tokens, "4096 tokens", 4096),
    (units.parse_tokens, 8192.0, 8192),
    (units.parse_tokens, "1e3", 1000),
    (units.parse_duration_s, "30 ms", 0.03),
    (units.parse_duration_s, "250us", 250e-6),
    (units.parse_duration_s, "250µs", 250e-6),
    (units.parse_duration_s, "1.5min", 90.0),
    (units.parse_duration_s, "2h", 7200.0),
    (units.parse_duration_s, ".5s", 0.5),
    (units.parse_duration_s, "2 seconds", 2.0),
    (units.parse_duration_s, "40msec", 0.04),
    (units.parse_duration_s, "3 minutes", 180.0),
    (units.parse_rate_per_s, "120 rpm", 2.0),
    (units.parse_rate_per_s, "6krpm", 100.0),
    (units.parse_duration_s, 2, 2.0),
    (units.parse_bandwidth_bytes_per_s, "400Gbps", 50e9),
    (units.parse_bandwidth_bytes_per_s, "400 Gb/s", 50e9),
    (units.parse_bandwidth_bytes_per_s, "400Gbit/s", 50e9),
    (units.parse_bandwidth_bytes_per_s, "50GB/s", 50e9),
    (units.parse_bandwidth_bytes_per_s, "50GiB/s", 50 * 2**30),
    (units.parse_bandwidth_bytes_per_s, "4.8TB/s", 4.8e12),
    (units.parse_bytes, "80GB", 80e9),
    (units.parse_bytes, "80gb", 80e9),
    (units.parse_bytes, "80 GiB", 80 * 2**30),
    (units.parse_bytes, "80Gi", 80 * 2**30),
    (units.parse_bytes, "512", 512.0),
    (units.parse_rate_per_s, "20", 20.0),
    (units.parse_rate_per_s, "20/s", 20.0),
    (units.parse_rate_per_s, "20 rps", 20.0),
    (units.parse_rate_per_s, "20 req/s", 20.0),
    (units.parse_rate_per_s, "1200/min", 20.0),
    (units.parse_rate_per_s, "2k requests/s", 2000.0),
    (units.parse_rate_per_s, "5M/day", 5e6 / 86400),
    (units.parse_money, "2.60", 2.6),
    (units.parse_money, "$2.60", 2.6),
    (units.parse_money, "$2.60/h", 2.6),
    (units.parse_money, "2.60 USD", 2.6),
    (units.parse_money, "$1,234.50", 1234.5),
    (units.parse_money, 0, 0.0),
    (units.parse_fraction, "90%", 0.9),
    (units.parse_fraction, "90 %", 0.9),
    (units.parse_fraction, "0.9", 0.9),
    (units.parse_fraction, "p99", 0.99),
    (units.parse_fraction, "P99.9", 0.999),
    (units.parse_fraction, 1, 1.0),
]

PARSERS = [
    units.parse_tokens,
    units.parse_duration_s,
    units.parse_bandwidth_bytes_per_s,
    units.parse_bytes,
    units.parse_rate_per_s,
    units.parse_money,
    units.parse_fraction,
]


@pytest.mark.parametrize(("parse", "given_value", "expected"), ACCEPTED)
def test_accepts(parse, given_value, expected):
    assert parse(given_value) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize(
    "value",
    [
        *("", "  ", "nan", "inf", "-inf", "-1", "-1s", "$-1", "1e999", "ten", "1,5", "1.2.3", "1__e", "٣"),
        *("8 parsecs", "1" * 400, "\\x00", "1\\n2"),
        *(math.nan, math.inf, -math.inf, -1, 10**400, True, None, []),
    ],
)
def test_refuses_what_is_no_quantity(parse, value):
    with pytest.raises(InputError) as caught:
        parse(value, name="--flag")
    message = str(caught.value)
    assert message.startswith("--flag: ")
    assert "rite for example" in message
    assert len(caught.value.messages) == 1
    assert len(message) < 300


@pytest.mark.parametrize("parse", [p for p in PARSERS if p not in (units.parse_money, units.parse_fraction)])
def test_zero_is_refused_unless_it_makes_sense(parse):
    zero = "0GB/s" if parse is units.parse_bandwidth_bytes_per_s else "0"
    with pytest.raises(InputError, match="more than zero"):
        parse(zero)
    assert parse(zero, allow_zero=True) == 0


@pytest.mark.parametrize(
    ("parse", "value", "hint"),
    [
        (units.parse_bandwidth_bytes_per_s, "400gbs", "'Gbps' or 'GB/s'"),
        (units.parse_bandwidth_bytes_per_s, "400gbps", "'Gbps' or 'GB/s'"),
        (units.parse_bandwidth_bytes_per_s, "400G", "'Gbps' or 'GB/s'"),
        (units.parse_bandwidth_bytes_per_s, "400Gbs", "'Gbps' or 'GB/s'"),
        (units.parse_bandwidth_bytes_per_s, "400", "it has no unit"),
        (units.parse_duration_s, "5m", "'ms' or 'min'"),
        (units.parse_duration_s, "5mins", "'min'"),
        (units.parse_bytes, "80GBs", "'GB'"),
        (units.parse_rate_per_s, "20/sek", "'/sec'"),
        (units.parse_fraction, "90", "did you mean '90%'"),
        (units.parse_tokens, "1.3k", "1331.2 tokens, expected a whole number"),
        (units.parse_tokens, "1e12", "above the maximum of 100,000,000 tokens"),
        (units.parse_duration_s, "400d", "above the maximum of 366 days"),
        (units.parse_money, "€5", "does not start with a number"),
    ],
)
def test_says_what_was_meant(parse, value, hint):
    with pytest.raises(InputError) as caught:
        parse(value)
    assert hint in str(caught.value)


def test_one_is_no_percentile():
    with pytest.raises(InputError, match="below 100%"):
        units.parse_fraction("p100", allow_one=False)


positive = st.floats(min_value=1e-8, max_value=1e7, allow_subnormal=False)


@given(positive)
def test_durations_read_back(seconds):
    assert units.parse_duration_s(units.format_duration(seconds)) == pytest.approx(seconds, rel=5.1e-3)


@given(st.floats(min_value=1, max_value=9e17), st.booleans())
def test_bytes_read_back(count, binary):
    text = units.format_bytes(count, binary=binary)
    assert units.parse_bytes(text) == pytest.approx(count, rel=5.1e-3)


@given(st.floats(min_value=1, max_value=9e17))
def test_bandwidths_read_back(rate):
    text = units.format_si(rate, "B/s")
    if not text.endswith("EB/s"):
        assert units.parse_bandwidth_bytes_per_s(text) == pytest.approx(rate, rel=5.1e-3)


@given(positive)
def test_rates_read_back(rate):
    assert units.parse_rate_per_s(units.format_rate(min(rate, 9e6))) == pytest.approx(
        min(rate, 9e6), rel=5.1e-3
    )


@given(st.floats(min_value=1e-6, max_value=9e8))
def test_money_reads_back(dollars):
    assert units.parse_money(units.format_money(dollars)) == pytest.approx(dollars, rel=5.1e-3)


@given(st.floats(min_value=0, max_value=1))
def test_shares_read_back(share):
    assert units.parse_fraction(units.format_percent(share, 4)) == pytest.approx(share, abs=1e-6)


@given(st.integers(min_value=1, max_value=10**8))
def test_counts_read_back(count):
    assert units.parse_tokens(units.format_count(count)) == count


@given(positive, positive)
def test_printed_durations_keep_their_order(one, other):
    low, high = sorted((one, other))
    printed = [units.parse_duration_s(units.format_duration(x)) for x in (low, high)]
    assert printed[0] <= printed[1] * (1 + 1e-12)


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused_with_an_input_error(text):
    for parse in PARSERS:
        with contextlib.suppress(InputError):
            assert math.isfinite(parse(text))


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        (units.format_duration(999.6e-6), "1.00 ms"),
        (units.format_duration(99.96), "1.67 min"),
        (units.format_duration(5e-10), "0.500 ns"),
        (units.format_duration(-0.0188), "-18.8 ms"),
        (units.format_duration(math.nan), "n/a"),
        (units.format_duration(math.inf), "∞"),
        (units.format_bytes(999.7e9), "1.00 TB"),
        (units.format_bytes(0), "0 B"),
        (units.format_si(989e12, "FLOP/s"), "989 TFLOP/s"),
        (units.format_si(0.05, "FLOP/s"), "0.0500 FLOP/s"),
        (units.format_money(0.9999), "$1.00"),
        (units.format_money(0.999), "$0.999"),
        (units.format_rate(0), "0 req/s"),
        (units.format_percent(math.nan), "n/a"),
    ],
)
def test_prints(printed, expected):
    assert printed == expected


def test_importing_units_errors_and_files_imports_nothing_heavy():
    code = (
        "import sys, pdplan.units, pdplan.errors, pdplan.catalog.store;"
        "import pdplan.documents.files, pdplan.documents.validation;"
        "print(sorted({'numpy', 'scipy', 'pydantic', 'yaml', 'typer', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
