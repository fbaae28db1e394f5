"""A gateway of the tests' own: gives chunks, keeps the books, and misbehaves when told."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration

from tallymesh.v1 import dispatch_service_pb2 as pb
from tallymesh.v1 import dispatch_service_pb2_grpc, work_pb2

ALL_CHUNKS = 1 << 31


@dataclass
class FakeJob:
    """A job's chunks and what became of them."""

    name: str
    work: work_pb2.Work
    chunk_count: int
    waiting: list[tuple[int, int]] = field(default_factory=list)  # as first and end
    chunk_timeout: Duration | None = None
    again: bool = True  # what is handed back is given again
    counted: Counter[int] = field(default_factory=Counter)  # by chunk; repeated calls aside
    sums: dict[int, int] = field(default_factory=dict)
    partials: dict[int, work_pb2.Result] = field(default_factory=dict)
    result: work_pb2.Result | None = None
    failures: list[pb.ChunkFailure] = field(default_factory=list)
    returned: list[int] = field(default_factory=list)  # and not given again
    progress: list[float] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return len(self.counted) == self.chunk_count

    @property
    def counted_once(self) -> bool:
        return self.counted == Counter(range(self.chunk_count))

    @property
    def nothing_lost(self) -> bool:
        """Each chunk is counted, or was handed back, or was never given out."""
        waiting = {index for first, end in self.waiting for index in range(first, end)}
        return waiting.union(self.counted, self.returned) == set(range(self.chunk_count))

    @property
    def failed_chunks(self) -> list[int]:
        return sorted(failure.chunk.first for failure in self.failures)


class FakeGateway(dispatch_service_pb2_grpc.DispatchServiceServicer):
    """Answers Synchronize as the contract says, to one worker."""

    def __init__(self) -> None:
        self.jobs: dict[str, FakeJob] = {}
        self.requests: list[pb.SynchronizeRequest] = []
        self.deaf = False  # answers UNAVAILABLE and does nothing
        self.lost_answers = 0  # so many calls with results are done, and answered UNAVAILABLE
        #: What it refuses of a call, and how; None for what it takes.
        self.refusal: Callable[[pb.SynchronizeRequest], tuple[grpc.StatusCode, str] | None] = (
            lambda request: None
        )
        self.drain = False
        self.heard: Callable[[], None] = lambda: None  # called with each request
        self._given: dict[tuple[str, int], str] = {}  # chunk that is out, to the call that got it
        self._answers: dict[str, pb.SynchronizeResponse] = {}
        self._stops: list[pb.ChunkRange] = []
        self._changed = asyncio.Event()

    @property
    def last(self) -> pb.SynchronizeRequest:
        return self.requests[-1]

    def add(
        self,
        name: str,
        work: work_pb2.Work,
        chunks: int = 1,
        *,
        again: bool = True,
        chunk_timeout: float = 0.0,
    ) -> FakeJob:
        job = FakeJob(name, work, chunks, [(0, chunks)], again=again)
        if chunk_timeout:
            job.chunk_timeout = _duration(chunk_timeout)
        self.jobs[name] = job
        self.wake()
        return job

    def stop(
        self, job: FakeJob, first: int = 0, count: int = ALL_CHUNKS, *, wake: bool = True
    ) -> None:
        """Has the next call told to stop chunks: the waiting one, if it is woken."""
        self._stops.append(pb.ChunkRange(job=job.name, epoch=1, first=first, count=count))
        if wake:
            self.wake()

    def wake(self) -> None:
        self._changed.set()

    def held(self) -> list[tuple[str, int]]:
        """The chunks that the last call says are held, without those that it hands in or back."""
        return sorted(_chunks(self.last.held) - _chunks(_over(self.last)))

    async def Synchronize(
        self,
        request: pb.SynchronizeRequest,
        context: grpc.aio.ServicerContext[pb.SynchronizeRequest, pb.SynchronizeResponse],
    ) -> pb.SynchronizeResponse:
        self.requests.append(request)
        self.heard()
        if self.deaf:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "deaf")
        if refused := self.refusal(request):
            await context.abort(*refused)
        if request.call_id in self._answers:
            return self._answers[request.call_id]
        self._take_in(request)
        answer = pb.SynchronizeResponse(answered_by="fake", drain=self.drain)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + request.wait.ToMilliseconds() / 1000
        while not self._give(request, answer) and (left := deadline - loop.time()) > 0:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)
        self._answers[request.call_id] = answer
        if self.lost_answers and request.results:
            self.lost_answers -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "lost")
        return answer

    def _take_in(self, request: pb.SynchronizeRequest) -> None:
        for result in request.results:
            job, first = self.jobs[result.chunks.job], result.chunks.first
            if result.HasField("result"):
                job.result = result.result
            job.sums.update(enumerate(result.sums, first))
            job.partials.update(enumerate(result.partials, first))
            if first < job.chunk_count:
                job.counted.update(range(first, first + result.chunks.count))
        for failure in request.failures:
            self.jobs[failure.chunk.job].failures.append(failure)
        for returned in request.returned:
            job, end = self.jobs[returned.job], returned.first + returned.count
            if job.again and not request.draining:
                job.waiting.append((returned.first, end))
            else:
                job.returned += range(returned.first, end)
        for over in _chunks(_over(request)):
            self._given.pop(over, None)
        if request.draining:
            self._take_back(request)
        for progress in request.progress:
            self.jobs[progress.chunk.job].progress.append(progress.fraction)

    def _take_back(self, request: pb.SynchronizeRequest) -> None:
        """Takes back what a leaving worker does not know of: its call was given up meanwhile."""
        known, open_calls = _chunks(request.held), {*request.open_call_ids, request.call_id}
        for (name, index), call_id in list(self._given.items()):
            if (name, index) not in known and call_id not in open_calls:
                del self._given[name, index]
                self.jobs[name].returned.append(index)

    def _give(self, request: pb.SynchronizeRequest, answer: pb.SynchronizeResponse) -> bool:
        capacity = request.capacity
        for job in self.jobs.values():
            while capacity and job.waiting:
                first, end = job.waiting.pop(0)
                count = min(end - first, capacity)
                if first + count < end:
                    job.waiting.insert(0, (first + count, end))
                capacity -= count
                self._assign(job, first, count, request, answer)
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
    ) -> None:
        for index in range(first, first + count):
            self._given[job.name, index] = request.call_id
        answer.assignments.add(
            chunks=pb.ChunkRange(job=job.name, epoch=1, first=first, count=count, attempt=1),
            partials=job.partials.values() if first == job.chunk_count else [],
        )
        if job.name not in request.known_jobs and job.name not in [w.job for w in answer.works]:
            answer.works.add(
                job=job.name,
                work=job.work,
                chunk_count=job.chunk_count,
                chunk_timeout=job.chunk_timeout,
            )


def _over(request: pb.SynchronizeRequest) -> list[pb.ChunkRange]:
    """What a call hands in or back."""
    return [
        *(one.chunks for one in request.results),
        *(one.chunk for one in request.failures),
        *request.returned,
    ]


def _chunks(ranges: Iterable[pb.ChunkRange]) -> set[tuple[str, int]]:
    return {(one.job, index) for one in ranges for index in range(one.first, one.first + one.count)}


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
    return work_pb2.Work(
        simulate=work_pb2.Simulate(
            duration=_duration(seconds),
            busy=busy,
            ignore_cancel=ignore_cancel,
            crash_rate=crash_rate,
            failure_rate=failure_rate,
        )
    )


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromMicroseconds(round(seconds * 1e6))
    return duration
