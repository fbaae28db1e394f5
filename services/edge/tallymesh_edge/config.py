"""What differs between one edge and another, and how the template takes it in."""

import ipaddress
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Any

from tallymesh_edge.rest_bodies import lua_tables

MAX_BODY_BYTES = 4 * 1024 * 1024
"""The longest body of a REST call, as long as the longest gRPC message."""

_ORIGIN = re.compile(
    r"https?://[A-Za-z0-9._-]+(:[0-9]{1,5})?|https?://\[[0-9a-fA-F:]+\](:[0-9]{1,5})?"
)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

_PACKAGE = resources.files("tallymesh_edge")


def default_page() -> Path:
    """Returns the folder of the page: the package's own, or in a checkout that of clients/web."""
    packaged = Path(str(_PACKAGE / "page"))
    if packaged.is_dir():
        return packaged
    return Path(str(_PACKAGE)).resolve().parents[2] / "clients" / "web" / "dist"


def default_descriptor_set() -> Path:
    """Returns the descriptor set that is generated with this version of the API."""
    return Path(str(_PACKAGE / "tallymesh.binpb"))


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeConfig:
    """Where an edge listens, and where it finds what stands behind it.

    Attributes:
        gateways: Addresses of gateways: `unix:/path` or `host:port`. A host name stands for every
            address that it resolves to.
        abaci: Addresses of abacus nodes, likewise.
        host: The IP address to listen on.
        port: The TCP port to listen on, 1 to 65535.
        names: Host names and IP addresses by which clients may call it, besides those of this
            machine; "*" stands for any. Pages of other sites, and sites that make their own name
            stand for this machine, are refused.
        origins: Further origins whose pages may call it, such as `https://app.example`.
        node: The edge's name in its own records.
        page: The folder of the static page.
        descriptor_set: The compiled protos, by which REST calls are read.
        admin_socket: Unix socket for Envoy's admin interface; None leaves it off.
        access_log: A file to write one line for each request to; None writes none.
    """

    gateways: Sequence[str]
    abaci: Sequence[str]
    host: str = "127.0.0.1"
    port: int = 8080
    names: Sequence[str] = ()
    origins: Sequence[str] = ()
    node: str = "edge"
    page: Path | None = None
    descriptor_set: Path | None = None
    admin_socket: Path | None = None
    access_log: Path | None = None


def render(config: EdgeConfig) -> str:
    """Returns Envoy's configuration, in YAML.

    Raises:
        ValueError: An address is neither `unix:/path` nor `host:port`, or an origin is none.
    """
    page = (config.page or default_page()).absolute()
    descriptor_set = (config.descriptor_set or default_descriptor_set()).absolute()
    values: dict[str, Any] = {
        "node": config.node,
        "host": config.host,
        "port": config.port,
        "domains": _domains(config.names),
        # Envoy wants each domain once, so where any name will do there is no other.
        "other_domains": ["*"] if _domains(config.names) != ["*"] else ["unknown.invalid"],
        "origins": _origins(config.names, config.origins),
        "directory": json.dumps(_directory()),
        "access_log": [_file_log(config.access_log)] if config.access_log else [],
        "descriptor_set": str(descriptor_set),
        "strict_json": lua_tables(descriptor_set.read_bytes())
        + (_PACKAGE / "strict_json.lua").read_text(),
        "page_directory": f"{page}/",
        "max_body_bytes": MAX_BODY_BYTES,
        "gateway_discovery": _discovery(config.gateways),
        "gateway_endpoints": [_endpoint(address) for address in config.gateways],
        "abacus_discovery": _discovery(config.abaci),
        "abacus_endpoints": [_endpoint(address) for address in config.abaci],
    }
    fields = {name: json.dumps(value) for name, value in values.items()}
    fields["admin"] = _admin(config.admin_socket)
    return Template((_PACKAGE / "envoy.yaml").read_text()).substitute(fields)


def _admin(socket: Path | None) -> str:
    if socket is None:
        return "# No admin interface."
    return f"admin: {json.dumps({'address': {'pipe': {'path': str(socket), 'mode': 0o600}}})}"


def _domains(names: Sequence[str]) -> list[str]:
    if "*" in names:
        return ["*"]
    return sorted({f"[{name}]" if ":" in name else name for name in (*_LOOPBACK, *names)})


def is_origin(text: str) -> bool:
    """Tells whether a text is an origin as browsers send it: a scheme and a host, no path."""
    return _ORIGIN.fullmatch(text) is not None


def _origins(names: Sequence[str], further: Sequence[str]) -> str:
    for origin in further:
        if not is_origin(origin):
            raise ValueError(f"origin {origin!r} is not https://host or http://host, perhaps :port")
    domains = _domains(names)
    if domains == ["*"]:
        return ".*"
    own = rf"https?://({'|'.join(re.escape(domain) for domain in domains)})(:[0-9]+)?"
    return "|".join([own, *map(re.escape, further)])


def _directory() -> dict[str, Any]:
    """What a client is told at /: the versions, and where all else is."""
    return {
        "name": "tallymesh",
        "version": version("tallymesh"),
        "apis": ["tallymesh.v1"],
        "rest": "/v1",
        "whoami": "/v1/whoami",
        "health": "/v1/health",
        "openapi": "/openapi.json",
        "docs": "/docs",
    }


def _endpoint(address: str) -> dict[str, Any]:
    if address.startswith("unix:"):
        return {"endpoint": {"address": {"pipe": {"path": address.removeprefix("unix:")}}}}
    host, port = _host_and_port(address)
    return {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}}


def _host_and_port(address: str) -> tuple[str, int]:
    host, separator, port = address.rpartition(":")
    if not (separator and host and port.isdecimal() and 0 < int(port) < 2**16):
        raise ValueError(f"address {address!r} is neither unix:/path nor host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _discovery(addresses: Sequence[str]) -> str:
    return "STATIC" if all(map(_is_literal, addresses)) else "STRICT_DNS"


def _is_literal(address: str) -> bool:
    if address.startswith("unix:"):
        return True
    try:
        ipaddress.ip_address(_host_and_port(address)[0])
    except ValueError:
        return False
    return True


def _file_log(path: Path) -> dict[str, Any]:
    log = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": log,
            "path": str(path),
            "log_format": {
                "json_format": {
                    "time": "%START_TIME%",
                    "method": "%REQ(:METHOD)%",
                    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
                    "http_status": "%RESPONSE_CODE%",
                    "grpc_status": "%GRPC_STATUS%",
                    "details": "%RESPONSE_CODE_DETAILS%",
                    "milliseconds": "%DURATION%",
                    "upstream": "%UPSTREAM_HOST%",
                    "request_id": "%RESP(TALLYMESH-REQUEST-ID)%",
                }
            },
        },
    }
