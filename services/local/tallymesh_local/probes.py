"""Asking each part of the mesh whether it is ready. Every probe answers False while it is not."""

import asyncio
from pathlib import Path
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tallymesh.v1 import mesh_service_pb2, mesh_service_pb2_grpc
from tallymesh_local.addresses import split

_TIMEOUT_SECONDS = 1.0


async def store_answers(socket: Path) -> bool:
    """Tells whether the store's server on a unix socket answers, with its data loaded."""
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            try:
                writer.write(b"PING\r\n")
                return await reader.readline() == b"+PONG\r\n"
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


async def serves(address: str, service: str) -> bool:
    """Tells whether a gRPC server says that it serves `service`."""
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(
                health_pb2.HealthCheckRequest(service=service), timeout=_TIMEOUT_SECONDS
            )
        except grpc.aio.AioRpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def has_workers(address: str, count: int) -> bool:
    """Tells whether a gateway knows of at least `count` live workers."""
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            answer = await mesh_service_pb2_grpc.MeshServiceStub(channel).GetHealth(
                mesh_service_pb2.GetHealthRequest(), timeout=_TIMEOUT_SECONDS
            )
        except grpc.aio.AioRpcError:
            return False
    return answer.worker_count >= count


async def answers_http(address: str, path: str) -> bool:
    """Tells whether a GET of `path` at `host:port` answers 200."""
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            reader, writer = await asyncio.open_connection(*split(address))
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n".encode())
                return (await reader.readline()).startswith(b"HTTP/1.1 200 ")
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
