"""The gateway's gRPC services: convert, call the use case, convert."""

import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tallymesh.v1 import (
    dispatch_service_pb2,
    dispatch_service_pb2_grpc,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    mesh_service_pb2,
    mesh_service_pb2_grpc,
)
from tallymesh_core import __version__
from tallymesh_core.domain.errors import InvalidField, StoreUnavailable
from tallymesh_core.domain.jobs import MAX_CHUNKS, JobFilter, JobRecord
from tallymesh_core.domain.states import JobState
from tallymesh_core.rpc import paging
from tallymesh_core.rpc.context import current_caller
from tallymesh_core.store.chunk_logs import ChunkLogStore
from tallymesh_core.store.inspection import Inspection, StoreFacts
from tallymesh_core.store.jobs import JobStore
from tallymesh_gateway import answers, names, worker_calls
from tallymesh_gateway.answers import MAX_ANSWER_BYTES, Answers
from tallymesh_gateway.collecting import Collections
from tallymesh_gateway.computing import Computations
from tallymesh_gateway.dispatch import Dispatcher
from tallymesh_gateway.fleet import Fleet
from tallymesh_gateway.keeper import Keeper
from tallymesh_gateway.submission import Acceptance
from tallymesh_gateway.watching import Watches
from tallymesh_kernels import Registry

Context = grpc.aio.ServicerContext[Any, Any]

_MAX_BATCH, _MAX_COLLECTED = 1000, 10_000


class JobService(job_service_pb2_grpc.JobServiceServicer):
    """tallymesh.v1.JobService."""

    def __init__(
        self,
        *,
        jobs: JobStore,
        logs: ChunkLogStore,
        watches: Watches,
        collections: Collections,
        computations: Computations,
        dispatcher: Dispatcher,
        keeper: Keeper,
        replies: Answers,
        acceptance: Acceptance,
    ) -> None:
        self._jobs = jobs
        self._logs = logs
        self._collections = collections
        self._computations = computations
        self._keeper = keeper
        self._dispatcher = dispatcher
        self._watches = watches
        self._answers = replies
        self._acceptance = acceptance
        self._kernels = acceptance.kernels
        self._node = acceptance.node

    async def CreateJob(
        self, request: job_service_pb2.CreateJobRequest, context: Context
    ) -> job_pb2.Job:
        """See the proto."""
        return await self._answers.job(await self._submit(request))

    async def BatchCreateJobs(
        self, request: job_service_pb2.BatchCreateJobsRequest, context: Context
    ) -> job_service_pb2.BatchCreateJobsResponse:
        """See the proto."""
        names.several(request.requests, "requests", _MAX_BATCH)
        caller = current_caller()
        accepted = await self._jobs.submit_all(
            [
                await self._acceptance.accept(
                    one.job, one.request_id, caller=caller, within=f"requests[{i}]."
                )
                for i, one in enumerate(request.requests)
            ]
        )
        self._expect(accepted)
        jobs = await self._answers.jobs(accepted, job_service_pb2.JOB_VIEW_FULL)
        if len(jobs) < len(accepted):
            jobs = [
                await self._answers.job(record, job_service_pb2.JOB_VIEW_BASIC)
                for record in accepted
            ]
        return job_service_pb2.BatchCreateJobsResponse(jobs=jobs)

    async def BatchGetJobs(
        self, request: job_service_pb2.BatchGetJobsRequest, context: Context
    ) -> job_service_pb2.BatchGetJobsResponse:
        """See the proto."""
        names.several(request.names, "names", _MAX_BATCH)
        view = request.view or job_service_pb2.JOB_VIEW_BASIC
        records = await self._jobs.get_all(current_caller().tenant, _job_ids(request.names))
        jobs = await self._answers.jobs(records, view)
        if len(jobs) < len(records):
            raise InvalidField(
                "names",
                f"{len(records)} jobs",
                f"as many as an answer of {MAX_ANSWER_BYTES} bytes holds, of these the first "
                f"{len(jobs)}; BASIC view and CollectJobs have no such bound",
            )
        return job_service_pb2.BatchGetJobsResponse(jobs=jobs, answered_by=self._node)

    async def GetJob(self, request: job_service_pb2.GetJobRequest, context: Context) -> job_pb2.Job:
        """See the proto."""
        return await self._job(names.job_id(request.name, "name"))

    async def ListJobs(
        self, request: job_service_pb2.ListJobsRequest, context: Context
    ) -> job_service_pb2.ListJobsResponse:
        """See the proto."""
        size = paging.page_size(request.page_size, 50, 1000)
        wanted = _wanted(request, self._kernels)
        # Tells lists apart, so that a page token is only taken by the list that gave it.
        asked = repr(wanted)
        page, cursor = await self._jobs.list_page(
            current_caller().tenant,
            wanted,
            before=paging.page_cursor(request.page_token, asked, "[0-9a-z]{16}"),
            limit=size,
        )
        jobs = await self._answers.jobs(page, request.view or job_service_pb2.JOB_VIEW_BASIC)
        if len(jobs) < len(page):
            cursor = page[len(jobs) - 1].id
        return job_service_pb2.ListJobsResponse(
            jobs=jobs,
            next_page_token=paging.page_token(cursor, asked) if cursor else "",
            answered_by=self._node,
        )

    async def WatchJob(
        self, request: job_service_pb2.WatchJobRequest, context: Context
    ) -> AsyncIterator[job_pb2.JobEvent]:
        """See the proto."""
        job_id = names.job_id(request.name, "name")
        async for event in self._watches.watch(current_caller().tenant, job_id):
            yield event

    async def CollectJobs(
        self, request: job_service_pb2.CollectJobsRequest, context: Context
    ) -> AsyncIterator[job_service_pb2.CollectJobsResponse]:
        """See the proto."""
        names.several(request.names, "names", _MAX_COLLECTED)
        view = request.view or job_service_pb2.JOB_VIEW_FULL
        ids = _job_ids(request.names)
        async for records in self._collections.collect(current_caller().tenant, ids):
            rest = list(records)
            while True:
                jobs = await self._answers.jobs(rest, view)
                yield job_service_pb2.CollectJobsResponse(jobs=jobs, answered_by=self._node)
                rest = rest[len(jobs) :]
                if not rest:
                    break

    async def RunJob(
        self, request: job_service_pb2.RunJobRequest, context: Context
    ) -> AsyncIterator[job_pb2.JobEvent]:
        """See the proto."""
        accepted = await self._submit(request)
        async for event in self._watches.watch(accepted.tenant, accepted.id, accepted):
            yield event

    async def CancelJob(
        self, request: job_service_pb2.CancelJobRequest, context: Context
    ) -> job_pb2.Job:
        """See the proto."""
        job_id = names.job_id(request.name, "name")
        await self._jobs.cancel(current_caller().tenant, job_id)
        return await self._job(job_id)

    async def ReplayJob(
        self, request: job_service_pb2.ReplayJobRequest, context: Context
    ) -> job_pb2.Job:
        """See the proto."""
        job_id = names.job_id(request.name, "name")
        if request.epoch < 0:
            raise InvalidField("epoch", request.epoch, "an epoch of the job, or 0")
        tenant = current_caller().tenant
        await self._jobs.replay(tenant, job_id, epoch=request.epoch)
        record = await self._jobs.get(tenant, job_id)
        self._keeper.expect(record)
        return await self._answers.job(record)

    async def ListChunks(
        self, request: job_service_pb2.ListChunksRequest, context: Context
    ) -> job_service_pb2.ListChunksResponse:
        """See the proto."""
        job_id = names.job_id(request.parent, "parent")
        size = paging.page_size(request.page_size, 100, 1000)
        first = int(paging.page_cursor(request.page_token, job_id, "[0-9]{1,7}") or 0)
        chunks, total = await self._jobs.chunks(current_caller().tenant, job_id, first, size)
        following = first + len(chunks)
        return job_service_pb2.ListChunksResponse(
            chunks=[answers.chunk(request.parent, record) for record in chunks],
            next_page_token=paging.page_token(str(following), job_id) if following < total else "",
            answered_by=self._node,
        )

    async def ListChunkLogs(
        self, request: job_service_pb2.ListChunkLogsRequest, context: Context
    ) -> job_service_pb2.ListChunkLogsResponse:
        """See the proto."""
        job_id = names.job_id(request.parent, "parent")
        size = paging.page_size(request.page_size, 100, 1000)
        first = int(paging.page_cursor(request.page_token, job_id, "[0-9]{1,7}") or 0)
        if request.HasField("chunk"):
            if not 0 <= request.chunk <= MAX_CHUNKS:
                raise InvalidField("chunk", request.chunk, f"a number from 0 to {MAX_CHUNKS}")
            first, size = request.chunk, 1
        logs, following, dropped = await self._logs.page(
            current_caller().tenant, job_id, first=first, limit=size
        )
        answer = job_service_pb2.ListChunkLogsResponse(
            answered_by=self._node, dropped_count=dropped
        )
        if request.HasField("chunk"):
            logs, following = [log for log in logs if log.index == first], None
        answer.chunk_logs.extend(answers.chunk_log(request.parent, log) for log in logs)
        if following is not None:
            answer.next_page_token = paging.page_token(str(following), job_id)
        return answer

    async def Compute(
        self, request: job_service_pb2.ComputeRequest, context: Context
    ) -> AsyncIterator[job_service_pb2.ComputeResponse]:
        """See the proto."""
        queue = names.queue(request.queue, "queue")
        task = await self._acceptance.task(request.work, "work", queue, chunk_count=1)
        async for answer in self._computations.compute(
            task.work, task.kernel.name, queue, context.time_remaining()
        ):
            yield answer

    async def _submit(
        self, request: job_service_pb2.CreateJobRequest | job_service_pb2.RunJobRequest
    ) -> JobRecord:
        accepted = await self._jobs.submit_all(
            [
                await self._acceptance.accept(
                    request.job, request.request_id, caller=current_caller()
                )
            ]
        )
        self._expect(accepted)
        return accepted[0]

    def _expect(self, accepted: list[JobRecord]) -> None:
        for record in accepted:
            self._dispatcher.expect(record)
            self._keeper.expect(record)

    async def _job(self, job_id: str) -> job_pb2.Job:
        return await self._answers.job(await self._jobs.get(current_caller().tenant, job_id))


def _job_ids(given: Iterable[str]) -> list[str]:
    return [names.job_id(name, f"names[{i}]") for i, name in enumerate(given)]


def _wanted(request: job_service_pb2.ListJobsRequest, kernels: Registry) -> JobFilter:
    """Returns which jobs a list is to hold."""
    names.kernel(request.kernel, "kernel", kernels)
    known = {value: name for name, value in job_pb2.Job.State.items()}
    for i, state in enumerate(request.states):
        if not known.get(state) or state == job_pb2.Job.STATE_UNSPECIFIED:
            raise InvalidField(f"states[{i}]", state, "a state of a job")
    states = {JobState(known[state].removeprefix("STATE_")) for state in request.states}
    return JobFilter(
        states=tuple(sorted(states)),
        queue=names.queue(request.queue, "queue") if request.queue else "",
        kernel=request.kernel,
        labels=dict(sorted(names.label_filters(list(request.labels), "labels").items())),
        from_ms=names.moment(request.create_time_from, "create_time_from"),
        until_ms=names.moment(request.create_time_until, "create_time_until")
        if request.HasField("create_time_until")
        else None,
    )


class DispatchService(dispatch_service_pb2_grpc.DispatchServiceServicer):
    """tallymesh.v1.DispatchService."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    async def Synchronize(
        self, request: dispatch_service_pb2.SynchronizeRequest, context: Context
    ) -> dispatch_service_pb2.SynchronizeResponse:
        """See the proto."""
        worker_calls.check(request)
        return await self._dispatcher.synchronize(request)


class MeshService(mesh_service_pb2_grpc.MeshServiceServicer):
    """tallymesh.v1.MeshService."""

    def __init__(self, inspection: Inspection, jobs: JobStore, fleet: Fleet, node: str) -> None:
        self._inspection = inspection
        self._jobs = jobs
        self._fleet = fleet
        self._node = node

    async def GetHealth(
        self, request: mesh_service_pb2.GetHealthRequest, context: Context
    ) -> mesh_service_pb2.GetHealthResponse:
        """See the proto."""
        answer = mesh_service_pb2.GetHealthResponse(
            status=mesh_service_pb2.GetHealthResponse.STATUS_HEALTHY,
            answered_by=self._node,
            version=__version__,
        )
        try:
            facts = await self._inspection.facts()
            answer.store.CopyFrom(_store_health(facts))
            if facts.problems:
                answer.status = mesh_service_pb2.GetHealthResponse.STATUS_DEGRADED
                answer.problems.extend(facts.problems)
            for known in await self._fleet.workers():
                answer.workers.add(
                    worker=known.worker,
                    chunks_held=known.live.held,
                    last_call_time=_time_of(known.live.seen_ms),
                    draining=known.live.draining,
                )
            counts = await self._jobs.counts()
        except StoreUnavailable as error:
            answer.status = mesh_service_pb2.GetHealthResponse.STATUS_UNHEALTHY
            answer.problems.append(error.message)
            return answer
        answer.jobs.CopyFrom(
            mesh_service_pb2.JobCounts(**{state.lower(): counts[state] for state in JobState})
        )
        answer.worker_count = len(answer.workers)
        answer.slot_count = sum(one.worker.slots for one in answer.workers)
        if not answer.workers:
            answer.status = mesh_service_pb2.GetHealthResponse.STATUS_DEGRADED
            answer.problems.append("no worker is alive: jobs are accepted and wait")
        return answer

    async def WhoAmI(
        self, request: mesh_service_pb2.WhoAmIRequest, context: Context
    ) -> mesh_service_pb2.WhoAmIResponse:
        """See the proto."""
        caller = current_caller()
        return mesh_service_pb2.WhoAmIResponse(
            answered_by=self._node,
            version=__version__,
            tenant=caller.tenant,
            principal=caller.principal,
            peer=caller.peer,
            request_id=caller.request_id,
            time=_time_of(time.time_ns() // 1_000_000),
        )

    async def CheckStore(
        self, request: mesh_service_pb2.CheckStoreRequest, context: Context
    ) -> mesh_service_pb2.CheckStoreResponse:
        """See the proto."""
        seconds = await self._inspection.round_trip()
        return mesh_service_pb2.CheckStoreResponse(
            round_trip=_span_of(seconds),
            store=_store_health(await self._inspection.facts()),
            answered_by=self._node,
        )


def _store_health(facts: StoreFacts) -> mesh_service_pb2.StoreHealth:
    return mesh_service_pb2.StoreHealth(
        connected=True,
        latency=_span_of(facts.latency_seconds),
        server=facts.server,
        memory_bytes=facts.memory_bytes,
        key_count=facts.key_count,
        commands_per_second=facts.commands_per_second,
        client_count=facts.client_count,
        uptime=_span_of(facts.uptime_seconds),
        durability=facts.durability,
        shard_count=facts.shard_count,
        schema_version=facts.schema_version,
        evicted_key_count=facts.evicted_key_count,
        problems=facts.problems,
    )


def _time_of(ms: int) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMilliseconds(ms)
    return stamp


def _span_of(seconds: float) -> Duration:
    span = Duration()
    span.FromNanoseconds(round(seconds * 1e9))
    return span
