"""Calling the mesh, awaited: as tallymesh.calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

import grpc.aio
from google.protobuf.message import Message

from tallymesh.calls import Attempts, Metadata, UploadAttempts, bounded
from tallymesh.errors import ClientClosed
from tallymesh.watching import DEFAULT_LIMITS, Limits, OnCut, Reading

Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer", bound=Message)
Item = TypeVar("Item", bound=Message)


class AsyncCaller:
    """Makes calls with a client's metadata and deadline, and translates their errors."""

    def __init__(self, timeout: float, metadata: Metadata) -> None:
        self.timeout = bounded(timeout)
        self.reached = False
        self.closed = False
        self._metadata = tuple(metadata)

    async def unary(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Answer],
        request: Request,
        timeout: float | None = None,
    ) -> Answer:
        """Returns the answer of a unary call, as Caller.unary()."""
        attempts = Attempts(self._seconds(timeout), reached=self.reached)
        return await self._repeat(
            attempts, lambda left: method(request, timeout=left, metadata=self._metadata)
        )

    async def upload(
        self,
        method: grpc.aio.StreamUnaryMultiCallable[Request, Answer],
        requests: Sequence[Request],
        timeout: float | None = None,
    ) -> Answer:
        """Returns the answer to a stream of requests, as Caller.upload()."""
        attempts = UploadAttempts(self._seconds(timeout), reached=self.reached)
        return await self._repeat(
            attempts, lambda left: method(iter(requests), timeout=left, metadata=self._metadata)
        )

    def stream(
        self,
        method: grpc.aio.UnaryStreamMultiCallable[Request, Answer],
        request: Request,
        timeout: float | None = None,
    ) -> grpc.aio.UnaryStreamCall[Request, Answer]:
        """Opens a server stream; its errors come untranslated, while it is read."""
        try:
            return method(request, timeout=timeout, metadata=self._metadata)
        except grpc.aio.UsageError:
            self._tell_closed()
            raise

    async def _repeat(
        self, attempts: Attempts, call: Callable[[float], Awaitable[Answer]]
    ) -> Answer:
        while True:
            try:
                answer = await call(attempts.left())
            except grpc.aio.AioRpcError as failed:
                pause = attempts.pause_after(failed)
            except (asyncio.CancelledError, grpc.aio.UsageError):
                self._tell_closed()
                raise
            else:
                self.reached = True
                return answer
            await asyncio.sleep(pause)

    def _seconds(self, timeout: float | None) -> float:
        return self.timeout if timeout is None else timeout

    def _tell_closed(self) -> None:
        """Raises ClientClosed where a call ended as the client is closed, and no task is."""
        if self.closed and not is_task_cancelled():
            raise ClientClosed from None


def is_task_cancelled() -> bool:
    """Tells whether somebody cancels the current task, not only a call that it awaits."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def read_on(
    open_stream: Callable[[float | None], grpc.aio.UnaryStreamCall[Request, Item]],
    is_last: Callable[[Item], bool],
    *,
    timeout: float | None = None,
    limits: Limits = DEFAULT_LIMITS,
    on_cut: OnCut | None = None,
    reached: bool = False,
) -> AsyncIterator[Item]:
    """Yields what the stream brings until its last message, as tallymesh.watching.read_on()."""
    reading = Reading(limits, timeout, on_cut, reached=reached)
    while True:
        stream = open_stream(reading.open())
        items = aiter(stream)
        try:
            while True:
                async with asyncio.timeout(limits.silence):
                    item = await anext(items)
                yield item
                if is_last(item):
                    return
                reading.hear()
        except (TimeoutError, StopAsyncIteration):
            pause = reading.pause_after(None)
        except grpc.aio.AioRpcError as broken:
            pause = reading.pause_after(broken)
        except asyncio.CancelledError:
            if is_task_cancelled():
                raise
            pause = 0.0  # its channel was closed, as opening it again tells
        finally:
            stream.cancel()
        await asyncio.sleep(pause)
