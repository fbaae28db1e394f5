"""A connection that dies while its call is answered is nobody's fault, and no error in the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc._cython.cygrpc import ExecuteBatchError  # type: ignore[import-not-found]

from tallymesh_core.domain.errors import NotFound
from tallymesh_core.rpc.interceptors import CallInterceptor
from tallymesh_core.telemetry.logging import configure


class LostContext:
    """The context of a call whose connection has just died."""

    def __init__(self, *metadata: tuple[str, str]) -> None:
        self._metadata = metadata

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def set_trailing_metadata(self, metadata: object) -> None: ...

    async def send_initial_metadata(self, metadata: object) -> None:
        raise ExecuteBatchError("Failed grpc_call_start_batch")

    async def abort(self, *status: object, **more: object) -> None:
        raise ExecuteBatchError("Failed grpc_call_start_batch")


async def wrapped(handler: grpc.RpcMethodHandler[Any, Any]) -> Any:
    async def find(details: object) -> grpc.RpcMethodHandler[Any, Any]:
        return handler

    class Details:
        method = "/tallymesh.v1.JobService/Any"

    found: Any = await CallInterceptor("node", 1000).intercept_service(find, Details())  # type: ignore[arg-type]
    return found


async def fails(request: object, context: object) -> object:
    raise NotFound("jobs/none")


async def answers(request: object, context: object) -> object:
    return "answer"


async def streams(request: object, context: object) -> AsyncIterator[object]:
    yield "answer"


@pytest.mark.parametrize("handler", [fails, answers])
async def test_a_call_ends_as_one_that_was_cancelled(
    handler: Any, caplog: pytest.LogCaptureFixture
) -> None:
    method = await wrapped(grpc.unary_unary_rpc_method_handler(handler))
    with pytest.raises(asyncio.CancelledError):
        await method.unary_unary("request", LostContext(("x-envoy-original-method", "GET")))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_stream_ends_as_one_that_was_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    method = await wrapped(grpc.unary_stream_rpc_method_handler(streams))
    with pytest.raises(asyncio.CancelledError):
        async for _ in method.unary_stream(
            "request", LostContext(("x-envoy-original-method", "GET"))
        ):
            pass
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_what_grpc_logs_of_it_is_left_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    configure("info", "text", "node")
    log = logging.getLogger("grpc._cython.cygrpc")
    for error in (ExecuteBatchError("lost"), ValueError("a fault of ours")):
        try:
            raise error
        except Exception:
            log.exception("raised by servicer method")
    said = capsys.readouterr().err
    assert "ExecuteBatchError" not in said
    assert "ValueError: a fault of ours" in said
