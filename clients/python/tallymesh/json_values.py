"""JSON as protobuf carries it (Struct, Value), and as Python has it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import NullValue, Struct, Value

#: Lists and objects may stand within each other so deep: protobuf takes messages within each other
#: up to a bound, an object is three of them, and the messages around need the rest.
MAX_DEPTH = 30
_MAX_MESSAGES = 100
# Numbers of fields: of Value, and of ListValue.
_STRUCT_VALUE, _LIST_VALUE, _VALUES = 5, 6, 1
#: Whole numbers up to here are exact as JSON numbers, which are doubles here.
MAX_EXACT = 2**53
# Numbers beyond are not written out: no sentence is for thousands of digits.
_LONG = 10**40
# Characters of a text that an error shows.
_SHOWN = 40


class NotJson(TypeError):
    """A value cannot be told in JSON; the message says which part of it, and why."""


def to_struct(mapping: Mapping[str, Any]) -> Struct:
    """Returns an object.

    Raises:
        NotJson: A part of it cannot be told in JSON.
    """
    if not isinstance(mapping, Mapping):
        raise NotJson(f"{_kind(mapping)}, which is not a JSON object")
    return to_value(mapping).struct_value


def to_value(given: Any) -> Value:
    """Returns any value. Tuples become lists; numbers of NumPy are numbers.

    Raises:
        NotJson: A part of it cannot be told in JSON.
    """
    value = Value()
    try:
        _fill(value, given, MAX_DEPTH)
    except _BadPart as bad:
        path = "".join(reversed(bad.path)).removeprefix(".")
        raise NotJson(f"{bad.what}{f' at {path}' if path else ''}, {bad.why}") from None
    return value


def is_too_deep(given: Struct | Value) -> bool:
    """Tells whether lists and objects stand within each other deeper than MAX_DEPTH."""
    if isinstance(given, Struct):
        if not given.fields:
            return False
    elif given.WhichOneof("kind") not in ("struct_value", "list_value"):
        return False
    # Most are shallow, which the parser tells soonest: within so many lists that no more than
    # MAX_DEPTH further ones are left until its own bound.
    within = given.SerializeToString()
    if isinstance(given, Struct):
        within = _encoded(_STRUCT_VALUE, within)
    for _ in range((_MAX_MESSAGES - 2 * MAX_DEPTH) // 2):
        within = _encoded(_LIST_VALUE, _encoded(_VALUES, within))
    try:
        Value.FromString(within)
    except DecodeError:
        return _depth(given) > MAX_DEPTH
    return False


def from_struct(struct: Struct) -> dict[str, Any]:
    """Returns an object; numbers without a fraction are ints."""
    return {key: from_value(value) for key, value in struct.fields.items()}


def from_value(value: Value) -> Any:
    """Returns a value; numbers without a fraction are ints."""
    match value.WhichOneof("kind"):
        case "struct_value":
            return from_struct(value.struct_value)
        case "list_value":
            return [from_value(item) for item in value.list_value.values]
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) <= MAX_EXACT else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case _:
            return None


class _BadPart(Exception):
    """A part cannot be told in JSON; its path grows as the exception leaves what it stands in."""

    def __init__(self, what: str, why: str) -> None:
        self.what, self.why = what, why
        self.path: list[str] = []


def _fill(value: Value, given: Any, levels: int) -> None:
    match given:
        case int() | float() | str() | None:
            _fill_plain(value, given)
        case Mapping():
            _descend(levels)
            fields = value.struct_value.fields
            value.struct_value.SetInParent()
            for key, item in given.items():
                _check_key(key)
                try:
                    _fill(fields[key], item, levels - 1)
                except _BadPart as bad:
                    bad.path.append(f".{key}")
                    raise
        case list() | tuple():
            _descend(levels)
            values = value.list_value.values
            value.list_value.SetInParent()
            for index, item in enumerate(given):
                try:
                    _fill(values.add(), item, levels - 1)
                except _BadPart as bad:
                    bad.path.append(f"[{index}]")
                    raise
        case Integral():
            _fill_plain(value, int(given))
        case Real():
            _fill_plain(value, float(given))
        case _:
            raise _BadPart(_kind(given), "which is not JSON")


def _fill_plain(value: Value, given: float | str | None) -> None:
    match given:
        case None:
            value.null_value = NullValue.NULL_VALUE
        case bool():
            value.bool_value = given
        case str():
            try:
                value.string_value = given
            except UnicodeEncodeError:
                raise _BadPart(ascii(given[:_SHOWN]), "which is not Unicode text") from None
        case int():
            if abs(given) > MAX_EXACT:
                shown = str(given) if abs(given) < _LONG else "a number"
                raise _BadPart(shown, "more than JSON holds exactly: give a string")
            value.number_value = given
        case _:
            if not math.isfinite(given):
                raise _BadPart(str(given), "which is not JSON")
            value.number_value = given


def _descend(levels: int) -> None:
    if levels == 0:
        raise _BadPart("a list or object", f"which is more than {MAX_DEPTH} deep within others")


def _check_key(key: object) -> None:
    if not isinstance(key, str):
        raise _BadPart(f"the key {key!r}", "which is not JSON: keys are strings")
    if not key.isascii() and any("\ud800" <= letter <= "\udfff" for letter in key):
        raise _BadPart(f"the key {key[:_SHOWN]!a}", "which is not Unicode text")


def _depth(given: Struct | Value) -> int:
    if isinstance(given, Struct):
        return 1 + max(map(_depth, given.fields.values()), default=0)
    match given.WhichOneof("kind"):
        case "struct_value":
            return _depth(given.struct_value)
        case "list_value":
            return 1 + max(map(_depth, given.list_value.values), default=0)
        case _:
            return 0


def _encoded(field: int, content: bytes) -> bytes:
    """Returns a field of bytes as protobuf encodes it: tag, length, content."""
    head, length = [field << 3 | 2], len(content)
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes((*head, length)) + content


def _kind(given: object) -> str:
    return type(given).__name__
