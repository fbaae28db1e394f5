"""A mesh of one thread pool: it answers as it is told to, and remembers what it was asked."""

import threading
from collections import deque
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass
from typing import Any

import grpc

from tallymesh.v1 import (
    abacus_service_pb2 as abaci,
)
from tallymesh.v1 import (
    abacus_service_pb2_grpc,
    dead_letter_service_pb2_grpc,
    fleet_service_pb2_grpc,
    job_service_pb2_grpc,
    mesh_service_pb2_grpc,
)
from tallymesh.v1 import (
    dead_letter_service_pb2 as letters,
)
from tallymesh.v1 import (
    fleet_service_pb2 as fleet,
)
from tallymesh.v1 import (
    job_service_pb2 as services,
)
from tallymesh.v1 import (
    mesh_service_pb2 as meshes,
)
from tallymesh.v1.errors_pb2 import ERROR_REASON_CHUNK_FAILED, ErrorReason
from tallymesh.v1.job_pb2 import Chunk, ChunkLog, Job, JobDelta, JobEvent, Keepalive, Progress
from tallymesh.v1.work_pb2 import CountPrimes, CountPrimesResult, Result, Work
from tallymesh_core.domain.decimals import Exact, format_decimal, parse_decimal, total
from tallymesh_core.domain.errors import DomainError, NotFound
from tallymesh_core.rpc import status

NAME = "jobs/abc1"
REQUEST_ID = "request-1"


@dataclass(frozen=True)
class Cut:
    """Breaks a stream as a proxy would: a bare code, no reason."""

    code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE


class Reset(Exception):
    """Breaks a call as a proxy would."""


@dataclass(frozen=True)
class Silence:
    """Says nothing until the client has had enough."""


Act = (
    JobEvent
    | services.CollectJobsResponse
    | services.ComputeResponse
    | abaci.Sum
    | Cut
    | Silence
    | DomainError
)


class FakeMesh(
    job_service_pb2_grpc.JobServiceServicer,
    abacus_service_pb2_grpc.AbacusServiceServicer,
    dead_letter_service_pb2_grpc.DeadLetterServiceServicer,
    fleet_service_pb2_grpc.FleetServiceServicer,
    mesh_service_pb2_grpc.MeshServiceServicer,
):
    """A server whose answers a test puts into its attributes.

    Attributes:
        calls: Method and request of every call, in order.
        streams: What each next stream plays; an ended stream ends with OK.
        failures: By method, errors to answer before anything else.
        job: The job that GetJob and the like answer.
        health: What GetHealth answers.
        early_headers: Send headers before anything else, so that gRPC itself retries nothing.
    """

    def __init__(self, credentials: grpc.ServerCredentials | None = None, *, port: int = 0) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.early_headers = False
        self.metadata: list[dict[str, Any]] = []
        self.streams: deque[list[Act]] = deque()
        self.failures: dict[str, deque[Silence | Exception]] = {}
        self.job = running_job()
        self.listed: list[Job] = []
        self.chunks: list[Chunk] = []
        self.chunk_logs: list[ChunkLog] = []
        self.groups: list[letters.DeadLetterGroup] = []
        self.dead_letters: list[letters.DeadLetter] = []
        self.health = meshes.GetHealthResponse(status=meshes.GetHealthResponse.STATUS_HEALTHY)
        self.sums: dict[str, abaci.Sum] = {}
        self.entries: list[abaci.LedgerEntry] = []
        self.batches: set[tuple[str, int]] = set()
        self.totals: dict[str, Exact] = {}
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        job_service_pb2_grpc.add_JobServiceServicer_to_server(self, self._server)
        abacus_service_pb2_grpc.add_AbacusServiceServicer_to_server(self, self._server)
        dead_letter_service_pb2_grpc.add_DeadLetterServiceServicer_to_server(self, self._server)
        fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(self, self._server)
        mesh_service_pb2_grpc.add_MeshServiceServicer_to_server(self, self._server)
        port = (
            self._server.add_secure_port(f"127.0.0.1:{port}", credentials)
            if credentials
            else self._server.add_insecure_port(f"127.0.0.1:{port}")
        )
        self.address = f"127.0.0.1:{port}"
        self._server.start()

    def close(self) -> None:
        self._server.stop(grace=None).wait()

    def asked(self, method: str) -> list[Any]:
        return [request for called, request in self.calls if called == method]

    def fail(self, method: str, *errors: Silence | Exception) -> None:
        self.failures[method] = deque(errors)

    def CreateJob(self, request: Any, context: Any) -> Job:
        self._begin("CreateJob", request, context)
        self.job.work.CopyFrom(request.job.work)
        self.job.abacus = request.job.abacus
        return self.job

    def BatchCreateJobs(self, request: Any, context: Any) -> services.BatchCreateJobsResponse:
        self._begin("BatchCreateJobs", request, context)
        accepted = [
            Job(name=f"jobs/{one.request_id}", work=one.job.work, state=Job.STATE_PENDING)
            for one in request.requests
        ]
        return services.BatchCreateJobsResponse(jobs=accepted)

    def BatchGetJobs(self, request: Any, context: Any) -> services.BatchGetJobsResponse:
        self._begin("BatchGetJobs", request, context)
        return services.BatchGetJobsResponse(jobs=[self.job])

    def CollectJobs(self, request: Any, context: Any) -> Iterator[Any]:
        self._begin("CollectJobs", request, context)
        return self._play(context)

    def Compute(self, request: Any, context: Any) -> Iterator[Any]:
        self._begin("Compute", request, context)
        return self._play(context)

    def ReplayJob(self, request: Any, context: Any) -> Job:
        self._begin("ReplayJob", request, context)
        self.job.state = Job.STATE_PENDING
        self.job.epoch = request.epoch + 1
        return self.job

    def ListDeadLetterGroups(
        self, request: Any, context: Any
    ) -> letters.ListDeadLetterGroupsResponse:
        self._begin("ListDeadLetterGroups", request, context)
        page, token = self._page(self.groups, request)
        return letters.ListDeadLetterGroupsResponse(groups=page, next_page_token=token)

    def ListDeadLetters(self, request: Any, context: Any) -> letters.ListDeadLettersResponse:
        self._begin("ListDeadLetters", request, context)
        page, token = self._page(self.dead_letters, request)
        return letters.ListDeadLettersResponse(dead_letters=page, next_page_token=token)

    def ReplayDeadLetters(self, request: Any, context: Any) -> letters.ReplayDeadLettersResponse:
        self._begin("ReplayDeadLetters", request, context)
        return letters.ReplayDeadLettersResponse(replayed=3, skipped=1, jobs=[NAME])

    def DeleteDeadLetters(self, request: Any, context: Any) -> letters.DeleteDeadLettersResponse:
        self._begin("DeleteDeadLetters", request, context)
        return letters.DeleteDeadLettersResponse(deleted=4)

    def DrainWorker(self, request: Any, context: Any) -> fleet.DrainWorkerResponse:
        self._begin("DrainWorker", request, context)
        return fleet.DrainWorkerResponse(uids=["u1", "u2"])

    def DeleteWorker(self, request: Any, context: Any) -> fleet.DeleteWorkerResponse:
        self._begin("DeleteWorker", request, context)
        return fleet.DeleteWorkerResponse(uids=["u1"])

    def GetJob(self, request: Any, context: Any) -> Job:
        self._begin("GetJob", request, context)
        if request.name != self.job.name:
            self._abort(context, NotFound(request.name))
        return self.job

    def ListJobs(self, request: Any, context: Any) -> services.ListJobsResponse:
        self._begin("ListJobs", request, context)
        page, token = self._page(self.listed, request)
        return services.ListJobsResponse(jobs=page, next_page_token=token)

    def ListChunks(self, request: Any, context: Any) -> services.ListChunksResponse:
        self._begin("ListChunks", request, context)
        page, token = self._page(self.chunks, request)
        return services.ListChunksResponse(chunks=page, next_page_token=token)

    def ListChunkLogs(self, request: Any, context: Any) -> services.ListChunkLogsResponse:
        self._begin("ListChunkLogs", request, context)
        page, token = self._page(self.chunk_logs, request)
        return services.ListChunkLogsResponse(chunk_logs=page, next_page_token=token)

    def CancelJob(self, request: Any, context: Any) -> Job:
        self._begin("CancelJob", request, context)
        self.job.state = Job.STATE_CANCELLED
        self.job.cancellation.request_time.FromMilliseconds(1_700_000_001_000)
        return self.job

    def WatchJob(self, request: Any, context: Any) -> Iterator[Any]:
        self._begin("WatchJob", request, context)
        return self._play(context)

    def RunJob(self, request: Any, context: Any) -> Iterator[Any]:
        self._begin("RunJob", request, context)
        return self._play(context)

    def AddNumber(self, request: Any, context: Any) -> abaci.AddNumberResponse:
        self._begin("AddNumber", request, context)
        added = str(request.number) if request.WhichOneof("amount") == "number" else request.decimal
        return abaci.AddNumberResponse(
            added=added, sum=abaci.Sum(name=request.name, value=added, add_count=1)
        )

    def GetSum(self, request: Any, context: Any) -> abaci.Sum:
        self._begin("GetSum", request, context)
        return self.sums.get(request.name, abaci.Sum(name=request.name, value="0"))

    def ResetSum(self, request: Any, context: Any) -> abaci.ResetSumResponse:
        self._begin("ResetSum", request, context)
        previous = self.sums.get(request.name, abaci.Sum(name=request.name, value="0"))
        return abaci.ResetSumResponse(
            previous=previous, sum=abaci.Sum(name=request.name, value="0")
        )

    def WatchSum(self, request: Any, context: Any) -> Iterator[Any]:
        self._begin("WatchSum", request, context)
        return self._play(context)

    def AddNumbers(self, requests: Any, context: Any) -> abaci.AddNumbersResponse:
        messages = list(requests)
        self._begin("AddNumbers", messages, context)
        name, stream = messages[0].name, messages[0].stream_id
        new = [one for one in messages if (stream, one.sequence) not in self.batches]
        self.batches.update((stream, one.sequence) for one in messages)
        added = total(map(_total, new))
        self.totals[name] = total((self.totals.get(name, Exact(0)), added))
        return abaci.AddNumbersResponse(
            accepted_count=sum(map(_count, new)),
            repeated_count=sum(map(_count, messages)) - sum(map(_count, new)),
            added=format_decimal(added),
            sum=abaci.Sum(name=name, value=format_decimal(self.totals[name])),
            sequence=messages[-1].sequence,
        )

    def ListAbaci(self, request: Any, context: Any) -> abaci.ListAbaciResponse:
        self._begin("ListAbaci", request, context)
        page, token = self._page(list(self.sums.values()), request)
        return abaci.ListAbaciResponse(abaci=page, next_page_token=token)

    def DeleteAbacus(self, request: Any, context: Any) -> abaci.DeleteAbacusResponse:
        self._begin("DeleteAbacus", request, context)
        if request.name not in self.sums:
            self._abort(context, NotFound(request.name))
        return abaci.DeleteAbacusResponse(previous=self.sums.pop(request.name))

    def ListEntries(self, request: Any, context: Any) -> abaci.ListEntriesResponse:
        self._begin("ListEntries", request, context)
        page, token = self._page(self.entries, request)
        return abaci.ListEntriesResponse(entries=page, next_page_token=token)

    def GetHealth(self, request: Any, context: Any) -> meshes.GetHealthResponse:
        self._begin("GetHealth", request, context)
        return self.health

    def WhoAmI(self, request: Any, context: Any) -> meshes.WhoAmIResponse:
        self._begin("WhoAmI", request, context)
        return meshes.WhoAmIResponse(
            answered_by="gateway-1", version="0.1.0", tenant="default", principal="anonymous"
        )

    def CheckStore(self, request: Any, context: Any) -> meshes.CheckStoreResponse:
        self._begin("CheckStore", request, context)
        answer = meshes.CheckStoreResponse(answered_by="gateway-1")
        answer.store.connected = True
        answer.store.server = "valkey 9.1.2"
        answer.store.problems.extend(self.health.store.problems)
        answer.round_trip.FromMicroseconds(420)
        return answer

    def _begin(self, method: str, request: Any, context: Any) -> None:
        self.calls.append((method, request))
        self.metadata.append(dict(context.invocation_metadata()))
        if self.early_headers:
            context.send_initial_metadata((("tallymesh-request-id", REQUEST_ID),))
        if waiting := self.failures.get(method):
            error = waiting.popleft()
            if isinstance(error, Silence):
                _await_end(context)
                return
            if isinstance(error, DomainError):
                self._abort(context, error)
            if isinstance(error, Reset):
                context.abort(grpc.StatusCode.UNAVAILABLE, "connection reset")
            raise error

    def _abort(self, context: Any, error: DomainError) -> None:
        context.set_trailing_metadata(
            (*status.trailers(error), ("tallymesh-request-id", REQUEST_ID))
        )
        context.abort(status.grpc_code(error), error.message)

    def _play(self, context: Any) -> Iterator[Any]:
        for act in self.streams.popleft() if self.streams else [Silence()]:
            match act:
                case Cut():
                    context.abort(act.code, "connection reset")
                case Silence():
                    _await_end(context)
                    return
                case DomainError():
                    self._abort(context, act)
                case _:
                    yield act

    @staticmethod
    def _page(everything: list[Any], request: Any) -> tuple[list[Any], str]:
        start = int(request.page_token or 0)
        stop = start + (request.page_size or 50)
        return everything[start:stop], str(stop) if stop < len(everything) else ""


def _await_end(context: Any) -> None:
    over = threading.Event()
    if context.add_callback(over.set):
        over.wait(30)


def _count(message: abaci.AddNumbersRequest) -> int:
    return len(message.numbers) + len(message.decimals)


def _total(message: abaci.AddNumbersRequest) -> Exact:
    decimals = [parse_decimal(text, "decimals") for text in message.decimals]
    return total((Exact(sum(message.numbers)), *decimals))


def running_job(**fields: Any) -> Job:
    job = Job(
        name=NAME,
        work=Work(count_primes=CountPrimes(stop=10**10)),
        chunk_count=8,
        queue="default",
        kernel="count_primes",
        state=Job.STATE_RUNNING,
        initiated_by="gateway-1",
        checked_by="gateway-1",
        progress=Progress(chunks_total=8, chunks_done=2, fraction=0.25, workers=2),
        version=3,
        **fields,
    )
    job.create_time.FromSeconds(1_700_000_000)
    job.start_time.FromMilliseconds(1_700_000_000_250)
    return job


def succeeded_job(**fields: Any) -> Job:
    job = running_job(
        result=Result(count_primes=CountPrimesResult(count=455_052_511)),
        handled_by={"worker-1": 5, "worker-2": 3},
        **fields,
    )
    job.state = Job.STATE_SUCCEEDED
    job.progress.chunks_done = 8
    job.progress.fraction = 1.0
    job.end_time.FromMilliseconds(1_700_000_001_500)
    job.version = 9
    return job


def failed_job(reason: ErrorReason.ValueType = ERROR_REASON_CHUNK_FAILED) -> Job:
    job = running_job()
    job.state = Job.STATE_FAILED
    job.error.reason = reason
    job.error.message = "no such luck"
    job.error.chunk = 3
    job.error.worker = "worker-2"
    return job


def cancelled_job() -> Job:
    job = running_job()
    job.state = Job.STATE_CANCELLED
    return job


def snapshot(job: Job) -> JobEvent:
    return JobEvent(version=job.version, snapshot=job)


def ended(job: Job) -> JobEvent:
    return JobEvent(version=job.version, ended=job)


def delta(version: int, **fields: Any) -> JobEvent:
    return JobEvent(version=version, delta=JobDelta(**fields))


def collected(*jobs: Job) -> services.CollectJobsResponse:
    return services.CollectJobsResponse(jobs=jobs)


def keepalive(version: int) -> JobEvent:
    return JobEvent(version=version, keepalive=Keepalive())
