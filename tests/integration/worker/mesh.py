"""A gateway of tests' own: gives chunks of a few jobs, keeps books, and misbehaves when told."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration

from tallymesh.v1 import dispatch_service_pb2 as pb
from tallymesh.v1 import dispatch_service_pb2_grpc, work_pb2

Context = grpc.aio.ServicerContext[pb.SynchronizeRequest, pb.SynchronizeResponse]


@dataclass
class FakeJob:
    """A job's chunks and what became of them."""

    name: str
    work: work_pb2.Work
    chunk_count: int
    waiting: list[tuple[int, int]] = field(default_factory=list)
    """Ranges to be given, as first and end."""
    counted: Counter[int] = field(default_factory=Counter)
    """How often a result came for each chunk, repeats of a call aside."""
    sums: dict[int, int] = field(default_factory=dict)
    partials: dict[int, work_pb2.Result] = field(default_factory=dict)
    result: work_pb2.Result | None = None
    failures: list[pb.ChunkFailure] = field(default_factory=list)
    returned: list[pb.ChunkRange] = field(default_factory=list)
    progress: dict[int, list[float]] = field(default_factory=dict)
    keeps_returned: bool = False
    """Does not give again what was handed back."""

    @property
    def done(self) -> bool:
        return len(self.counted) == self.chunk_count

    def returned_chunks(self) -> list[int]:
        return [i for r in self.returned for i in range(r.first, r.first + r.count)]


class FakeGateway(dispatch_service_pb2_grpc.DispatchServiceServicer):
    """Answers Synchronize as the contract says, for one worker."""

    def __init__(self) -> None:
        self.jobs: dict[str, FakeJob] = {}
        self.requests: list[pb.SynchronizeRequest] = []
        self.answers: dict[str, pb.SynchronizeResponse] = {}
        self.deaf = False
        """Answers UNAVAILABLE without having done anything."""
        self.lost_answers = 0
        """So many next calls with results are done and answered UNAVAILABLE."""
        self.drain = False
        self._stops: list[pb.ChunkRange] = []
        self._changed = asyncio.Event()

    def add(self, name: str, work: work_pb2.Work, chunks: int) -> FakeJob:
        job = FakeJob(name, work, chunks, [(0, chunks)])
        self.jobs[name] = job
        self.wake()
        return job

    def stop(self, name: str, first: int = 0, count: int = 1 << 31, attempt: int = 0) -> None:
        self._stops.append(
            pb.ChunkRange(job=name, epoch=1, first=first, count=count, attempt=attempt)
        )
        self.wake()

    def wake(self) -> None:
        self._changed.set()

    async def Synchronize(
        self, request: pb.SynchronizeRequest, context: Context
    ) -> pb.SynchronizeResponse:
        self.requests.append(request)
        if self.deaf:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "deaf")
        if request.call_id in self.answers:
            return self.answers[request.call_id]
        self._take_in(request)
        answer = pb.SynchronizeResponse(answered_by="fake", drain=self.drain)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + request.wait.ToMilliseconds() / 1000
        while not self._give(request, answer) and (left := deadline - loop.time()) > 0:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)
        self.answers[request.call_id] = answer
        if self.lost_answers and request.results:
            self.lost_answers -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "lost")
        return answer

    def _take_in(self, request: pb.SynchronizeRequest) -> None:
        for result in request.results:
            job = self.jobs[result.chunks.job]
            first = result.chunks.first
            if result.HasField("result"):
                job.result = result.result
            job.sums.update(enumerate(result.sums, first))
            job.partials.update(enumerate(result.partials, first))
            if first < job.chunk_count:
                job.counted.update(range(first, first + result.chunks.count))
        for failure in request.failures:
            self.jobs[failure.chunk.job].failures.append(failure)
        for returned in request.returned:
            job = self.jobs[returned.job]
            job.returned.append(returned)
            if not (job.keeps_returned or request.draining):
                job.waiting.append((returned.first, returned.first + returned.count))
        for progress in request.progress:
            job = self.jobs[progress.chunk.job]
            job.progress.setdefault(progress.chunk.first, []).append(progress.fraction)

    def _give(self, request: pb.SynchronizeRequest, answer: pb.SynchronizeResponse) -> bool:
        capacity = request.capacity
        for job in self.jobs.values():
            while capacity and job.waiting:
                first, end = job.waiting.pop(0)
                taken = min(end, first + capacity)
                if taken < end:
                    job.waiting.insert(0, (taken, end))
                capacity -= taken - first
                self._assign(job, first, taken - first, request, answer)
        answer.stop.extend(self._stops)
        self._stops.clear()
        return bool(answer.assignments or answer.stop or self.drain)

    def _assign(
        self,
        job: FakeJob,
        first: int,
        count: int,
        request: pb.SynchronizeRequest,
        answer: pb.SynchronizeResponse,
        attempt: int = 1,
    ) -> None:
        chunks = pb.ChunkRange(job=job.name, epoch=1, first=first, count=count, attempt=attempt)
        partials = list(job.partials.values()) if first == job.chunk_count else []
        answer.assignments.add(chunks=chunks, partials=partials)
        if job.name not in request.known_jobs and job.name not in [w.job for w in answer.works]:
            answer.works.add(job=job.name, work=job.work, chunk_count=job.chunk_count)


@contextlib.asynccontextmanager
async def serving(gateway: FakeGateway, address: str) -> AsyncIterator[None]:
    """Serves the gateway at an address."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    dispatch_service_pb2_grpc.add_DispatchServiceServicer_to_server(gateway, server)
    server.add_insecure_port(address)
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)


def simulate(
    seconds: float = 0.0,
    *,
    busy: bool = False,
    ignore_cancel: bool = False,
    crash_rate: float = 0.0,
    failure_rate: float = 0.0,
) -> work_pb2.Work:
    """Work that takes so long a chunk."""
    duration = Duration()
    duration.FromMicroseconds(round(seconds * 1e6))
    return work_pb2.Work(
        simulate=work_pb2.Simulate(
            duration=duration,
            busy=busy,
            ignore_cancel=ignore_cancel,
            crash_rate=crash_rate,
            failure_rate=failure_rate,
        )
    )
