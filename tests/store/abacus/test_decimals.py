"""Decimals are read exactly or refused at once, and come back plainly."""

import random
import subprocess
import sys
import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallymesh_core.domain.decimals import (
    MAX_DIGITS,
    MAX_SCALE,
    Exact,
    as_int64,
    format_decimal,
    parse_decimal,
)
from tallymesh_core.domain.errors import InvalidField
from tallymesh_core.store import rods


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("0", "0"),
        ("-0", "0"),
        ("-0.00", "0"),
        ("+7", "7"),
        ("007", "7"),
        ("-0.1", "-0.1"),
        (".5", "0.5"),
        ("5.", "5"),
        ("1.500", "1.5"),
        ("1e3", "1000"),
        ("1.25E1", "12.5"),
        ("-12e-4", "-0.0012"),
        ("1500e-2", "15"),
        ("0e300", "0"),
        ("9" * MAX_DIGITS, "9" * MAX_DIGITS),
        ("1e4095", "1" + "0" * 4095),
        ("1e-1024", "0." + "0" * 1023 + "1"),
        ("-" + "1" * 3072 + "." + "2" * 1024, "-" + "1" * 3072 + "." + "2" * 1024),
    ],
)
def test_plain_form(text: str, plain: str) -> None:
    assert format_decimal(parse_decimal(text, "decimal")) == plain


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", ".", "-", "e5", "1e", "1e+", "1 ", " 1", "1_000", "1,5", "0x10", "1.2.3", "--1"),
        *("NaN", "nan", "inf", "-Infinity", "１", "1\n", "½"),
        *("1e999999", "1e-999999", "1e999999999999", "1e4096", "1e-1025", "0e5000000"),
        *("9" * (MAX_DIGITS + 1), "0." + "0" * MAX_SCALE + "1", "1" * 1_000_000),
    ],
)
def test_refused_at_once(text: str) -> None:
    started = time.thread_time()
    with pytest.raises(InvalidField) as caught:
        parse_decimal(text, "decimal")
    assert time.thread_time() - started < 0.1
    assert caught.value.field == "decimal"
    assert "4,096 digits" in caught.value.metadata["bound"]
    assert len(caught.value.message) < 400


def test_is_independent_of_the_limit_on_the_digits_of_an_int() -> None:
    program = (
        "from tallymesh_core.domain.decimals import format_decimal, parse_decimal\n"
        "text = '123456789' * 400\n"
        "assert format_decimal(parse_decimal(text, 'decimal')) == text\n"
    )
    subprocess.run([sys.executable, "-X", "int_max_str_digits=640", "-c", program], check=True)


# Drawn by a seed, as Hypothesis shrinks numbers of this size too slowly.
wide_integers = st.integers(0, 2**32).map(
    lambda seed: random.Random(seed).randint(-(10**4000), 10**4000)
)
decimals = st.builds(
    Exact,
    st.integers() | st.integers(-(10**60), 10**60) | wide_integers,
    st.integers(0, 60) | st.integers(0, MAX_SCALE),
)


@given(decimals)
def test_text_and_rods_keep_the_value(value: Exact) -> None:
    text = format_decimal(value)
    assert set(text) <= set("-0123456789.")
    assert Fraction(text) == Fraction(value.unscaled, 10**value.scale)
    limbs = rods.split(value)
    assert all(0 < abs(limb) < 10**9 for limb in limbs.values())
    assert format_decimal(rods.join(limbs)) == text


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", None),
        ("-9223372036854775808", -(2**63)),
        ("-9223372036854775809", None),
        ("-3.0", -3),
        ("-0.5", None),
        ("1e18", 10**18),
    ],
)
def test_as_int64(text: str, number: int | None) -> None:
    assert as_int64(parse_decimal(text, "decimal")) == number
