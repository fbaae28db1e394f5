"""Numbers as people write them are exact, and absurd ones are refused at once."""

import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallymesh.quantities import exact_text, parse_decimal, parse_integer


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("10_000", 10_000),
        ("1e10", 10**10),
        ("1E10", 10**10),
        ("1.5e3", 1500),
        ("10^10", 10**10),
        ("2**40", 2**40),
        ("2 ** 8", 256),
        ("-2^3", -8),
        ("-5", -5),
        ("+7", 7),
        (" 7 ", 7),
        ("5.", 5),
        ("0^0", 1),
        ("0^5", 0),
        ("18446744073709551615", 2**64 - 1),
        ("1e4095", 10**4095),
    ],
)
def test_integers(text: str, value: int) -> None:
    assert parse_integer(text) == value
    assert parse_decimal(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        "1e",
        "0x10",
        "1__0",
        "_1",
        "nan",
        "inf",
        "1,000",
        "10^10^10",
        "2**-1",
        "1e5 5",
        "٣",
    ],
)
def test_what_is_no_number_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(ValueError, match="is not a number") as caught:
        parse_integer(text)
    assert repr(text) in str(caught.value)


def test_fractions_are_decimals_and_no_integers() -> None:
    assert parse_decimal("-0.1") == Decimal("-0.1")
    with pytest.raises(ValueError, match=r"'1\.5' is not a whole number"):
        parse_integer("1.5")


@pytest.mark.parametrize(
    "text",
    [
        "9**999999999",
        "9^16385",
        "99^4000",
        "10^4096",
        "1e4096",
        "1e-5000",
        "1e999999999999999999999",
        "9" * 5000,
        "9" * 4000 + "^9999",
        "1." + "0" * 5000,
    ],
)
def test_absurd_sizes_are_refused_at_once(text: str) -> None:
    begun = time.thread_time()
    with pytest.raises(ValueError, match=r"digits|exponent") as caught:
        parse_integer(text)
    assert time.thread_time() - begun < 0.1
    assert len(str(caught.value)) < 150


@given(st.integers(-(10**50), 10**50))
def test_every_integer_survives(value: int) -> None:
    assert parse_integer(str(value)) == parse_integer(f"{value:_}") == value
    assert exact_text(value) == str(value)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=20))
def test_every_decimal_survives(value: Decimal) -> None:
    assert Decimal(exact_text(value)) == parse_decimal(exact_text(value)) == value


def test_floats_are_refused_as_inexact() -> None:
    with pytest.raises(TypeError, match=r"0\.1 is a float"):
        exact_text(0.1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="None is not"):
        exact_text(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not a finite"):
        exact_text(Decimal("NaN"))
    with pytest.raises(ValueError, match="digits"):
        exact_text(10**4096)
