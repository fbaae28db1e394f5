"""Calling the mesh, awaited: as tallymesh.calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

import grpc.aio
from google.protobuf.message import Message

from tallymesh.calls import OVERTIME_SECONDS, Attempts, Reach, UploadAttempts
from tallymesh.errors import ClientClosed
from tallymesh.watching import DEFAULT_LIMITS, Limits, OnCut, Reading

Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer", bound=Message)
Item = TypeVar("Item", bound=Message)


class AsyncCaller(Reach):
    """Makes calls with a client's metadata and deadline, and translates their errors."""

    async def unary(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Answer],
        request: Request,
        timeout: float | None = None,
    ) -> Answer:
        """Returns the answer of a unary call, as Caller.unary()."""
        return await self._repeat(
            Attempts(self, timeout),
            lambda left: method(request, timeout=left, metadata=self.metadata),
        )

    async def upload(
        self,
        method: grpc.aio.StreamUnaryMultiCallable[Request, Answer],
        requests: Sequence[Request],
        timeout: float | None = None,
    ) -> Answer:
        """Returns the answer to a stream of requests, as Caller.upload()."""
        return await self._repeat(
            UploadAttempts(self, timeout),
            lambda left: method(iter(requests), timeout=left, metadata=self.metadata),
        )

    def stream(
        self,
        method: grpc.aio.UnaryStreamMultiCallable[Request, Answer],
        request: Request,
        timeout: float | None = None,
    ) -> grpc.aio.UnaryStreamCall[Request, Answer]:
        """Opens a server stream; its errors come untranslated, while it is read."""
        try:
            return method(request, timeout=timeout, metadata=self.metadata)
        except grpc.aio.UsageError:
            self._tell_closed()
            raise

    async def _repeat(
        self, attempts: Attempts, call: Callable[[float], Awaitable[Answer]]
    ) -> Answer:
        while True:
            left = attempts.left()
            try:
                # Not for ever where gRPC forgets its own deadline.
                async with asyncio.timeout(left + OVERTIME_SECONDS):
                    answer = await call(left)
            except TimeoutError:
                pause = attempts.pause_after(None)
            except grpc.aio.AioRpcError as failed:
                pause = attempts.pause_after(failed)
            except (asyncio.CancelledError, grpc.aio.UsageError):
                self._tell_closed()
                raise
            else:
                self.reached = True
                return answer
            await asyncio.sleep(pause)

    def _tell_closed(self) -> None:
        """Raises ClientClosed where a call ended as the client is closed, and no task is."""
        if self.closed and not is_task_cancelled():
            raise ClientClosed from None


def is_task_cancelled() -> bool:
    """Tells whether somebody cancels the current task, not only a call that it awaits."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def read_on(
    caller: Reach,
    open_stream: Callable[[float | None], grpc.aio.UnaryStreamCall[Request, Item]],
    is_last: Callable[[Item], bool],
    *,
    timeout: float | None = None,
    limits: Limits = DEFAULT_LIMITS,
    on_cut: OnCut | None = None,
) -> AsyncIterator[Item]:
    """Yields what the stream brings until its last message, as tallymesh.watching.read_on()."""
    reading = Reading(caller, limits, timeout, on_cut)
    while True:
        stream = open_stream(reading.open())
        items = aiter(stream)
        try:
            while True:
                async with asyncio.timeout(reading.wait()):
                    item = await anext(items)
                caller.reached = True
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
