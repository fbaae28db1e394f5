"""Exact decimals: read from text within bounds, written back plainly. No float comes near them."""

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from tallymesh_core.domain.errors import InvalidField

#: The longest decimal taken, written plainly: digits in all, and digits after the point.
MAX_DIGITS = 4096
MAX_SCALE = 1024

_BOUND = (
    f"a decimal of at most {MAX_DIGITS:,} digits, at most {MAX_SCALE:,} of them after the point, "
    'such as "-0.1" or "1e3"'
)
_FORM = re.compile(
    r"(?P<sign>[+-]?)(?=\.?[0-9])(?P<whole>[0-9]*)(?:\.(?P<fraction>[0-9]*))?"
    r"(?:[eE](?P<exponent>[+-]?[0-9]{1,9}))?"
)
#: A sign, a point and an exponent may come on top of the digits.
_MAX_TEXT = MAX_DIGITS + 16
#: Integers up to here are read and written by int itself, which is fast and refuses long ones.
_SHORT_DIGITS = 300
_SHORT_BITS = 1024


class Exact(NamedTuple):
    """An exact decimal: `unscaled` / 10^`scale`.

    Attributes:
        unscaled: Its digits, as a signed integer.
        scale: How many of the digits stand after the point; not negative.
    """

    unscaled: int
    scale: int = 0


def parse_decimal(text: str, field: str) -> Exact:
    """Reads a decimal such as `42`, `-0.1`, `.5` or `1e3`.

    Args:
        text: What was given.
        field: The field it was given in, for the error.

    Raises:
        InvalidField: It is none, or is longer than MAX_DIGITS or MAX_SCALE allow.
    """
    found = _FORM.fullmatch(text) if len(text) <= _MAX_TEXT else None
    if found is None:
        raise InvalidField(field, text, _BOUND)
    fraction = found["fraction"] or ""
    digits = (found["whole"] + fraction).lstrip("0")
    scale = len(fraction) - int(found["exponent"] or 0)
    zeros = max(0, -scale)
    # The bound is looked at before a long number is built.
    if scale > MAX_SCALE or len(digits) + zeros > MAX_DIGITS:
        raise InvalidField(field, text, _BOUND)
    # Decimal is not subject to the interpreter's limit on the digits of an int's text.
    magnitude = int(digits or 0) if len(digits) <= _SHORT_DIGITS else int(Decimal(digits))
    magnitude *= 10**zeros
    return Exact(-magnitude if found["sign"] == "-" else magnitude, max(0, scale))


def total(values: Iterable[Exact]) -> Exact:
    """Returns the sum of decimals, exactly; 0 for none."""
    by_scale: dict[int, int] = {}
    for unscaled, scale in values:
        by_scale[scale] = by_scale.get(scale, 0) + unscaled
    most = max(by_scale, default=0)
    return Exact(sum(part * 10 ** (most - scale) for scale, part in by_scale.items()), most)


def format_decimal(value: Exact) -> str:
    """Writes a decimal plainly: no exponent, no trailing zeros after the point, no `-0`."""
    magnitude = abs(value.unscaled)
    short = magnitude.bit_length() <= _SHORT_BITS
    digits = str(magnitude) if short else str(Decimal(magnitude))
    if value.scale:
        digits = digits.zfill(value.scale + 1)
        fraction = digits[-value.scale :].rstrip("0")
        digits = digits[: -value.scale] + (f".{fraction}" if fraction else "")
    return f"-{digits}" if value.unscaled < 0 else digits


def as_int64(value: Exact) -> int | None:
    """Returns the decimal as an integer, or None where it is none or takes over 64 bits."""
    whole, rest = divmod(value.unscaled, 10**value.scale)
    return whole if not rest and -(2**63) <= whole < 2**63 else None
