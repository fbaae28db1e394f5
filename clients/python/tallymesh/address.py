"""Where a mesh is: addresses as people write them, and as gRPC takes them."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from dataclasses import dataclass

from tallymesh.errors import InvalidField, Unreachable

#: Where a mesh listens that was started with `tallymesh up`.
DEFAULT_ADDRESS = "localhost:8080"
_DEFAULT_PORT = 8080

_BOUND = "host:port or unix:/path, or several host:port separated by commas"
_HOST_PORT = re.compile(
    r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.%]+\])(?::(?P<port>[0-9]{1,5}))?", re.ASCII
)


@dataclass(frozen=True)
class Target:
    """An address as gRPC takes it.

    Attributes:
        name: gRPC's name for it.
        authority: What to call the servers, where it stands for several, which share the calls;
            empty for one, which is called by its name.
        local: It is on this machine.
    """

    name: str
    authority: str = ""
    local: bool = False


def choose_address(address: str | None) -> str:
    """Returns the address given, else that of TALLYMESH_ADDRESS, else localhost:8080."""
    return address or os.environ.get("TALLYMESH_ADDRESS") or DEFAULT_ADDRESS


def parse_address(address: str) -> Target:
    """Returns the target that an address stands for.

    Args:
        address: `host:port` (the port is 8080 if left out; `http://` may stand before it),
            `unix:/path`, or several `host:port` separated by commas.

    Raises:
        InvalidField: The address is malformed.
        Unreachable: One of several hosts has no address.
    """
    parts = [_bare(part.strip()) for part in address.split(",") if part.strip()]
    if not parts:
        raise InvalidField.of("address", address, _BOUND)
    if len(parts) > 1:
        hosts = [_resolve(*_host_and_port(part, address)) for part in parts]
        local = all(_is_loopback(host) for host, _ in hosts)
        first, port = _host_and_port(parts[0], address)
        return Target(
            "ipv4:" + ",".join(f"{host}:{port}" for host, port in hosts),
            authority=f"{first}:{port}",
            local=local,
        )
    if parts[0].startswith("unix:"):
        if not parts[0].removeprefix("unix:").strip("/"):
            raise InvalidField.of("address", address, _BOUND)
        return Target(parts[0], local=True)
    host, port = _host_and_port(parts[0], address)
    return Target(f"{host}:{port}", local=_is_loopback(host))


def _bare(part: str) -> str:
    # As `tallymesh up` prints it, and as it stands in a browser.
    return part.removeprefix("http://").removesuffix("/") if part.startswith("http://") else part


def _host_and_port(part: str, address: str) -> tuple[str, int]:
    match = _HOST_PORT.fullmatch(part)
    port = int(match["port"] or _DEFAULT_PORT) if match else 0
    if match is None or not 0 < port < 65536:
        raise InvalidField.of("address", address, _BOUND)
    return match["host"], port


def _resolve(host: str, port: int) -> tuple[str, int]:
    # gRPC takes several addresses only as numbers.
    try:
        found = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        raise Unreachable(f"{host} has no IPv4 address: {error.strerror}") from None
    return str(found[0][4][0]), port


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
