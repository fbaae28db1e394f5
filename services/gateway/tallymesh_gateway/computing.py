"""Computations without a job: a worker's own Compute, passed on to who asks for one."""

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc
import grpc.aio

from tallymesh.v1 import worker_service_pb2 as pb
from tallymesh.v1 import worker_service_pb2_grpc
from tallymesh.v1.job_service_pb2 import ComputeResponse
from tallymesh.v1.work_pb2 import Work
from tallymesh_core.domain.errors import (
    DeadlinePassed,
    NoFreeSlot,
    NoWorker,
    ServiceUnavailable,
    ShuttingDown,
)
from tallymesh_core.rpc.channel import open_channel
from tallymesh_core.rpc.status import from_rpc_error
from tallymesh_gateway.fleet import Fleet, KnownWorker

# What is known of the workers is up to a second old, so the least busy may be busy by now. Asking
# takes a millisecond each; beyond so many the mesh is as good as full.
_MAX_ASKED = 16
# Work that takes its workers down is not to take all of them.
_MAX_LOST = 3
_RETRY_SECONDS = 0.2
# A worker answers at once, and then at least every 5 s: one that is silent for longer than this is
# frozen, or cut off.
_FIRST_SECONDS, _SILENCE_SECONDS = 3.0, 11.0


_Call: TypeAlias = "grpc.aio.UnaryStreamCall[Any, pb.WorkerServiceComputeResponse]"


class Computations:
    """Finds a worker for each computation, and tells what it tells."""

    def __init__(self, fleet: Fleet, node: str) -> None:
        """Passes on to a fleet, in the name of a gateway."""
        self._fleet = fleet
        self._node = node
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._calls: Counter[str] = Counter()
        self._open: set[_Call] = set()
        self._stopping = False

    def stop(self) -> None:
        """Ends all computations, as the gateway does."""
        self._stopping = True
        for call in self._open:
            call.cancel()

    async def compute(
        self, work: Work, kernel: str, queue: str, timeout: float | None
    ) -> AsyncIterator[ComputeResponse]:
        """Yields how far a computation is, and its result last.

        Args:
            work: What to compute; checked.
            kernel: The kernel that it takes.
            queue: Only workers of this queue are asked.
            timeout: Seconds that the caller has left, or None.

        Raises:
            NoWorker: None is alive that could compute it.
            NoFreeSlot: All that could are busy.
            ServiceUnavailable: Those that could are lost meanwhile, or cannot be reached.
            ShuttingDown: The gateway stops.
            DomainError: What the worker says of the work, or of what became of it.
        """
        if self._stopping:
            raise ShuttingDown(self._node)
        able = await self._able(kernel, queue)
        if not able:
            raise NoWorker(kernel, queue)
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        told, lost, busy = -1.0, 0, 0
        for known in able[:_MAX_ASKED]:
            name = known.worker.name
            begun = False
            try:
                async for answer in self._ask(known.worker.address, work, deadline):
                    begun = True
                    if answer.HasField("result"):
                        yield ComputeResponse(
                            result=answer.result, handled_by=name, answered_by=self._node
                        )
                        return
                    told = max(told, answer.fraction)
                    yield ComputeResponse(fraction=told, handled_by=name, answered_by=self._node)
            except (NoFreeSlot, ShuttingDown):
                if self._stopping:
                    raise ShuttingDown(self._node) from None
                busy += 1
            except ServiceUnavailable:
                lost += begun
                if lost == _MAX_LOST:
                    break
        if lost:
            raise ServiceUnavailable(f"{lost} workers were lost while they computed it")
        if not busy:
            raise ServiceUnavailable(f"no worker that serves {kernel} can be reached")
        raise NoFreeSlot(
            f"all {len(able)} workers that serve {kernel} are busy"
            if len(able) > 1
            else f"{able[0].worker.name}, the one worker that serves {kernel}, is busy",
            retry_after=_RETRY_SECONDS,
        )

    async def close(self) -> None:
        """Closes the connections to workers."""
        for channel in self._channels.values():
            await channel.close()

    async def _able(self, kernel: str, queue: str) -> list[KnownWorker]:
        """Returns who can compute it, the least busy first."""
        workers = await self._fleet.workers()
        await self._let_go({known.worker.address for known in workers})
        able = [known for known in workers if known.worker.address and known.takes(queue, kernel)]
        random.shuffle(able)  # so that gateways which know the same do not all ask the same
        able.sort(key=self._load)
        return able

    def _load(self, known: KnownWorker) -> float:
        held = known.live.held + self._calls[known.worker.address]
        return held / max(1, known.worker.slots)

    async def _ask(
        self, address: str, work: Work, deadline: float
    ) -> AsyncIterator[pb.WorkerServiceComputeResponse]:
        if address not in self._channels:
            self._channels[address] = open_channel(address)
        stub = worker_service_pb2_grpc.WorkerServiceStub(self._channels[address])
        self._calls[address] += 1
        left = None if deadline == math.inf else max(deadline - time.monotonic(), 0.0)
        call: _Call = stub.Compute(pb.WorkerServiceComputeRequest(work=work), timeout=left)
        self._open.add(call)
        patience = _FIRST_SECONDS
        try:
            while True:
                # The deadline is kept here too, whatever gRPC makes of it.
                async with asyncio.timeout(min(patience, deadline - time.monotonic())):
                    answer = await call.read()
                if not isinstance(answer, pb.WorkerServiceComputeResponse):
                    raise ServiceUnavailable("the worker ended the call without a result")
                yield answer
                patience = _SILENCE_SECONDS
        except TimeoutError:
            if time.monotonic() >= deadline:
                raise DeadlinePassed("the caller's deadline passed") from None
            raise ServiceUnavailable(f"the worker was silent for {patience:g} s") from None
        except asyncio.CancelledError:
            if self._stopping:
                raise ShuttingDown(self._node) from None
            raise
        except grpc.aio.AioRpcError as error:
            # Past the deadline a worker stops too, and may be the first to say how.
            late = time.monotonic() >= deadline
            if late or error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise DeadlinePassed("the caller's deadline passed") from error
            raise from_rpc_error(error, "the worker") from error
        finally:
            call.cancel()
            self._open.discard(call)
            self._calls[address] -= 1

    async def _let_go(self, alive: set[str]) -> None:
        """Closes the connections to workers that are no more."""
        for address in [*self._channels]:
            if address not in alive and not self._calls[address]:
                del self._calls[address]
                if channel := self._channels.pop(address, None):
                    await channel.close()
