"""Numbers as people write them: 10_000, 1e10, 10^10, 2**40. Always exact, never evaluated."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

#: Longest number taken, in digits; as long as an abacus takes.
MAX_DIGITS = 4096
#: Largest exponent of a power, so that "9**999999999" and its like cost nothing to refuse.
MAX_EXPONENT = 4 * MAX_DIGITS

_DIGITS = r"\d+(?:_\d+)*"
_POWER = re.compile(rf"([+-]?)({_DIGITS})\s*(?:\^|\*\*)\s*({_DIGITS})", re.ASCII)
_DECIMAL = re.compile(
    rf"[+-]?(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][+-]?{_DIGITS})?", re.ASCII
)
# What most numbers look like; they need no further look.
_PLAIN = re.compile(r"-?\d{1,100}(?:\.\d{1,100})?", re.ASCII)


def parse_integer(text: str) -> int:
    """Returns the whole number that `text` writes.

    Takes digits with underscores ("10_000"), an exponent that leaves it whole ("1e10", "1.5e3") and
    one power ("10^10", "2**40").

    Raises:
        ValueError: It is no such number, or has more than 4,096 digits; the message is one line
            for a person.
    """
    power = _power(text)
    if power is not None:
        return power
    value = parse_decimal(text)
    if value != value.to_integral_value():
        raise ValueError(f"{_shown(text)} is not a whole number")
    return int(value)


def parse_decimal(text: str) -> Decimal:
    """Returns the decimal number that `text` writes: as parse_integer, and fractions too.

    Raises:
        ValueError: As parse_integer.
    """
    power = _power(text)
    if power is not None:
        return Decimal(power)
    trimmed = text.strip()
    if not _DECIMAL.fullmatch(trimmed):
        raise ValueError(
            f"{_shown(text)} is not a number; write it like 10000, 10_000, 1e10, 10^10 or 2**40"
        )
    too_long = ValueError(f"{_shown(text)} has more than {MAX_DIGITS:,} digits")
    try:
        value = Decimal(trimmed)
    except InvalidOperation:  # an exponent past anything a Decimal holds
        raise too_long from None
    if value and max(value.adjusted() + 1, 0) + max(-_exponent(value), 0) > MAX_DIGITS:
        raise too_long
    # 0e4000 is 0, however long it would be to write out.
    return value or Decimal(0)


def exact_text(value: int | Decimal | str) -> str:
    """Returns the number as the mesh takes it: a decimal such as "2", "-0.1" or "1e3".

    Args:
        value: An int or a Decimal of any size, or a str as parse_decimal takes.

    Raises:
        TypeError: It is a float, which holds most decimals only roughly, or no number.
        ValueError: It is not finite, or over 4,096 digits.
    """
    if isinstance(value, str):
        if _PLAIN.fullmatch(value):
            return value
        value = parse_decimal(value)
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError(f"{value} is not a finite number")
        return str(value).replace("E+", "e").replace("E", "e")
    if isinstance(value, float):
        raise TypeError(
            f"{value!r} is a float, which holds most decimals only roughly:"
            " give an int, a Decimal or a str"
        )
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is not an int, a Decimal or a str")
    if abs(value) >= 10**MAX_DIGITS:
        raise ValueError(f"the number has more than {MAX_DIGITS:,} digits")
    return str(int(value))


def _power(text: str) -> int | None:
    match = _POWER.fullmatch(text.strip())
    if match is None:
        return None
    sign, base, exponent = match[1], match[2].replace("_", "").lstrip("0"), match[3]
    exponent = exponent.replace("_", "").lstrip("0") or "0"
    # Refused before it is computed: the power has at least (digits of base - 1) * exponent digits.
    if len(exponent) > 5 or int(exponent) > MAX_EXPONENT:
        raise ValueError(f"{_shown(text)} has an exponent over {MAX_EXPONENT:,}")
    too_long = ValueError(f"{_shown(text)} has more than {MAX_DIGITS:,} digits")
    if (len(base) - 1) * max(int(exponent), 1) > MAX_DIGITS:
        raise too_long
    value: int = int(base or "0") ** int(exponent)
    if value >= 10**MAX_DIGITS:
        raise too_long
    return -value if sign == "-" else value


def _exponent(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int), "the pattern takes no NaN and no infinity"
    return exponent


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
