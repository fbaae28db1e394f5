"""Reflection that knows methods by name, as grpcurl describes and ghz calls them."""

from collections.abc import Iterable
from typing import Any

import grpc.aio
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection


class _Pool:
    """The descriptors of this process; grpcio's reflection does not ask it for methods."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802 - protobuf's name
        """Returns the file that declares something; KeyError if none does."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            return self._pool.FindMethodByName(symbol).containing_service.file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)


def enable_reflection(services: Iterable[str], server: grpc.aio.Server) -> None:
    """Has a server describe services, and the reflection service itself."""
    names = (*services, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server, _Pool())  # type: ignore[arg-type]
