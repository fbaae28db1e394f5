"""WorkerService: what a worker serves itself."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Final

import grpc.aio

from tallymesh.v1 import work_pb2, worker_service_pb2, worker_service_pb2_grpc
from tallymesh.v1.dispatch_service_pb2 import Worker
from tallymesh_core.domain.errors import (
    ChunkCrashed,
    ChunkFailed,
    InvalidField,
    NoFreeSlot,
    ShuttingDown,
    UnknownKernel,
)
from tallymesh_kernels import Invalid, Registry, is_settled, settled
from tallymesh_kernels import UnknownKernel as NotRegistered
from tallymesh_worker.foreman import Foreman
from tallymesh_worker.jobs import Job, Jobs
from tallymesh_worker.spans import Span
from tallymesh_worker.times import Times

# How often a computation's progress is told.
PROGRESS_SECONDS: Final = 0.1
# How long it may be silent where there is no progress to tell.
KEEPALIVE_SECONDS: Final = 5.0
# When to ask again a worker that has no free slot.
RETRY_SECONDS: Final = 0.2
# Work of no job: one chunk, one attempt.
_SPAN: Final = Span(job="", epoch=0, attempt=1, first=0, count=1)


class _Computation:
    """What becomes of one computation; hears the process that it runs on."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[work_pb2.Result] = asyncio.get_running_loop().create_future()

    def computed(
        self, job: Job, chunks: Span, values: tuple[int, ...] | tuple[bytes, ...], times: Times
    ) -> None:
        """Does not happen: the work is computed up to its result."""

    def concluded(self, job: Job, chunk: Span, result: bytes, times: Times) -> None:
        """Takes the result."""
        if not self.outcome.done():
            self.outcome.set_result(work_pb2.Result.FromString(result))

    def failed(self, job: Job, chunk: Span, message: str, *, refused: bool) -> None:
        """Takes the failure."""
        self._fail(ChunkFailed(message))

    def logged(self, chunk: Span, text: bytes, *, failed: bool) -> None:
        """Nobody asks for a log where there is no job to keep it with."""

    def available(self, unfinished: list[Span]) -> None:
        """Takes it for a failure that the process gave up."""
        if unfinished:
            self._fail(ChunkFailed("the computation was given up"))

    def ended(self, crashed: Span | None, unfinished: list[Span], how: str) -> None:
        """Takes the end of the process for a crash."""
        self._fail(ChunkCrashed(how))

    def _fail(self, error: Exception) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)


def _nobody_waits() -> None:
    """Called once a computation that nobody waits for has stopped."""


class WorkerService(worker_service_pb2_grpc.WorkerServiceServicer):
    """Computes at once, describes the worker, makes it leave."""

    def __init__(
        self,
        worker: Worker,
        registry: Registry,
        foreman: Foreman,
        jobs: Jobs,
        stop: asyncio.Event,
    ) -> None:
        """Serves for a worker.

        Args:
            worker: Who it is.
            registry: Checks works.
            foreman: Has the compute processes.
            jobs: Makes jobs of works.
            stop: Set to make the worker leave.
        """
        self._worker = worker
        self._registry = registry
        self._foreman = foreman
        self._jobs = jobs
        self._stop = stop
        self._started = time.monotonic()

    async def Compute(  # noqa: D102 - see the proto
        self,
        request: worker_service_pb2.WorkerServiceComputeRequest,
        context: grpc.aio.ServicerContext[
            worker_service_pb2.WorkerServiceComputeRequest,
            worker_service_pb2.WorkerServiceComputeResponse,
        ],
    ) -> AsyncIterator[worker_service_pb2.WorkerServiceComputeResponse]:
        if self._stop.is_set():
            raise ShuttingDown(self._worker.name)
        work = self._checked(request.work)
        computation = _Computation()
        process = self._foreman.pool.reserve(computation)
        if process is None:
            raise NoFreeSlot(
                f"all {self._worker.slots} slots of {self._worker.name} are taken",
                retry_after=RETRY_SECONDS,
            )
        job = self._jobs.create("", work, 1)
        process.send(job, _SPAN, whole=True)
        told, told_at = 0.0, time.monotonic()
        try:
            yield worker_service_pb2.WorkerServiceComputeResponse(fraction=told)
            while not (await asyncio.wait([computation.outcome], timeout=PROGRESS_SECONDS))[0]:
                running = process.running()
                fraction = running.fraction if running else 0.0
                now = time.monotonic()
                if fraction > told or now - told_at >= KEEPALIVE_SECONDS:
                    told, told_at = max(told, fraction), now
                    yield worker_service_pb2.WorkerServiceComputeResponse(fraction=told)
            result = computation.outcome.result()
        finally:
            if computation.outcome.cancel():
                process.stop(process.running(), _nobody_waits)
            process.forget(job)
            self._foreman.pool.release(process)
        # The slot is free by the time that the caller knows.
        yield worker_service_pb2.WorkerServiceComputeResponse(result=result)

    async def Describe(  # noqa: D102 - see the proto
        self,
        request: worker_service_pb2.DescribeRequest,
        context: grpc.aio.ServicerContext[
            worker_service_pb2.DescribeRequest, worker_service_pb2.DescribeResponse
        ],
    ) -> worker_service_pb2.DescribeResponse:
        foreman = self._foreman
        running = foreman.running()
        answer = worker_service_pb2.DescribeResponse(
            worker=self._worker,
            running=[chunk.span.to_range() for chunk in running],
            waiting=sum(span.count for span in foreman.spans()) - len(running),
            chunks_done=foreman.chunks_done,
            chunks_failed=foreman.chunks_failed,
            processes_replaced=foreman.pool.replaced,
            draining=self._stop.is_set(),
        )
        answer.uptime.FromMilliseconds(round((time.monotonic() - self._started) * 1000))
        return answer

    async def Drain(  # noqa: D102 - see the proto
        self,
        request: worker_service_pb2.DrainRequest,
        context: grpc.aio.ServicerContext[
            worker_service_pb2.DrainRequest, worker_service_pb2.DrainResponse
        ],
    ) -> worker_service_pb2.DrainResponse:
        self._stop.set()
        return worker_service_pb2.DrainResponse(running=len(self._foreman.running()))

    def _checked(self, work: work_pb2.Work) -> work_pb2.Work:
        """Returns valid work that leaves nothing to the mesh."""
        try:
            kernel, message = self._registry.of(work)
        except NotRegistered as error:
            raise UnknownKernel("work.kernel", error.name, ", ".join(error.known)) from error
        try:
            kernel.validate(message)
        except Invalid as error:
            field = f"work.{work.WhichOneof('kernel')}.{error.field}"
            raise InvalidField(field, error.value, error.bound) from error
        if is_settled(work):
            return work
        return settled(work, chunk_count=1, slots=dict.fromkeys(self._registry.names(), 1))
