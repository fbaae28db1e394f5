"""What gRPC itself may repeat: every unary call of the public services, and no stream."""

import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from tallymesh.channel import Connection
from tallymesh.v1 import (
    abacus_service_pb2,
    dead_letter_service_pb2,
    fleet_service_pb2,
    job_service_pb2,
    mesh_service_pb2,
)

MODULES = (
    abacus_service_pb2,
    dead_letter_service_pb2,
    fleet_service_pb2,
    job_service_pb2,
    mesh_service_pb2,
)
PROTOS = Path(__file__).parents[3] / "protos/tallymesh/v1/service_config.json"


def methods() -> list[MethodDescriptor]:
    services: list[ServiceDescriptor] = [
        service for module in MODULES for service in module.DESCRIPTOR.services_by_name.values()
    ]
    return [method for service in services for method in service.methods]


def configured(method: MethodDescriptor) -> dict[str, Any]:
    """What the config says of a method, found as gRPC does: by its name, else by its service's."""
    said = {
        (name["service"], name.get("method")): entry
        for entry in json.loads(PROTOS.read_text())["methodConfig"]
        for name in entry["name"]
    }
    service = method.containing_service.full_name
    found = said.get((service, method.name)) or said.get((service, None))
    assert isinstance(found, dict), f"{method.full_name} is not in the config"
    return found


@pytest.mark.parametrize("method", methods(), ids=lambda method: str(method.name))
def test_grpc_repeats_unary_calls_and_no_stream(method: MethodDescriptor) -> None:
    streams = method.client_streaming or method.server_streaming
    assert ("retryPolicy" in configured(method)) == (not streams)


def test_every_name_in_the_config_is_one() -> None:
    known = {method.containing_service.full_name: set[str]() for method in methods()}
    for method in methods():
        known[method.containing_service.full_name].add(method.name)
    for entry in json.loads(PROTOS.read_text())["methodConfig"]:
        for name in entry["name"]:
            assert "method" not in name or name["method"] in known[name["service"]]


def test_the_package_carries_the_same() -> None:
    carried = resources.files("tallymesh.v1").joinpath("service_config.json")
    assert carried.read_text() == PROTOS.read_text()


@pytest.mark.parametrize("address", ["localhost:1", "127.0.0.1:1,127.0.0.1:2"])
def test_the_clients_leave_no_repeating_to_grpc(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[str, Any]] = []
    monkeypatch.setattr("grpc.insecure_channel", lambda _, options: given.extend(options))
    Connection(address, False, None, None).open()
    assert given
    assert "retryPolicy" not in str(given)
