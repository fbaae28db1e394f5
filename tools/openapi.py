"""Describes the REST API in OpenAPI 3.1, from the protos and their comments."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from google.api import annotations_pb2, field_behavior_pb2
from google.protobuf import descriptor_pb2

from tools.rest_examples import EXAMPLES

Field = descriptor_pb2.FieldDescriptorProto
Message = descriptor_pb2.DescriptorProto
Schema = dict[str, Any]

PACKAGE = "tallymesh.v1"
#: Calls among services and workers' own; the edge does not expose them.
HIDDEN = ("WorkerService",)
_VARIABLE = re.compile(r"\{(\w+)=([^}]*)\}")
_SCALARS: Mapping[int, Schema] = {
    Field.TYPE_DOUBLE: {"type": "number", "format": "double"},
    Field.TYPE_FLOAT: {"type": "number", "format": "float"},
    Field.TYPE_BOOL: {"type": "boolean"},
    Field.TYPE_STRING: {"type": "string"},
    Field.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    Field.TYPE_INT32: {"type": "integer", "format": "int32"},
    Field.TYPE_SINT32: {"type": "integer", "format": "int32"},
    Field.TYPE_UINT32: {"type": "integer", "format": "uint32"},
    # As strings, as JSON's own numbers are exact to 2^53 only. Numbers are taken, too.
    Field.TYPE_INT64: {"type": "string", "format": "int64"},
    Field.TYPE_SINT64: {"type": "string", "format": "int64"},
    Field.TYPE_UINT64: {"type": "string", "format": "uint64"},
}
_WELL_KNOWN: Mapping[str, Schema] = {
    ".google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    ".google.protobuf.Duration": {
        "type": "string",
        "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$",
        "examples": ["1.5s"],
    },
    ".google.protobuf.Struct": {"type": "object"},
    ".google.protobuf.Value": {},
    ".google.protobuf.ListValue": {"type": "array", "items": {}},
}
_ERROR: Schema = {
    "type": "object",
    "description": "What went wrong, the same for every call: a google.rpc.Status.",
    "required": ["code", "message", "details"],
    "properties": {
        "code": {"type": "integer", "description": "The gRPC code, such as 3 (INVALID_ARGUMENT)."},
        "message": {"type": "string", "description": "One sentence for a person."},
        "details": {
            "type": "array",
            "description": (
                "A google.rpc.ErrorInfo with an ErrorReason and facts; where they apply, a"
                " google.rpc.BadRequest with the field at fault and a google.rpc.RetryInfo."
            ),
            "items": {
                "type": "object",
                "required": ["@type"],
                "properties": {"@type": {"type": "string"}},
                "additionalProperties": True,
            },
        },
    },
    "examples": [
        {
            "code": 5,
            "message": "jobs/0000000000000000 does not exist",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "NOT_FOUND",
                    "domain": "tallymesh",
                    "metadata": {"name": "jobs/0000000000000000"},
                }
            ],
        }
    ],
}


def describe(files: descriptor_pb2.FileDescriptorSet, version: str) -> str:
    """Returns the OpenAPI document, as JSON.

    Args:
        files: The protos, with their comments (`--include_source_info`).
        version: Of the mesh.
    """
    return json.dumps(_Api(files).document(version), indent=1) + "\n"


class _Api:
    def __init__(self, files: descriptor_pb2.FileDescriptorSet) -> None:
        self._files = [file for file in files.file if file.package == PACKAGE]
        self._comments = dict(pair for file in self._files for pair in _comments(file))
        self._messages: dict[str, Message] = {}
        self._enums: dict[str, descriptor_pb2.EnumDescriptorProto] = {}
        for file in self._files:
            self._enums |= {f".{PACKAGE}.{one.name}": one for one in file.enum_type}
            for message in file.message_type:
                self._index(message, f".{PACKAGE}.{message.name}")
        self._used: dict[str, Schema] = {}

    def document(self, version: str) -> Schema:
        """The whole document."""
        services = [
            service
            for file in self._files
            for service in file.service
            if service.name not in HIDDEN
        ]
        paths: dict[str, Schema] = {}
        for service in services:
            for method in service.method:
                path, verb, operation = self._operation(service.name, method)
                paths.setdefault(path, {})[verb] = operation
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "Tallymesh",
                "version": version,
                "description": (
                    "Submit a computation, watch it stream, cancel it for real, get an exact total."
                    " Every call is also to be had by gRPC and grpc-web on the same port."
                ),
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "tags": [
                {"name": one.name, "description": self._comment(f".{PACKAGE}.{one.name}")}
                for one in services
            ],
            "paths": dict(sorted(paths.items())),
            "components": {
                "schemas": dict(sorted(self._used.items())) | {"Error": _ERROR},
                "responses": {
                    "Error": {
                        "description": "What went wrong.",
                        "content": {
                            "application/json": {"schema": {"$ref": "#/components/schemas/Error"}}
                        },
                    }
                },
            },
        }

    def _operation(
        self, service: str, method: descriptor_pb2.MethodDescriptorProto
    ) -> tuple[str, str, Schema]:
        rule: Any = method.options.Extensions[annotations_pb2.http]  # type: ignore[index]
        verb = rule.WhichOneof("pattern")
        if verb is None:
            raise SystemExit(f"{service}.{method.name} has no REST binding")
        request = self._messages[method.input_type]
        path = getattr(rule, verb)
        in_path: set[str] = set()
        parameters: list[Schema] = []
        if variable := _VARIABLE.search(path):
            in_path.add(variable[1])
            collection = variable[2].partition("/")[0]
            path = path.replace(variable[0], f"{collection}/{{{_singular(collection)}}}")
            told = self._comment(f"{method.input_type}.{variable[1]}")
            parameters.append(
                {
                    "name": _singular(collection),
                    "in": "path",
                    "required": True,
                    "description": told,
                    "schema": {"type": "string"},
                }
            )
        comment = self._comment(f".{PACKAGE}.{service}.{method.name}")
        operation: Schema = {
            "operationId": f"{service}_{method.name}",
            "tags": [service],
            "summary": _first_sentence(comment),
            "description": comment,
        }
        in_body = {rule.body} if rule.body not in ("", "*") else set()
        if rule.body != "*":
            left = [one for one in request.field if one.name not in in_path | in_body]
            parameters += self._parameters(method.input_type, left)
        if parameters:
            operation["parameters"] = parameters
        if rule.body:
            body = self._body(method, rule.body, in_path)
            body["content"]["application/json"]["example"] = EXAMPLES[f"{service}.{method.name}"]
            operation["requestBody"] = body
        operation["responses"] = {
            "200": self._answer(method),
            "default": {"$ref": "#/components/responses/Error"},
        }
        return path, verb, operation

    def _body(
        self, method: descriptor_pb2.MethodDescriptorProto, body: str, in_path: set[str]
    ) -> Schema:
        request = self._messages[method.input_type]
        if body == "*":
            fields = [one for one in request.field if one.name not in in_path]
            schema = self._object(method.input_type, fields) | {"additionalProperties": False}
            # Of what is named elsewhere it is only said in words: answers may leave it out.
            asked = [one.name for one in fields if _behaves(one, field_behavior_pb2.REQUIRED)]
            if asked:
                schema["required"] = asked
        else:
            (field,) = (one for one in request.field if one.name == body)
            schema = self._field(method.input_type, field)
        if method.client_streaming:
            schema = {"type": "array", "items": schema}
        # Where nothing in it is required, an empty object or no body at all will do.
        required = bool(schema.get("required")) or body != "*" or method.client_streaming
        return {"required": required, "content": {"application/json": {"schema": schema}}}

    def _answer(self, method: descriptor_pb2.MethodDescriptorProto) -> Schema:
        schema = self._reference(method.output_type)
        if not method.server_streaming:
            return {
                "description": self._comment(method.output_type),
                "content": {"application/json": {"schema": schema}},
            }
        return {
            "description": (
                "A stream: one JSON object a line, as it comes; with `Accept: text/event-stream`"
                " each is the data of an event. One that ends without its last message was cut."
            ),
            "content": {
                "application/x-ndjson": {"schema": schema},
                "text/event-stream": {"schema": schema},
            },
        }

    def _parameters(self, within: str, fields: Iterable[Field], prefix: str = "") -> list[Schema]:
        found: list[Schema] = []
        for field in fields:
            nested = self._messages.get(field.type_name)
            if nested is not None and field.type == Field.TYPE_MESSAGE:
                found += self._parameters(field.type_name, nested.field, f"{prefix}{field.name}.")
                continue
            schema = self._field(within, field)
            told = schema.pop("description", "")
            parameter: Schema = {"name": f"{prefix}{field.name}", "in": "query"}
            if told:
                parameter["description"] = told
            if _behaves(field, field_behavior_pb2.REQUIRED):
                parameter["required"] = True
            found.append(parameter | {"schema": schema})
        return found

    def _reference(self, name: str) -> Schema:
        if name in _WELL_KNOWN:
            return dict(_WELL_KNOWN[name])
        short = name.removeprefix(f".{PACKAGE}.")
        if short not in self._used:
            self._used[short] = {}  # before its fields, as one may be of its own kind
            if name in self._enums:
                self._used[short] = self._enum(name)
            else:
                self._used[short] = self._object(name, self._messages[name].field)
        return {"$ref": f"#/components/schemas/{short}"}

    def _enum(self, name: str) -> Schema:
        values = self._enums[name].value
        told = [f"- `{one.name}`: {self._comment(f'{name}.{one.name}')}" for one in values]
        return {
            "type": "string",
            "enum": [one.name for one in values],
            "description": "\n".join([self._comment(name), "", *told]),
        }

    def _object(self, name: str, fields: Iterable[Field]) -> Schema:
        shown = list(fields)
        schema: Schema = {"type": "object"}
        if told := self._comment(name):
            schema["description"] = told
        schema["properties"] = {one.name: self._field(name, one) for one in shown}
        return schema

    def _field(self, within: str, field: Field) -> Schema:
        schema = self._type(field)
        told = self._comment(f"{within}.{field.name}")
        if field.HasField("oneof_index") and not field.proto3_optional:
            oneof = self._messages[within].oneof_decl[field.oneof_index].name
            told = f"{told} At most one of `{oneof}` is set.".strip()
        if _behaves(field, field_behavior_pb2.REQUIRED):
            told = f"{told} Required in requests.".strip()
        if told:
            schema["description"] = told
        if _behaves(field, field_behavior_pb2.OUTPUT_ONLY):
            schema["readOnly"] = True
        return schema

    def _type(self, field: Field) -> Schema:
        message = self._messages.get(field.type_name)
        if message is not None and message.options.map_entry:
            (value,) = (one for one in message.field if one.name == "value")
            return {"type": "object", "additionalProperties": self._type(value)}
        single = dict(_SCALARS.get(field.type, {})) or self._reference(field.type_name)
        if field.label == Field.LABEL_REPEATED:
            return {"type": "array", "items": single}
        return single

    def _index(self, message: Message, name: str) -> None:
        self._messages[name] = message
        self._enums |= {f"{name}.{one.name}": one for one in message.enum_type}
        for nested in message.nested_type:
            self._index(nested, f"{name}.{nested.name}")

    def _comment(self, name: str) -> str:
        return self._comments.get(name, "")


def _comments(file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[str, str]]:
    """Yields the full name and the comment of everything in a file that has one."""
    for location in file.source_code_info.location:
        if location.leading_comments:
            paragraphs = re.split(r"\n\s*\n", location.leading_comments.strip())
            text = "\n\n".join(" ".join(one.split()) for one in paragraphs)
            yield _name_at(file, list(location.path)), text


def _name_at(file: descriptor_pb2.FileDescriptorProto, path: list[int]) -> str:
    """The full name of what stands at a path of source information."""
    here: Any = file
    name = f".{file.package}"
    while path:
        number, *path = path
        held = getattr(here, here.DESCRIPTOR.fields_by_number[number].name)
        if not path or not hasattr(held, "__getitem__"):
            return f"{name}#{number}"
        here, path = held[path[0]], path[1:]
        if not hasattr(here, "name"):
            return f"{name}#{number}"
        name = f"{name}.{here.name}"
    return name


def _behaves(field: Field, behavior: int) -> bool:
    extension: Any = field_behavior_pb2.field_behavior
    return behavior in field.options.Extensions[extension]


def _singular(collection: str) -> str:
    return {"abaci": "abacus"}.get(collection, collection.removesuffix("s"))


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.:])\s", text, maxsplit=1)[0].rstrip(".:")
