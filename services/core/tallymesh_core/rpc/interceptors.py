"""The chain that every call to a service passes: request id, access log, errors.

It is one interceptor, not one for each concern: the three share the call's id and outcome, and
grpc.aio makes each link of a chain cost a wrapper around the handler.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from tallymesh_core.domain.errors import DomainError, MalformedRequest
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

    def __init__(self, node: str, max_request_bytes: int) -> None:
        self._node = node
        self._max_request_bytes = max_request_bytes
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Returns the handler of a call, wrapped once for all calls of its method."""
        method = handler_call_details.method
        if method in self._wrapped:
            return self._wrapped[method]
        handler = await continuation(handler_call_details)
        if handler is None or not method.startswith("/tallymesh."):
            return handler
        if handler.response_streaming:
            wrapped = grpc.unary_stream_rpc_method_handler(
                self._wrap_stream(handler.unary_stream, method),
                request_deserializer=self._wrap_reader(handler.request_deserializer, method),
                response_serializer=handler.response_serializer,
            )
        elif handler.request_streaming:
            wrapped = grpc.stream_unary_rpc_method_handler(
                self._wrap_upload(handler.stream_unary, method),
                request_deserializer=self._wrap_reader(handler.request_deserializer, method),
                response_serializer=handler.response_serializer,
            )
        else:
            wrapped = grpc.unary_unary_rpc_method_handler(
                self._wrap_unary(handler.unary_unary, method),
                request_deserializer=self._wrap_reader(handler.request_deserializer, method),
                response_serializer=handler.response_serializer,
            )
        self._wrapped[method] = wrapped
        return wrapped

    def _wrap_reader(self, inner: Any, method: str) -> Any:
        # gRPC answers an exception here by its class and text: so the handler is to raise it.
        def read(data: bytes) -> Any:
            if len(data) > self._max_request_bytes:
                return MalformedRequest(
                    f"the request of {len(data)} bytes is over the limit of"
                    f" {self._max_request_bytes} bytes",
                    metadata={
                        "value": str(len(data)),
                        "bound": f"at most {self._max_request_bytes} bytes",
                    },
                )
            try:
                return inner(data)
            except DecodeError:
                return MalformedRequest(f"what was sent is not a request of {method}")

        return read

    def _wrap_unary(self, inner: Any, method: str) -> Any:
        async def handle(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            call = _Call(method, context, self._node)
            try:
                _demand_readable(request)
                answer = await inner(request, context)
            except Exception as error:
                await call.abort(error)
            await call.name_to_rest()
            call.end()
            return answer

        return handle

    def _wrap_upload(self, inner: Any, method: str) -> Any:
        answer = self._wrap_unary(inner, method)

        async def handle(
            requests: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]
        ) -> Any:
            return await answer(_each_readable(requests), context)

        return handle

    def _wrap_stream(self, inner: Any, method: str) -> Any:
        async def handle(
            request: Any, context: grpc.aio.ServicerContext[Any, Any]
        ) -> AsyncIterator[Any]:
            call = _Call(method, context, self._node)
            try:
                _demand_readable(request)
                async for answer in inner(request, context):
                    await call.name_to_rest()
                    yield answer
            except Exception as error:
                await call.abort(error)
            call.end()

        return handle


def _demand_readable(request: Any) -> None:
    if isinstance(request, MalformedRequest):
        raise request


async def _each_readable(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        _demand_readable(request)
        yield request


class _Call:
    """One call being handled."""

    def __init__(self, method: str, context: grpc.aio.ServicerContext[Any, Any], node: str) -> None:
        self._method = method
        self._context = context
        self._started = time.perf_counter()
        self._caller, self._is_rest = _caller(context)
        set_caller(self._caller)
        # As trailing metadata: once a client has seen initial metadata, neither it nor a proxy
        # repeats a failed call; and sending them costs a fifth of a small call.
        self._names = ((NODE_HEADER, node), (REQUEST_ID_HEADER, self._caller.request_id))

    async def name_to_rest(self) -> None:
        """Names node and call before the first answer to REST, which has no trailers."""
        if self._is_rest:
            self._is_rest = False
            try:
                await self._context.send_initial_metadata(self._names)
            except grpc.aio.InternalError as error:
                self._lose(error)

    def end(self) -> None:
        """Ends the call well."""
        self._context.set_trailing_metadata(self._names)
        self._log("OK")

    async def abort(self, error: Exception) -> None:
        """Ends the call with the status of the error."""
        if isinstance(error, grpc.aio.AbortError):
            raise error
        if not isinstance(error, DomainError):
            request_id = self._caller.request_id
            logger.error(
                "%s failed", self._method, exc_info=error, extra={"request_id": request_id}
            )
            error = InternalError(request_id)
        code = status.grpc_code(error)
        self._log(code.name)
        try:
            await self._context.abort(
                code, error.message, trailing_metadata=(*status.trailers(error), *self._names)
            )
        except grpc.aio.InternalError as lost:
            self._lose(lost)

    def _lose(self, error: Exception) -> NoReturn:
        """Ends a call whose connection has died, as gRPC ends one that its caller has cancelled."""
        self._log("CANCELLED")
        raise asyncio.CancelledError from error

    def _log(self, code: str) -> None:
        if access_log.isEnabledFor(logging.DEBUG):
            facts = {
                "request_id": self._caller.request_id,
                "peer": self._caller.peer,
                "ms": round((time.perf_counter() - self._started) * 1000, 2),
            }
            access_log.debug("%s %s", self._method, code, extra=facts)


def _caller(context: grpc.aio.ServicerContext[Any, Any]) -> tuple[Caller, bool]:
    """The caller, and whether it speaks REST, which the edge has turned into gRPC."""
    given = forwarded = ""
    is_rest = False
    for key, value in context.invocation_metadata() or ():
        if key == "x-request-id" and _VALID_REQUEST_ID.fullmatch(str(value)):
            given = str(value)
        elif key == "x-forwarded-for":
            forwarded = str(value)
        elif key == "x-envoy-original-method":
            is_rest = True
    caller = Caller(
        request_id=given or uuid.uuid4().hex,
        find_peer=lambda: forwarded or str(context.peer()),
    )
    return caller, is_rest
