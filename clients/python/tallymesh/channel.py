"""How a mesh is reached: its address, and the channel to it."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import socket
from importlib import resources

import grpc

from tallymesh.errors import InvalidField, Unreachable

#: Where a mesh listens that was started with `tallymesh up`.
DEFAULT_ADDRESS = "localhost:8080"
_DEFAULT_PORT = 8080
# Services of the mesh tolerate a ping every 10 s.
_KEEPALIVE_MILLISECONDS = 20_000
_KEEPALIVE_TIMEOUT_MILLISECONDS = 10_000

_BOUND = "host:port or unix:/path, or several host:port separated by commas"
_HOST_PORT = re.compile(
    r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.%]+\])(?::(?P<port>[0-9]{1,5}))?", re.ASCII
)


def choose_address(address: str | None) -> str:
    """Returns the address given, else that of TALLYMESH_ADDRESS, else localhost:8080."""
    return address or os.environ.get("TALLYMESH_ADDRESS") or DEFAULT_ADDRESS


def open_channel(address: str) -> grpc.Channel:
    """Opens a channel, without yet connecting.

    Args:
        address: `host:port` (the port is 8080 if left out), `unix:/path`, or several `host:port`
            separated by commas, which share the calls in turn.

    Raises:
        InvalidField: The address is malformed.
        Unreachable: One of several hosts has no address.
    """
    parts = [part.strip() for part in address.split(",") if part.strip()]
    config = json.loads(resources.files("tallymesh.v1").joinpath("service_config.json").read_text())
    if len(parts) == 1:
        target, local = _single_target(parts[0])
    else:
        target, local = _shared_target(parts, address)
        config["loadBalancingConfig"] = [{"round_robin": {}}]
    options: list[tuple[str, str | int]] = [
        ("grpc.service_config", json.dumps(config)),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MILLISECONDS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MILLISECONDS),
        # A mesh that comes back is found within a second; gRPC would wait up to 2 min.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
    ]
    if local:
        # A proxy of the environment is for the way out, not for this machine.
        options.append(("grpc.enable_http_proxy", 0))
    return grpc.insecure_channel(target, options=options)


def _single_target(part: str) -> tuple[str, bool]:
    if part.startswith("unix:"):
        if not part.removeprefix("unix:").removeprefix("//"):
            raise InvalidField.of("address", part, _BOUND)
        return part, True
    host, port = _host_and_port(part, part)
    return f"{host}:{port}", _is_loopback(host)


def _shared_target(parts: list[str], address: str) -> tuple[str, bool]:
    hosts = []
    for part in parts:
        host, port = _host_and_port(part, address)
        try:
            found = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)
        except OSError as error:
            raise Unreachable(f"{host} has no IPv4 address: {error.strerror}") from None
        hosts.append(f"{found[0][4][0]}:{port}")
    if not hosts:
        raise InvalidField.of("address", address, _BOUND)
    return f"ipv4:{','.join(hosts)}", all(_is_loopback(host.split(":")[0]) for host in hosts)


def _host_and_port(part: str, address: str) -> tuple[str, int]:
    match = _HOST_PORT.fullmatch(part)
    port = int(match["port"] or _DEFAULT_PORT) if match else 0
    if match is None or not 0 < port < 65536:
        raise InvalidField.of("address", address, _BOUND)
    return match["host"], port


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
