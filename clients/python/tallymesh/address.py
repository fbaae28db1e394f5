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
_DEFAULT_PORT, _TLS_PORT = 8080, 443

_BOUND = "host:port, https://host:port or unix:/path, or several host:port separated by commas"
# With a scheme and a slash it is as `tallymesh up` prints it, and as it stands in a browser.
_HOST_PORT = re.compile(
    r"(?P<scheme>https?://)?"
    r"(?P<host>[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?|\[[0-9A-Fa-f:.%]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?(?(scheme)/?)",
    re.ASCII,
)


@dataclass(frozen=True)
class Target:
    """An address as gRPC takes it.

    Attributes:
        servers: gRPC's name for each server; several share the calls.
        local: It is on this machine.
        tls: It is said to speak TLS.
    """

    servers: tuple[str, ...]
    local: bool = False
    tls: bool = False

    @property
    def authority(self) -> str:
        """What to call the servers, where they are several; empty for one, called by its name."""
        return self.servers[0] if len(self.servers) > 1 else ""

    def resolve(self) -> str:
        """Returns gRPC's name for all of it, looking several hosts up.

        Raises:
            Unreachable: One of several hosts has no address.
        """
        if len(self.servers) == 1:
            return self.servers[0]
        # gRPC takes several addresses only as numbers.
        return "ipv4:" + ",".join(map(_resolve, self.servers))


def choose_address(address: str | None) -> str:
    """Returns the address given, else that of TALLYMESH_ADDRESS, else localhost:8080."""
    return address or os.environ.get("TALLYMESH_ADDRESS") or DEFAULT_ADDRESS


def parse_address(address: str) -> Target:
    """Returns the target that an address stands for.

    Args:
        address: `host:port` (the port is 8080 if left out; `http://` may stand before it),
            `https://host:port` (443 if left out), which asks for TLS, `unix:/path`, or several of
            the first two kinds separated by commas.

    Raises:
        InvalidField: The address is malformed.
    """
    parts = [part.strip() for part in address.split(",") if part.strip()]
    if len(parts) == 1 and parts[0].startswith("unix:"):
        if not parts[0].removeprefix("unix:").strip("/"):
            raise InvalidField.of("address", address, _BOUND)
        return Target((parts[0],), local=True)
    matches = [_HOST_PORT.fullmatch(part) for part in parts]
    servers, schemes, local = [], set(), True
    for match in matches:
        secure = match is not None and match["scheme"] == "https://"
        port = int(match["port"] or (_TLS_PORT if secure else _DEFAULT_PORT)) if match else 0
        if match is None or not 0 < port < 65536:
            raise InvalidField.of("address", address, _BOUND)
        servers.append(f"{match['host']}:{port}")
        schemes.add(secure)
        local &= _is_loopback(match["host"])
    if len(schemes) != 1:
        raise InvalidField.of("address", address, _BOUND)
    return Target(tuple(servers), local=local, tls=schemes.pop())


def _resolve(server: str) -> str:
    host, _, port = server.rpartition(":")
    try:
        found = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise Unreachable(f"{host} has no IPv4 address: {why}") from None
    return f"{found[0][4][0]}:{port}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
