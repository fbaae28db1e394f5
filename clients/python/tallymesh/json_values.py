"""JSON as protobuf carries it (Struct, Value), and as Python has it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import NullValue, Struct, Value

#: Whole numbers up to here are exact as JSON numbers, which are doubles here.
MAX_EXACT = 2**53
#: So deep may objects and lists stand in each other. Protobuf reads messages nested 100 deep, an
#: object takes three of them, and the messages around the work or the result of a job four.
MAX_JSON_DEPTH = 32
_TOO_DEEP = f"what is nested more than {MAX_JSON_DEPTH} deep, or in itself"
_MAX_MESSAGES = 100
# Numbers of fields: of Value, and of ListValue.
_STRUCT_VALUE, _LIST_VALUE, _VALUES = 5, 6, 1
# Characters of a text that an error shows.
_SHOWN = 40
# Numbers beyond are not written out: no sentence is for thousands of digits.
_LONG = 10**40


class NotJson(TypeError):
    """A value cannot be told in JSON; the message says which part of it, and why."""


class TooDeep(NotJson):
    """Objects and lists stand in each other more than MAX_JSON_DEPTH deep."""


def to_struct(mapping: Mapping[str, Any]) -> Struct:
    """Returns an object.

    Raises:
        NotJson: A part of it cannot be told in JSON; TooDeep where it is nested too deep.
    """
    if not isinstance(mapping, Mapping):
        raise NotJson(f"{_kind(mapping)}, which is not a JSON object")
    return to_value(mapping).struct_value


def to_value(given: Any) -> Value:
    """Returns any value. Tuples become lists; numbers of NumPy are numbers.

    Raises:
        NotJson: A part of it cannot be told in JSON; TooDeep where it is nested too deep.
    """
    value = Value()
    try:
        _fill(value, given, MAX_JSON_DEPTH)
    except _Refusal as refusal:
        raise NotJson(str(refusal)) from None
    return value


def is_too_deep(given: Struct | Value) -> bool:
    """Tells whether lists and objects stand within each other deeper than MAX_JSON_DEPTH."""
    if isinstance(given, Struct):
        if not given.fields:
            return False
    elif given.WhichOneof("kind") not in ("struct_value", "list_value"):
        return False
    # Most are shallow, which the parser tells soonest: within so many lists that no more than
    # MAX_JSON_DEPTH further ones are left until its own bound.
    within = given.SerializeToString()
    if isinstance(given, Struct):
        within = _encoded(_STRUCT_VALUE, within)
    for _ in range((_MAX_MESSAGES - 2 * MAX_JSON_DEPTH) // 2):
        within = _encoded(_LIST_VALUE, _encoded(_VALUES, within))
    try:
        Value.FromString(within)
    except DecodeError:
        return _depth(given) > MAX_JSON_DEPTH
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


class _Refusal(Exception):
    """A part that is not JSON. Where it stands is added on the way up, as only a refusal needs it.

    Args:
        what: What it is.
        why: Why it is none.
    """

    def __init__(self, what: str, why: str) -> None:
        super().__init__(what, why)
        self.path: list[str | int] = []

    def __str__(self) -> str:
        what, why = self.args
        at = "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in self.path[::-1])
        return f"{what} at {at.removeprefix('.')}, {why}" if at else f"{what}, {why}"


def _fill(value: Value, given: Any, room: int) -> None:
    # Most are of these very types, and this is most of the time that a large object takes.
    kind = type(given)
    if kind is str:
        _fill_text(value, given)
    elif kind is int and -MAX_EXACT <= given <= MAX_EXACT:
        value.number_value = given
    elif kind is dict:
        _fill_object(value, given, room)
    elif kind is list:
        _fill_list(value, given, room)
    elif given is None:
        value.null_value = NullValue.NULL_VALUE
    else:
        _fill_other(value, given, room)


def _fill_other(value: Value, given: Any, room: int) -> None:
    match given:
        case bool():
            value.bool_value = given
        case str():
            _fill_text(value, given)
        case Integral():
            if abs(int(given)) > MAX_EXACT:
                shown = str(given) if abs(int(given)) < _LONG else "a number"
                raise _Refusal(shown, "more than JSON holds exactly: give a string")
            value.number_value = int(given)
        case Real():
            if not math.isfinite(given):
                raise _Refusal(str(given), "which is not JSON")
            value.number_value = float(given)
        case Mapping():
            _fill_object(value, given, room)
        case list() | tuple():
            _fill_list(value, given, room)
        case _:
            raise _Refusal(_kind(given), "which is not JSON")


def _fill_text(value: Value, given: str) -> None:
    try:
        value.string_value = given
    except UnicodeEncodeError:
        raise _Refusal(ascii(given[:_SHOWN]), "which is not Unicode text") from None


def _fill_object(value: Value, given: Mapping[Any, Any], room: int) -> None:
    if not room:
        raise TooDeep(_TOO_DEEP)
    value.struct_value.SetInParent()
    fields = value.struct_value.fields
    for key, item in given.items():
        if not isinstance(key, str):
            raise _Refusal(f"the key {key!r}", "which is not JSON: keys are strings")
        try:
            field = fields[key]
        except UnicodeEncodeError:
            raise _Refusal(f"the key {key[:_SHOWN]!a}", "which is not Unicode text") from None
        try:
            _fill(field, item, room - 1)
        except _Refusal as refusal:
            refusal.path.append(key)
            raise


def _fill_list(value: Value, given: Sequence[Any], room: int) -> None:
    if not room:
        raise TooDeep(_TOO_DEEP)
    value.list_value.SetInParent()
    add = value.list_value.values.add
    for index, item in enumerate(given):
        try:
            _fill(add(), item, room - 1)
        except _Refusal as refusal:
            refusal.path.append(index)
            raise


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
