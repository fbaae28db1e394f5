"""The client: one connection to a mesh, and everything that can be asked of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from types import TracebackType
from typing import Any, Self, Unpack, overload

from tallymesh.abacus import Abacus
from tallymesh.arguments import PageSize, checked, checking, each
from tallymesh.belonging import NotPickled
from tallymesh.calls import Caller, new_request_id
from tallymesh.channel import Connection, Tls
from tallymesh.dead_letters import DeadLetters
from tallymesh.errors import Unreachable
from tallymesh.job_filters import JobFilters, make_list_request
from tallymesh.jobs import JobHandle
from tallymesh.many_jobs import as_completed, make_batches
from tallymesh.v1.abacus_service_pb2 import ListAbaciRequest, Sum
from tallymesh.v1.abacus_service_pb2_grpc import AbacusServiceStub
from tallymesh.v1.dead_letter_service_pb2_grpc import DeadLetterServiceStub
from tallymesh.v1.fleet_service_pb2 import DrainWorkerRequest, DrainWorkerResponse
from tallymesh.v1.fleet_service_pb2_grpc import FleetServiceStub
from tallymesh.v1.job_pb2 import Job
from tallymesh.v1.job_service_pb2 import (
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
from tallymesh.v1.work_pb2 import Add, CountPrimes, CustomWork, NthPrime, Simulate, Work
from tallymesh.watching import DEFAULT_LIMITS, Limits, OnCut, read_on
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
class Client(NotPickled):
    """A client of one mesh. It may be shared by threads; it is closed by `with` or close().

    Calls that may be repeated are, as the mesh's retry policy says, and every mutating call
    carries a request id, so that a repeat never counts twice. While the mesh's store is away, calls
    wait for it until their timeout, and watches for as long as their limits say.

    Attributes:
        address: Where the mesh is reached.
        dead_letters: The chunks that were given up.
    """

    _instead = "pass its address on, and make a Client in each process"

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
        """Prepares the connection; it is made by the first call.

        Args:
            address: `host:port`, `unix:/path`, or several `host:port`, in a list or separated by
                commas, which share the calls in turn. Default: TALLYMESH_ADDRESS, else
                localhost:8080.
            tls: Speak TLS, as a mesh behind a proxy may ask; a Tls says how.
            token: Sent with every call as `authorization: Bearer`. Beyond this machine it needs
                TLS.
            timeout: Seconds that a unary call may take, its retries included.
            metadata: gRPC metadata to send with every call.
            limits: How long watches put up with silence and with the mesh being away.

        Raises:
            InvalidField: The address or the metadata are malformed, a file of `tls` cannot be
                read, or the token would be sent in the open.
            Unreachable: One of several hosts of the address cannot be found.
        """
        connection = Connection(address, tls, token, metadata)
        self.address = connection.address
        self._limits = limits
        self._channel = connection.open()
        self._caller = Caller(self.address, timeout, connection.metadata)
        self._jobs = JobServiceStub(self._channel)
        self._abaci = AbacusServiceStub(self._channel)
        self._mesh = MeshServiceStub(self._channel)
        self._fleet = FleetServiceStub(self._channel)
        self.dead_letters = DeadLetters(self._caller, DeadLetterServiceStub(self._channel))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; calls and watches under way end."""
        self._caller.closed = True
        self._channel.close()

    def count_primes(
        self,
        stop: int,
        start: int = 0,
        *,
        kind: Kind = "primes",
        method: Method = "auto",
        timeout: float | None = None,
        **options: Unpack[JobOptions],
    ) -> int:
        """Counts the primes p with start <= p <= stop, and waits for the answer.

        Args:
            stop: Last number of the range, to 2^64 - 1.
            start: First number of the range.
            kind: What to count in place of primes: tuplets that lie wholly in the range.
            method: How to count; "auto" lets the mesh choose. "combinatorial" takes one worker a
                second to 10^15, and up to 2^63 - 1; it counts primes only.
            timeout: Seconds to wait; None for as long as it takes.
            **options: As of JobOptions.

        Raises:
            InvalidField: A number is out of its bound.
            JobFailed: The job failed.
            JobCancelled: Somebody cancelled it.
            WaitTimeout: It has not ended in time; it goes on.
        """
        work = make_count_primes(start, stop, kind=kind, method=method)
        return self.run(work, timeout=timeout, **options)

    def nth_prime(
        self, n: int, *, timeout: float | None = None, **options: Unpack[JobOptions]
    ) -> int:
        """Finds the n-th prime, of which the first is 2, and waits for the answer.

        Args:
            n: Which: 1 to 216,289,611,853,439,384.
            timeout: Seconds to wait; None for as long as it takes.
            **options: As of JobOptions.

        Raises:
            InvalidField: There is no such prime within 63 bits.
            JobFailed, JobCancelled, WaitTimeout: As of count_primes().
        """
        return self.run(make_nth_prime(n), timeout=timeout, **options)

    def add(
        self,
        *numbers: int | Decimal | str,
        timeout: float | None = None,
        **options: Unpack[JobOptions],
    ) -> Decimal:
        """Adds numbers exactly, as a job, and waits for the answer. Errors as of count_primes().

        Args:
            *numbers: 1 to 10,000 ints, Decimals or strs such as "0.1" or "2**40".
            timeout: Seconds to wait; None for as long as it takes.
            **options: As of JobOptions.

        Raises:
            TypeError: A number is a float.
        """
        return self.run(make_add(numbers), timeout=timeout, **options)

    def submit(
        self, work: AnyWork, *, request_id: str | None = None, **options: Unpack[JobOptions]
    ) -> JobHandle:
        """Submits a job and returns at once with a handle on it.

        Args:
            work: What to compute: a CountPrimes, NthPrime, Add, Simulate, custom() or Work.
            request_id: Makes it safe to submit again what may have been submitted already: the
                same request under one id is one job. Default a new one.
            **options: As of JobOptions.

        Raises:
            InvalidField: The mesh refuses the work or an option.
            BacklogFull: Too many jobs wait; `retry_after` says when to come back.
            RequestIdReused: The id was used before for something else.
        """
        request = CreateJobRequest(
            job=make_job(work, options), request_id=request_id or new_request_id()
        )
        return self._handle(self._caller.unary(self._jobs.CreateJob, request))

    @overload
    def run(
        self,
        work: CountPrimes | NthPrime | Simulate,
        *,
        request_id: str | None = None,
        timeout: float | None = None,
        **options: Unpack[JobOptions],
    ) -> int: ...
    @overload
    def run(
        self,
        work: Add,
        *,
        request_id: str | None = None,
        timeout: float | None = None,
        **options: Unpack[JobOptions],
    ) -> Decimal: ...
    @overload
    def run(
        self,
        work: Work | CustomWork,
        *,
        request_id: str | None = None,
        timeout: float | None = None,
        **options: Unpack[JobOptions],
    ) -> Any: ...
    def run(
        self,
        work: AnyWork,
        *,
        request_id: str | None = None,
        timeout: float | None = None,
        **options: Unpack[JobOptions],
    ) -> Any:
        """Submits a job, waits for it in the same call, and returns its result.

        If the stream is cut, the job is watched on from where it is. Args as of submit(), errors
        as of submit() and JobHandle.result().
        """
        request = RunJobRequest(
            job=make_job(work, options), request_id=request_id or new_request_id()
        )
        return self._handle(Job()).run(request, timeout)

    def compute(
        self,
        work: AnyWork,
        *,
        queue: str = "",
        timeout: float | None = None,
        on_progress: Callable[[float], None] | None = None,
    ) -> Any:
        """Computes at once, as one chunk on one worker, without a job, and returns the result.

        Nothing is queued or kept. Whoever stops waiting, by an exception or the timeout, stops the
        computation. If the connection is cut, it is begun anew.

        Args:
            work: What to compute: as submit() takes.
            queue: Only workers of this queue are asked; default "default".
            timeout: Seconds to wait; None for as long as it takes.
            on_progress: Told the share that is done, 0 to 1, as it grows.

        Raises:
            InvalidField: The mesh refuses the work.
            NoFreeSlot: Every worker that could compute it is busy; a job would wait.
            NoWorker: No live worker could compute it.
            Aborted: The computation failed or crashed.
            DeadlineExceeded: It took longer than the timeout.
        """
        for answer in self.computing(work, queue=queue, timeout=timeout):
            if answer.HasField("result"):
                return result_value(answer.result)
            if on_progress is not None:
                on_progress(answer.fraction)
        raise Unreachable(f"the stream from {self.address} ended before its time")

    def computing(
        self, work: AnyWork, *, queue: str = "", timeout: float | None = None
    ) -> Iterator[ComputeResponse]:
        """Yields the messages of a computation as the mesh sends them, the result last.

        Args and errors as of compute().
        """
        request = ComputeRequest(work=wrap(work), queue=queue)
        return read_on(
            self._caller,
            lambda left: self._caller.stream(self._jobs.Compute, request, left),
            lambda answer: answer.HasField("result"),
            timeout=timeout,
            limits=self._limits,
        )

    def submit_many(
        self,
        works: Iterable[AnyWork | Job],
        *,
        request_id: str | None = None,
        **options: Unpack[JobOptions],
    ) -> list[JobHandle]:
        """Submits many jobs, far faster than one by one, and returns handles in the same order.

        They go in calls of up to 1,000. When a call fails, the jobs of those before it have been
        accepted: the same works under the same `request_id` are the same jobs again.

        Args:
            works: What to compute: as submit() takes, or a Job, which says all for itself and takes
                no options.
            request_id: Makes it safe to submit again what may have been submitted already: the n-th
                job, from 0, has this with `-n`. Default a new one.
            **options: As of JobOptions, of all jobs that are made of works.

        Raises:
            InvalidField: The mesh refuses a work or an option; none of that call is accepted.
            BacklogFull: Too many jobs wait; `retry_after` says when to come back.
            RequestIdReused: The id was used before for something else.
        """
        handles: list[JobHandle] = []
        for batch in make_batches(works, options, request_id or new_request_id()):
            accepted = self._caller.unary(self._jobs.BatchCreateJobs, batch)
            handles.extend(map(self._handle, accepted.jobs))
        return handles

    def as_completed(
        self,
        jobs: Iterable[JobHandle | str],
        *,
        timeout: float | None = None,
        on_cut: OnCut | None = None,
    ) -> Iterator[JobHandle]:
        """Yields each job once, as soon as it has ended, however it has: the first to end first.

        The stream that brings them is opened again when it is cut: nothing is missed. Of more than
        10,000 jobs it waits for some 10,000 at a time, the first given first.

        Args:
            jobs: Handles, or names with or without `jobs/`.
            timeout: Seconds after which to stop waiting; None for never.
            on_cut: Told of every cut that is being mended.

        Yields:
            The handle that was given, or a new one; its result() is there.

        Raises:
            NotFound: One of them does not exist.
            WaitTimeout: Some have not ended in time. They go on.
            Unreachable: The mesh is not, or was not for a minute.
        """
        given = each("jobs", jobs, JobHandle | str)
        handles = (self.job(job) if isinstance(job, str) else job for job in given)
        return as_completed(
            self._caller, self._jobs, handles, timeout=timeout, limits=self._limits, on_cut=on_cut
        )

    def map(
        self,
        kernel: str | Callable[[Any], AnyWork],
        inputs: Iterable[Any],
        *,
        request_id: str | None = None,
        timeout: float | None = None,
        **options: Unpack[JobOptions],
    ) -> Iterator[Any]:
        """Computes something for each of many inputs; yields the results in the same order.

        Each input is a job; all are submitted before this returns, as by submit_many().

        Args:
            kernel: The name of a kernel of one's own, which is given each input; or a function that
                makes a work of an input, such as `lambda n: CountPrimes(stop=n)`.
            inputs: What to compute for.
            request_id: As of submit_many().
            timeout: Seconds after which to stop waiting; None for never.
            **options: As of JobOptions, of all jobs.

        Raises:
            TallymeshError: As submit_many() and as_completed(), and where a job's result would
                come, as JobHandle.result().
        """
        works = make_works(kernel, inputs)
        handles = self.submit_many(works, request_id=request_id, **options)
        return _in_order(handles, self.as_completed(handles, timeout=timeout))

    def job(self, name: str) -> JobHandle:
        """Returns a handle on a job by name, with or without `jobs/`, without asking the mesh."""
        return self._handle(Job(name=resource_name("jobs", name)))

    def jobs(
        self, *, full: bool = False, page_size: PageSize = 50, **filters: Unpack[JobFilters]
    ) -> Iterator[Job]:
        """Yields the jobs to which all filters apply, newest first, page by page.

        Args:
            full: With `work`, `result` and the chunk map.
            page_size: How many to ask for in one call, 1 to 1,000.
            **filters: As of JobFilters; none for all.

        Raises:
            InvalidField: A filter is malformed.
        """
        request = make_list_request(filters, full=full, page_size=page_size)
        while True:
            page = self._caller.unary(self._jobs.ListJobs, request)
            yield from page.jobs
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def abacus(self, name: str) -> Abacus:
        """Returns the abacus of this name, with or without `abaci/`, without asking the mesh."""
        return Abacus(self._caller, self._abaci, resource_name("abaci", name), self._limits)

    def abaci(self, *, page_size: PageSize = 50) -> Iterator[Sum]:
        """Yields the sums of all abaci in order of their names, page by page.

        Args:
            page_size: How many to ask for in one call, 1 to 500.
        """
        request = ListAbaciRequest(page_size=page_size)
        while True:
            page = self._caller.unary(self._abaci.ListAbaci, request)
            yield from page.abaci
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def drain_worker(self, name: str) -> DrainWorkerResponse:
        """Makes a worker finish what it computes, hand the rest back and end. No attempt is spent.

        Args:
            name: Of a worker, or the uid of one of its processes; with or without `workers/`.

        Returns:
            Which of its processes are told.

        Raises:
            NotFound: No such worker is alive.
        """
        request = DrainWorkerRequest(name=resource_name("workers", name))
        return self._caller.unary(self._fleet.DrainWorker, request)

    def health(self) -> GetHealthResponse:
        """Tells how the mesh is."""
        return self._caller.unary(self._mesh.GetHealth, GetHealthRequest())

    def whoami(self) -> WhoAmIResponse:
        """Tells who answers, and as whom this client is seen."""
        return self._caller.unary(self._mesh.WhoAmI, WhoAmIRequest())

    def check_store(self) -> CheckStoreResponse:
        """Has the mesh write, read and delete a value in its store, and tells how that went."""
        return self._caller.unary(self._mesh.CheckStore, CheckStoreRequest())

    def _handle(self, job: Job) -> JobHandle:
        return JobHandle(self._caller, self._jobs, job, self._limits)


def _in_order(handles: list[JobHandle], ending: Iterator[JobHandle]) -> Iterator[Any]:
    for handle in handles:
        while not handle.ended:
            next(ending)
        yield handle.result()
