"""What bodies REST calls take, from the compiled protos, as tables for strict_json.lua."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)

_MESSAGE, _REPEATED = FieldDescriptorProto.TYPE_MESSAGE, FieldDescriptorProto.LABEL_REPEATED
#: Messages that are single values in JSON, and those that take any.
_VALUES = (".google.protobuf.Timestamp", ".google.protobuf.Duration")
_ANY = (".google.protobuf.Struct", ".google.protobuf.Value", ".google.protobuf.ListValue")
_VARIABLE = re.compile(r"\{[^=}]+(?:=([^}]*))?\}|([^{}]+)")
_LUA_MAGIC = re.compile(r"([^A-Za-z0-9/:_])")


def lua_tables(descriptor_set: bytes) -> str:
    """Returns the Lua that defines BINDINGS and MESSAGES.

    Args:
        descriptor_set: The compiled protos with all that they import.
    """
    files = FileDescriptorSet.FromString(descriptor_set).file
    messages = {
        name: message
        for file in files
        for name, message in _messages(file.message_type, f".{file.package}")
    }
    methods = [method for file in files for service in file.service for method in service.method]
    bindings = [binding for method in methods for binding in _bindings(method, messages)]
    fields = {name: _fields(message, messages) for name, message in messages.items()}
    return f"local BINDINGS = {_lua(bindings)}\nlocal MESSAGES = {_lua(fields)}\n"


def _messages(
    found: Sequence[DescriptorProto], within: str
) -> Iterator[tuple[str, DescriptorProto]]:
    for message in found:
        name = f"{within}.{message.name}"
        yield name, message
        yield from _messages(message.nested_type, name)


def _bindings(
    method: MethodDescriptorProto, messages: Mapping[str, DescriptorProto]
) -> Iterator[dict[str, Any]]:
    rule: http_pb2.HttpRule = method.options.Extensions[annotations_pb2.http]  # type: ignore[index]
    for one in (rule, *rule.additional_bindings):
        verb = one.WhichOneof("pattern")
        if verb is None:
            continue
        binding = {
            "verb": verb.upper(),
            "pattern": _pattern(getattr(one, verb)),
            "field": "" if one.body == "*" else one.body,
            "streams": method.server_streaming,
        }
        if one.body:
            request = messages[method.input_type]
            binding["body"] = (
                {"form": "message", "name": method.input_type}
                if one.body == "*"
                else next(_kind(f, messages) for f in request.field if f.name == one.body)
            )
            if method.client_streaming:
                binding["body"] = {"form": "list", "of": binding["body"]}
        yield binding


def _pattern(template: str) -> str:
    """Returns the Lua pattern of a path template."""
    parts = []
    for found in _VARIABLE.finditer(template):
        variable, text = found.groups()
        segments = text if text is not None else (variable or "*")
        parts.append(_LUA_MAGIC.sub(r"%\1", segments).replace("%*%*", ".+").replace("%*", "[^/:]+"))
    return f"^{''.join(parts)}$"


def _fields(message: DescriptorProto, messages: Mapping[str, DescriptorProto]) -> dict[str, Any]:
    kinds: dict[str, Any] = {}
    for field in message.field:
        kinds[field.name] = kinds[field.json_name] = _kind(field, messages)
    return {"of": kinds, "names": ", ".join(field.name for field in message.field) or "none"}


def _kind(field: FieldDescriptorProto, messages: Mapping[str, DescriptorProto]) -> dict[str, Any]:
    kind: dict[str, Any] = {"form": "value"}
    if field.type == _MESSAGE and field.type_name not in _VALUES:
        if field.type_name in _ANY:
            kind = {"form": "any"}
        elif messages[field.type_name].options.map_entry:
            (_, value) = messages[field.type_name].field
            return {"form": "map", "of": _kind(value, messages) | {"of_list": True}}
        else:
            kind = {"form": "message", "name": field.type_name}
    if field.label == _REPEATED:
        return {"form": "list", "of": kind | {"of_list": True}}
    return kind


def _lua(value: Any) -> str:
    """Returns a value as a Lua literal."""
    match value:
        case dict():
            return "{" + ", ".join(f"[{_lua(k)}] = {_lua(v)}" for k, v in value.items()) + "}"
        case list():
            return "{" + ", ".join(map(_lua, value)) + "}"
        case _:
            return json.dumps(value)
