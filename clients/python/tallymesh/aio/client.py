"""The client for asyncio: as tallymesh.client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from types import TracebackType
from typing import Any, Self, Unpack

import grpc.aio

from tallymesh.aio.abacus import AsyncAbacus
from tallymesh.aio.calls import AsyncCaller, read_on
from tallymesh.aio.dead_letters import AsyncDeadLetters
from tallymesh.aio.jobs import AsyncJobHandle
from tallymesh.arguments import PageSize, checked, checking, each
from tallymesh.belonging import NotPickled
from tallymesh.calls import new_request_id
from tallymesh.channel import Connection, Tls
from tallymesh.errors import Unreachable
from tallymesh.job_filters import JobFilters, make_list_request
from tallymesh.many_jobs import Missing, make_batches
from tallymesh.v1.abacus_service_pb2 import ListAbaciRequest, Sum
from tallymesh.v1.abacus_service_pb2_grpc import AbacusServiceStub
from tallymesh.v1.dead_letter_service_pb2_grpc import DeadLetterServiceStub
from tallymesh.v1.fleet_service_pb2 import DrainWorkerRequest, DrainWorkerResponse
from tallymesh.v1.fleet_service_pb2_grpc import FleetServiceStub
from tallymesh.v1.job_pb2 import Job
from tallymesh.v1.job_service_pb2 import (
    CollectJobsResponse,
    ComputeRequest,
    ComputeResponse,
    CreateJobRequest,
    RunJobRequest,
)
from tallymesh.v1.job_service_pb2_grpc import JobServiceStub
from tallymesh.v1.mesh_service_pb2 import (
    CheckStoreRequest,
    CheckStoreResponse,
    GetHealthRequest,
    GetHealthResponse,
    WhoAmIRequest,
    WhoAmIResponse,
)
from tallymesh.v1.mesh_service_pb2_grpc import MeshServiceStub
from tallymesh.watching import DEFAULT_LIMITS, Limits, OnCut
from tallymesh.works import (
    AnyWork,
    JobOptions,
    Kind,
    Method,
    make_add,
    make_count_primes,
    make_job,
    make_nth_prime,
    make_works,
    resource_name,
    result_value,
    wrap,
)


@checked
class AsyncClient(NotPickled):
    """A client of one mesh for asyncio: what Client has, awaited, by the same names.

    It belongs to the event loop in which it is made, and is closed by `async with` or close(). A
    task that waits and is cancelled ends its call or stream; jobs go on, unless they are cancelled.

    Attributes:
        address: Where the mesh is reached.
        dead_letters: The chunks that were given up.
    """

    _instead = "pass its address on, and make an AsyncClient in each process"

    @checking
    def __init__(
        self,
        address: str | Sequence[str] | None = None,
        *,
        tls: bool | Tls = False,
        token: str | None = None,
        timeout: float = 10.0,
        metadata: Mapping[str, str] | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """Prepares the connection, as Client does; to be called where an event loop runs."""
        connection = Connection(address, tls, token, metadata)
        self.address = connection.address
        self._limits = limits
        self._channel = connection.open_async()
        self._caller = AsyncCaller(self.address, timeout, connection.metadata)
        self._jobs = JobServiceStub(self._channel)
        self._abaci = AbacusServiceStub(self._channel)
        self._mesh = MeshServiceStub(self._channel)
        self._fleet = FleetServiceStub(self._channel)
        self.dead_letters = AsyncDeadLetters(self._caller, DeadLetterServiceStub(self._channel))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; calls and watches under way end."""
        self._caller.closed = True
        await self._channel.close()

    async def count_primes(
        self,
        stop: int,
        start: int = 0,
        *,
        kind: Kind = "primes",
        method: Method = "auto",
        timeout: float | None = None,
        **options: Unpack[JobOptions],
    ) -> int:
        """Counts primes or tuplets of primes, as Client.count_primes()."""
        work = make_count_primes(start, stop, kind=kind, method=method)
        return int(await self.run(work, timeout=timeout, **options))

    async def nth_prime(
        self, n: int, *, timeout: float | None = None, **options: Unpack[JobOptions]
    ) -> int:
        """Finds the n-th prime, as Client.nth_prime()."""
        return int(await self.run(make_nth_prime(n), timeout=timeout, **options))

    async def add(
        self,
        *numbers: int | Decimal | str,
        timeout: float | None = None,
        **options: Unpack[JobOptions],
    ) -> Decimal:
        """Adds numbers exactly, as a job, as Client.add()."""
        return Decimal(await self.run(make_add(numbers), timeout=timeout, **options))

    async def submit(
        self, work: AnyWork, *, request_id: str | None = None, **options: Unpack[JobOptions]
    ) -> AsyncJobHandle:
        """Submits a job and returns at once with a handle on it, as Client.submit()."""
        request = CreateJobRequest(
            job=make_job(work, options), request_id=request_id or new_request_id()
        )
        return self._handle(await self._caller.unary(self._jobs.CreateJob, request))

    async def run(
        self,
        work: AnyWork,
        *,
        request_id: str | None = None,
        timeout: float | None = None,
        **options: Unpack[JobOptions],
    ) -> Any:
        """Submits a job, waits for it in the same call, and returns its result, as Client.run()."""
        request = RunJobRequest(
            job=make_job(work, options), request_id=request_id or new_request_id()
        )
        return await self._handle(Job()).run(request, timeout)

    async def compute(
        self,
        work: AnyWork,
        *,
        queue: str = "",
        timeout: float | None = None,
        on_progress: Callable[[float], None] | None = None,
    ) -> Any:
        """Computes at once, without a job, and returns the result, as Client.compute()."""
        async for answer in self.computing(work, queue=queue, timeout=timeout):
            if answer.HasField("result"):
                return result_value(answer.result)
            if on_progress is not None:
                on_progress(answer.fraction)
        raise Unreachable(f"the stream from {self.address} ended before its time")

    def computing(
        self, work: AnyWork, *, queue: str = "", timeout: float | None = None
    ) -> AsyncIterator[ComputeResponse]:
        """Yields the messages of a computation, the result last, as Client.computing()."""
        request = ComputeRequest(work=wrap(work), queue=queue)
        return read_on(
            self._caller,
            lambda left: self._caller.stream(self._jobs.Compute, request, left),
            lambda answer: answer.HasField("result"),
            timeout=timeout,
            limits=self._limits,
        )

    async def submit_many(
        self,
        works: Iterable[AnyWork | Job],
        *,
        request_id: str | None = None,
        **options: Unpack[JobOptions],
    ) -> list[AsyncJobHandle]:
        """Submits many jobs and returns handles in the same order, as Client.submit_many()."""
        handles: list[AsyncJobHandle] = []
        for batch in make_batches(works, options, request_id or new_request_id()):
            accepted = await self._caller.unary(self._jobs.BatchCreateJobs, batch)
            handles.extend(map(self._handle, accepted.jobs))
        return handles

    async def as_completed(
        self,
        jobs: Iterable[AsyncJobHandle | str],
        *,
        timeout: float | None = None,
        on_cut: OnCut | None = None,
    ) -> AsyncIterator[AsyncJobHandle]:
        """Yields each job once, as soon as it has ended, as Client.as_completed()."""
        given = each("jobs", jobs, AsyncJobHandle | str)
        handles = (self.job(job) if isinstance(job, str) else job for job in given)
        missing = Missing(handles, timeout)

        def open_stream(
            left: float | None,
        ) -> grpc.aio.UnaryStreamCall[Any, CollectJobsResponse]:
            return self._caller.stream(self._jobs.CollectJobs, missing.request(), left)

        with missing.told():
            while missing:
                async for answer in read_on(
                    self._caller,
                    open_stream,
                    missing.is_last,
                    timeout=missing.left(),
                    limits=self._limits,
                    on_cut=on_cut,
                ):
                    for handle in missing.take(answer):
                        yield handle

    async def map(
        self,
        kernel: str | Callable[[Any], AnyWork],
        inputs: Iterable[Any],
        *,
        request_id: str | None = None,
        timeout: float | None = None,
        **options: Unpack[JobOptions],
    ) -> AsyncIterator[Any]:
        """Computes something for each of many inputs; yields the results in the same order.

        As Client.map(), but that the jobs are submitted when the first result is asked for.
        """
        works = make_works(kernel, inputs)
        handles = await self.submit_many(works, request_id=request_id, **options)
        ending = self.as_completed(handles, timeout=timeout)
        for handle in handles:
            while not handle.ended:
                await anext(ending)
            yield await handle.result()

    def job(self, name: str) -> AsyncJobHandle:
        """Returns a handle on a job by name, with or without `jobs/`, without asking the mesh."""
        return self._handle(Job(name=resource_name("jobs", name)))

    async def jobs(
        self, *, full: bool = False, page_size: PageSize = 50, **filters: Unpack[JobFilters]
    ) -> AsyncIterator[Job]:
        """Yields the jobs to which all filters apply, newest first, as Client.jobs()."""
        request = make_list_request(filters, full=full, page_size=page_size)
        while True:
            page = await self._caller.unary(self._jobs.ListJobs, request)
            for job in page.jobs:
                yield job
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def abacus(self, name: str) -> AsyncAbacus:
        """Returns the abacus of this name, with or without `abaci/`, without asking the mesh."""
        return AsyncAbacus(self._caller, self._abaci, resource_name("abaci", name), self._limits)

    async def abaci(self, *, page_size: PageSize = 50) -> AsyncIterator[Sum]:
        """Yields the sums of all abaci in order of their names, as Client.abaci()."""
        request = ListAbaciRequest(page_size=page_size)
        while True:
            page = await self._caller.unary(self._abaci.ListAbaci, request)
            for one in page.abaci:
                yield one
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def drain_worker(self, name: str) -> DrainWorkerResponse:
        """Makes a worker leave, as Client.drain_worker()."""
        request = DrainWorkerRequest(name=resource_name("workers", name))
        return await self._caller.unary(self._fleet.DrainWorker, request)

    async def health(self) -> GetHealthResponse:
        """Tells how the mesh is."""
        return await self._caller.unary(self._mesh.GetHealth, GetHealthRequest())

    async def whoami(self) -> WhoAmIResponse:
        """Tells who answers, and as whom this client is seen."""
        return await self._caller.unary(self._mesh.WhoAmI, WhoAmIRequest())

    async def check_store(self) -> CheckStoreResponse:
        """Has the mesh write, read and delete a value in its store, and tells how that went."""
        return await self._caller.unary(self._mesh.CheckStore, CheckStoreRequest())

    def _handle(self, job: Job) -> AsyncJobHandle:
        return AsyncJobHandle(self._caller, self._jobs, job, self._limits)
