"""The ways into a mesh, each taking a request as JSON and telling alike how it is refused."""

import base64
import json
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any, Protocol, cast
from urllib.parse import quote, unquote, urlencode

import grpc
from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.json_format import ParseDict
from google.protobuf.message_factory import GetMessageClass
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from tallymesh.v1 import (
    abacus_service_pb2,
    dead_letter_service_pb2,
    dispatch_service_pb2,
    fleet_service_pb2,
    job_service_pb2,
    mesh_service_pb2,
)
from tests.harness.rest import Rest

Request = Mapping[str, Any]

#: Every call that the edge exposes, by `Service/Method`.
METHODS: Mapping[str, MethodDescriptor] = {
    f"{service.name}/{method.name}": method
    for file in (
        abacus_service_pb2,
        dead_letter_service_pb2,
        dispatch_service_pb2,
        fleet_service_pb2,
        job_service_pb2,
        mesh_service_pb2,
    )
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
_VARIABLE = re.compile(r"\{(\w+)=([^}]*)\}")


@dataclass(frozen=True)
class Refusal:
    """What a refusal says.

    Attributes:
        code: Name of the gRPC code.
        message: The sentence.
        reason: Of the ErrorInfo, "" if there is none.
        metadata: Of the ErrorInfo.
        fields: Those of the violations.
    """

    code: str
    message: str
    reason: str
    metadata: Mapping[str, str]
    fields: tuple[str, ...]


class Entrance(Protocol):
    """One way in."""

    def refusal(self, method: str, request: Request) -> Refusal | None:
        """Makes a call that must be refused.

        Returns:
            What is answered, or None if the request cannot be said this way.
        """


class Grpc:
    """Native gRPC."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def refusal(self, method: str, request: Request) -> Refusal:
        """What is answered to a request that must be refused."""
        return self.refusal_of_bytes(method, _message(method, request))

    def refusal_of_bytes(self, method: str, request: bytes) -> Refusal:
        """What is answered to bytes that must be refused."""
        # On the wire every call is a stream both ways, of one message where it is no stream.
        call = self._channel.stream_stream(
            f"/tallymesh.v1.{method}", request_serializer=bytes, response_deserializer=bytes
        )
        try:
            answers = list(call(iter([request])))
        except grpc.RpcError as error:
            status = rpc_status.from_call(cast("grpc.Call", error))
            return _refusal(status or status_pb2.Status(message=str(error)))
        raise AssertionError(f"{method} was not refused: {answers!r}")


class GrpcWeb:
    """grpc-web, as a browser speaks it."""

    def __init__(self, address: str) -> None:
        self._address = address

    def refusal(self, method: str, request: Request) -> Refusal:
        """What is answered to a request that must be refused."""
        return self.refusal_of_bytes(method, _message(method, request))

    def refusal_of_bytes(self, method: str, request: bytes) -> Refusal:
        """What is answered to bytes that must be refused."""
        kind = "application/grpc-web+proto"
        with closing(HTTPConnection(self._address, timeout=30)) as connection:
            connection.request(
                "POST",
                f"/tallymesh.v1.{method}",
                b"\0" + struct.pack(">I", len(request)) + request,
                {"content-type": kind, "x-grpc-web": "1"},
            )
            answer = connection.getresponse()
            body = answer.read()
        assert answer.status == 200
        assert answer.headers["content-type"] == kind
        # Where there is nothing but trailers, they come as headers.
        trailers = {key.lower(): value for key, value in answer.headers.items()}
        for flag, frame in _frames(body):
            assert flag & 0x80, f"{method} was not refused: {frame!r}"
            lines = frame.decode().split("\r\n")
            trailers |= {key: value for key, _, value in (line.partition(":") for line in lines)}
        packed = trailers["grpc-status-details-bin"].strip()
        status = status_pb2.Status.FromString(base64.b64decode(packed + "=" * (-len(packed) % 4)))
        assert status.code == int(trailers["grpc-status"])
        assert status.message == unquote(trailers["grpc-message"].strip())
        return _refusal(status)


class RestEntrance:
    """REST, by each call's own binding."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest

    def refusal(self, method: str, request: Request) -> Refusal | None:
        """What is answered to a request that must be refused; None if no path can say it."""
        said = _as_rest(METHODS[method], request)
        return None if said is None else self.refusal_of(*said)

    def refusal_of(self, verb: str, path: str, body: str | bytes | None) -> Refusal:
        """What is answered to an HTTP request that must be refused."""
        answer = self._rest.request(verb, path, body)
        assert answer.status >= 400, answer.body
        error = answer.json
        assert set(error) == {"code", "message", "details"}
        return _refusal(ParseDict(error, status_pb2.Status()))

    def binding(self, method: str) -> tuple[str, str, str]:
        """Verb, path and the field that is the body of a call's binding."""
        return _binding(METHODS[method])


def _message(method: str, request: Request) -> bytes:
    kind = GetMessageClass(METHODS[method].input_type)
    return ParseDict(dict(request), kind()).SerializeToString()


def _refusal(status: status_pb2.Status) -> Refusal:
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        if not detail.Unpack(info):
            detail.Unpack(bad)
    assert info.domain in ("", "tallymesh")
    assert "Traceback" not in status.message
    return Refusal(
        code_pb2.Code.Name(status.code),
        status.message,
        info.reason,
        dict(info.metadata),
        tuple(one.field for one in bad.field_violations),
    )


def _frames(body: bytes) -> Iterator[tuple[int, bytes]]:
    while body:
        flag, length = struct.unpack(">BI", body[:5])
        yield flag, body[5 : 5 + length]
        body = body[5 + length :]


def _binding(method: MethodDescriptor) -> tuple[str, str, str]:
    rule: Any = method.GetOptions().Extensions[annotations_pb2.http]  # type: ignore[index]
    verb = rule.WhichOneof("pattern")
    assert verb, f"{method.full_name} has no REST binding"
    return verb.upper(), getattr(rule, verb), rule.body


def _as_rest(method: MethodDescriptor, request: Request) -> tuple[str, str, str | None] | None:
    verb, path, body_field = _binding(method)
    left = deepcopy(dict(request))
    if variable := _VARIABLE.search(path):
        value = left.pop(variable[1], "")
        pattern = re.escape(variable[2]).replace(r"\*", "[^/]+")
        if not re.fullmatch(pattern, value):
            return None
        path = path.replace(variable[0], quote(value))
    body = None
    if body_field == "*":
        body = json.dumps([left] if method.client_streaming else left)
        left = {}
    elif body_field:
        body = json.dumps(left.pop(body_field, {}))
    query = urlencode(list(_parameters(left)), quote_via=quote)
    return verb, f"{path}?{query}" if query else path, body


def _parameters(fields: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _parameters(value, f"{within}{name}.")
        else:
            for one in value if isinstance(value, list) else [value]:
                yield f"{within}{name}", str(one)
