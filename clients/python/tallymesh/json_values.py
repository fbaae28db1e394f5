"""JSON as protobuf carries it (Struct, Value), and as Python has it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from numbers import Integral, Real
from typing import Any

from google.protobuf.struct_pb2 import NullValue, Struct, Value

#: Whole numbers up to here are exact as JSON numbers, which are doubles here.
MAX_EXACT = 2**53
# Numbers beyond are not written out: no sentence is for thousands of digits.
_LONG = 10**40


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
        _fill(value, given, "")
    except RecursionError:
        raise NotJson("what is nested too deeply, or in itself, for JSON") from None
    return value


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


def _fill(value: Value, given: Any, path: str) -> None:
    match given:
        case None:
            value.null_value = NullValue.NULL_VALUE
        case bool():
            value.bool_value = given
        case str():
            value.string_value = given
        case Integral():
            if abs(int(given)) > MAX_EXACT:
                shown = given if abs(int(given)) < _LONG else "a number"
                raise NotJson(f"{shown}{_at(path)}, more than JSON holds exactly: give a string")
            value.number_value = int(given)
        case Real():
            if not math.isfinite(given):
                raise NotJson(f"{given}{_at(path)}, which is not JSON")
            value.number_value = float(given)
        case Mapping():
            value.struct_value.SetInParent()
            for key, item in _members(given, path):
                _fill(value.struct_value.fields[key], item, f"{path}.{key}" if path else key)
        case list() | tuple():
            value.list_value.SetInParent()
            for index, item in enumerate(given):
                _fill(value.list_value.values.add(), item, f"{path}[{index}]")
        case _:
            raise NotJson(f"{_kind(given)}{_at(path)}, which is not JSON")


def _members(mapping: Mapping[Any, Any], path: str) -> Iterator[tuple[str, Any]]:
    for key, item in mapping.items():
        if not isinstance(key, str):
            raise NotJson(f"the key {key!r}{_at(path)}, which is not JSON: keys are strings")
        yield key, item


def _kind(given: object) -> str:
    return type(given).__name__


def _at(path: str) -> str:
    return f" at {path}" if path else ""
