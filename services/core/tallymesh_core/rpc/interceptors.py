"""The chain that every call to a service passes: request id, access log, errors.

It is one interceptor, not one for each concern: the three share the call's id and outcome, and
grpc.aio makes each link of a chain cost a wrapper around the handler.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from tallymesh_core.domain.errors import DomainError
from tallymesh_core.rpc import status
from tallymesh_core.rpc.context import Caller, set_caller

#: Metadata that names who answered, and under which id the call stands in the logs.
NODE_HEADER = "tallymesh-node"
REQUEST_ID_HEADER = "tallymesh-request-id"

_VALID_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

access_log = logging.getLogger("tallymesh.access")
logger = logging.getLogger(__name__)


class InternalError(DomainError):
    """A fault of ours, told to the caller by a correlation id only."""

    def __init__(self, request_id: str) -> None:
        super().__init__(
            f"internal error; correlation id {request_id}", metadata={"correlation_id": request_id}
        )


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Names the call and its caller, turns errors into rich statuses, and logs the outcome."""

    def __init__(self, node: str) -> None:
        self._node = node

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wraps the handler of a call."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith("/tallymesh."):
            return handler
        metadata = dict(handler_call_details.invocation_metadata or ())
        if handler.response_streaming:
            wrap, make = self._wrap_stream, grpc.unary_stream_rpc_method_handler
            inner = handler.unary_stream
        else:
            wrap, make = self._wrap_unary, grpc.unary_unary_rpc_method_handler
            inner = handler.unary_unary
        return make(
            wrap(inner, method, metadata),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _wrap_unary(self, inner: Any, method: str, metadata: dict[str, Any]) -> Any:
        async def handle(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            caller, started = _caller(context, metadata), time.perf_counter()
            try:
                answer = await inner(request, context)
            except Exception as error:
                await self._abort(context, method, caller, started, error)
            await context.send_initial_metadata(self._named(caller))
            self._log(method, caller, started, "OK")
            return answer

        return handle

    def _wrap_stream(self, inner: Any, method: str, metadata: dict[str, Any]) -> Any:
        async def handle(
            request: Any, context: grpc.aio.ServicerContext[Any, Any]
        ) -> AsyncIterator[Any]:
            caller, started = _caller(context, metadata), time.perf_counter()
            begun = False
            try:
                async for answer in inner(request, context):
                    if not begun:
                        await context.send_initial_metadata(self._named(caller))
                        begun = True
                    yield answer
            except Exception as error:
                await self._abort(context, method, caller, started, error)
            self._log(method, caller, started, "OK")

        return handle

    def _named(self, caller: Caller) -> tuple[tuple[str, str], ...]:
        # Sent with the first answer or with the error, never before: once a client has seen any
        # metadata, neither it nor a proxy repeats a failed call.
        return ((NODE_HEADER, self._node), (REQUEST_ID_HEADER, caller.request_id))

    async def _abort(
        self,
        context: grpc.aio.ServicerContext[Any, Any],
        method: str,
        caller: Caller,
        started: float,
        error: Exception,
    ) -> None:
        if isinstance(error, grpc.aio.AbortError):
            raise error
        if not isinstance(error, DomainError):
            logger.error(
                "%s failed", method, exc_info=error, extra={"request_id": caller.request_id}
            )
            error = InternalError(caller.request_id)
        code = status.grpc_code(error)
        self._log(method, caller, started, code.name)
        named = (*status.trailers(error), *self._named(caller))
        await context.abort(code, error.message, trailing_metadata=named)

    def _log(self, method: str, caller: Caller, started: float, code: str) -> None:
        access_log.debug(
            "%s %s",
            method,
            code,
            extra={
                "request_id": caller.request_id,
                "peer": caller.peer,
                "ms": round((time.perf_counter() - started) * 1000, 2),
            },
        )


def _caller(context: grpc.aio.ServicerContext[Any, Any], metadata: dict[str, Any]) -> Caller:
    """Returns who calls, and makes them the current caller."""
    given = metadata.get("x-request-id", "")
    request_id = given if _VALID_REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    peer = metadata.get("x-forwarded-for") or context.peer()
    caller = Caller(request_id=request_id, peer=peer)
    set_caller(caller)
    return caller
