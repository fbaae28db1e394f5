"""Add: exact, canonical, the same however it is cut."""

import re
from fractions import Fraction
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallymesh.v1.work_pb2 import Add, Result
from tallymesh_kernels import Cancelled, Chunk, Invalid
from tallymesh_kernels.add import AddKernel
from tests.unit.kernels.recording import Recording

CANONICAL = re.compile(r"(?!-0$)-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?")

DECIMALS = st.from_regex(
    r"[+-]?([0-9]{1,20}(\.[0-9]{0,20})?|\.[0-9]{1,20})([eE][+-]?(0?[0-9]{1,3}|10[01][0-9]))?",
    fullmatch=True,
    alphabet=st.characters(codec="ascii"),
)


def total(numbers: list[str], chunks: int = 1) -> str:
    kernel = AddKernel()
    work = Add(numbers=numbers)
    kernel.validate(work)
    partials = [kernel.run(work, Chunk(index, chunks), Recording()) for index in range(chunks)]
    result = kernel.finish(work, reduce(kernel.merge, partials))
    assert kernel.amount(result) == result.add.sum
    return result.add.sum


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (["2", "3"], "5"),
        (["0.1", "0.2"], "0.3"),
        (["1e3"], "1000"),
        (["1e-3", "+.5", "5."], "5.501"),
        (["-0"], "0"),
        (["0e1024"], "0"),
        (["-1.50", "1.5"], "0"),
        (["-1.50"], "-1.5"),
        (["100"], "100"),
        (["9" * 64, "1"], "1" + "0" * 64),
        (["1e1024", "1e-1024"], "1" + "0" * 1024 + "." + "0" * 1023 + "1"),
        (["1E+2", "00012.3400"], "112.34"),
    ],
)
def test_known_sums(numbers: list[str], expected: str) -> None:
    assert total(numbers) == expected


@given(numbers=st.lists(DECIMALS, min_size=1, max_size=30), chunks=st.integers(1, 40))
def test_exact_and_canonical_for_any_cut(numbers: list[str], chunks: int) -> None:
    found = total(numbers, chunks)
    assert Fraction(found) == sum(map(Fraction, numbers))
    assert CANONICAL.fullmatch(found)


@given(st.lists(DECIMALS, min_size=3, max_size=3))
def test_merge_is_associative(numbers: list[str]) -> None:
    kernel = AddKernel()
    a, b, c = (kernel.run(Add(numbers=[n]), Chunk(0, 1), Recording()) for n in numbers)
    assert kernel.merge(kernel.merge(a, b), c) == kernel.merge(a, kernel.merge(b, c))


def test_the_largest_work_stays_exact() -> None:
    numbers = ["9" * 58 + "e1024", "9" * 57 + "e-1024"] * 5000
    assert Fraction(total(numbers, 7)) == sum(map(Fraction, numbers))


@pytest.mark.parametrize(
    ("number", "bound"),
    [
        ("", "a decimal"),
        ("two", "a decimal"),
        ("1,5", "a decimal"),
        ("1_000", "a decimal"),
        (" 1", "a decimal"),
        ("1\n", "a decimal"),
        (".", "a decimal"),
        ("e5", "a decimal"),
        ("1e", "a decimal"),
        ("--1", "a decimal"),
        ("NaN", "a decimal"),
        ("Infinity", "a decimal"),
        ("0x10", "a decimal"),
        ("٣", "a decimal"),
        ("1e1025", "exponent of -1024 to 1024"),
        ("1e-1025", "exponent of -1024 to 1024"),
        ("1e" + "9" * 60, "exponent of -1024 to 1024"),
        ("1" * 65, "at most 64 characters"),
    ],
)
def test_what_is_no_bearable_decimal_is_refused(number: str, bound: str) -> None:
    with pytest.raises(Invalid) as refusal:
        AddKernel().validate(Add(numbers=["1", number, "nor this"]))
    assert refusal.value.field == "numbers[1]"
    assert refusal.value.value == number
    assert bound in refusal.value.bound


@pytest.mark.parametrize("count", [0, 10_001])
def test_how_many_numbers(count: int) -> None:
    with pytest.raises(Invalid) as refusal:
        AddKernel().validate(Add(numbers=["1"] * count))
    assert refusal.value.field == "numbers"
    assert str(count) in refusal.value.value
    assert "1 to 10,000" in refusal.value.bound


def test_one_chunk_is_planned() -> None:
    assert AddKernel().plan(Add(numbers=["1"] * 10_000)) == 1


def test_an_empty_share_is_zero() -> None:
    partial = AddKernel().run(Add(numbers=["1"]), Chunk(0, 2), Recording())
    assert isinstance(partial, Result)
    assert partial.add.sum == "0"


def test_a_cancelled_chunk_is_not_begun() -> None:
    with pytest.raises(Cancelled):
        AddKernel().run(Add(numbers=["1"]), Chunk(0, 1), Recording(cancel_at=1))
