"""The channel to a mesh."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from tallymesh.address import Target, choose_address, parse_address
from tallymesh.errors import InvalidField

if TYPE_CHECKING:
    import grpc.aio

# Services of the mesh tolerate a ping every 10 s.
_KEEPALIVE_MILLISECONDS = 20_000
_KEEPALIVE_TIMEOUT_MILLISECONDS = 10_000
# What gRPC takes as metadata.
_KEY = re.compile(r"[0-9a-z_.-]+")
_VALUE = re.compile(r"[ -~]*")


@dataclass(frozen=True)
class Tls:
    """How to speak TLS; nothing given means: as a browser would.

    Attributes:
        ca: File of the authorities, PEM, by one of which the server's certificate is signed.
            Default: those that gRPC knows.
        certificate: File of a certificate of one's own, PEM, for a server that asks for one.
        key: File of the private key of that certificate.
        name: The server's name, if its certificate has another one than the address.
    """

    ca: str | Path | None = None
    certificate: str | Path | None = None
    key: str | Path | None = None
    name: str = ""

    def credentials(self) -> grpc.ChannelCredentials:
        """Returns them as gRPC takes them.

        Raises:
            InvalidField: A file cannot be read, or a certificate comes without its key.
        """
        if (self.certificate is None) != (self.key is None):
            raise InvalidField.of("tls.key", self.key or "", "given together with tls.certificate")
        return grpc.ssl_channel_credentials(
            _content("tls.ca", self.ca),
            _content("tls.key", self.key),
            _content("tls.certificate", self.certificate),
        )


class Connection:
    """How to reach a mesh.

    Attributes:
        address: Where it is.
        metadata: gRPC metadata to send with every call.
    """

    def __init__(
        self,
        address: str | Sequence[str] | None,
        tls: bool | Tls,
        token: str | None,
        metadata: Mapping[str, str] | None,
    ) -> None:
        """Prepares, without connecting; args and errors as of Client."""
        given = address if address is None or isinstance(address, str) else ",".join(address)
        self.address = choose_address(given)
        self._target = parse_address(self.address)
        self._tls = Tls() if tls is True else tls or (Tls() if self._target.tls else None)
        if token is not None and not (self._tls or self._target.local):
            raise InvalidField.of("token", "***", "sent without TLS, but to this machine")
        if token is not None and not _VALUE.fullmatch(token):
            raise InvalidField.of("token", "***", "of printable ASCII characters")
        for key, value in (metadata or {}).items():
            if not _KEY.fullmatch(key) or key.startswith("grpc-") or key.endswith("-bin"):
                raise InvalidField.of("metadata", key, "a key of [a-z0-9_.-] for text")
            if not isinstance(value, str) or not _VALUE.fullmatch(value):
                raise InvalidField.of(f"metadata.{key}", value, "printable ASCII characters")
        secret = {"authorization": f"Bearer {token}"} if token is not None else {}
        self.metadata = tuple({**(metadata or {}), **secret}.items())

    def open(self) -> grpc.Channel:
        """Opens a channel, without yet connecting."""
        if self._tls is None:
            return grpc.insecure_channel(self._target.resolve(), options=self._options())
        return grpc.secure_channel(
            self._target.resolve(), self._tls.credentials(), options=self._options()
        )

    def open_async(self) -> grpc.aio.Channel:
        """Opens a channel for asyncio, without yet connecting."""
        from grpc import aio

        if self._tls is None:
            return aio.insecure_channel(self._target.resolve(), options=self._options())
        return aio.secure_channel(
            self._target.resolve(), self._tls.credentials(), options=self._options()
        )

    def _options(self) -> list[tuple[str, str | int]]:
        options = _make_options(self._target)
        if self._tls and self._tls.name:
            options.append(("grpc.ssl_target_name_override", self._tls.name))
        return options


def _content(field: str, path: str | Path | None) -> bytes | None:
    try:
        return None if path is None else Path(path).read_bytes()
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise InvalidField.of(field, path, f"a file that can be read ({why})") from error


def _make_options(target: Target) -> list[tuple[str, str | int]]:
    """Returns the options of a channel to a target."""
    # No retry policy: it hides what a call failed of at first, as that a connection was there, and
    # a stream that it repeats may outlive its deadline. Attempts and Reading repeat what is safe.
    options: list[tuple[str, str | int]] = [
        ("grpc.keepalive_time_ms", _KEEPALIVE_MILLISECONDS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MILLISECONDS),
        # Results of up to 1 MiB come many in a message; gRPC alone would take 4 MiB.
        ("grpc.max_receive_message_length", -1),
        # A mesh that comes back is found within a second; gRPC would wait up to 2 min.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
    ]
    if target.local:
        # A proxy of the environment is for the way out, not for this machine.
        options.append(("grpc.enable_http_proxy", 0))
    if target.authority:
        config = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})
        options.append(("grpc.service_config", config))
        # A list is no name: no edge goes by it, and no certificate could bear it.
        options.append(("grpc.default_authority", target.authority))
    return options
