"""Stand-ins for what is behind the edge: `python -m tests.integration.edge.services UNIX_PATH…`.

Each path is one server with all public services, so that the edge can be tried without a store or
workers. A watched job waits after its first message until it is cancelled.
"""

import asyncio
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio

from tallymesh.v1 import (
    abacus_service_pb2,
    abacus_service_pb2_grpc,
    dispatch_service_pb2,
    dispatch_service_pb2_grpc,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    mesh_service_pb2,
    mesh_service_pb2_grpc,
)
from tallymesh_core.domain.errors import InvalidField, NotFound
from tallymesh_core.rpc.server import HealthReport, create_server, run_server, stop_on_signals

SERVICES = (
    "tallymesh.v1.AbacusService",
    "tallymesh.v1.DispatchService",
    "tallymesh.v1.JobService",
    "tallymesh.v1.MeshService",
)
Context = grpc.aio.ServicerContext[Any, Any]


class Jobs(job_service_pb2_grpc.JobServiceServicer):
    def __init__(self, node: str) -> None:
        self._node = node
        self._cancelled: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def CreateJob(
        self, request: job_service_pb2.CreateJobRequest, context: Context
    ) -> job_pb2.Job:
        self._check(request.job)
        request.job.name = f"jobs/{request.request_id or 'made'}"
        return request.job

    async def GetJob(self, request: job_service_pb2.GetJobRequest, context: Context) -> job_pb2.Job:
        if request.name == "jobs/crash":
            raise RuntimeError("a secret")
        if request.name == "jobs/none":
            raise NotFound(request.name)
        return job_pb2.Job(name=request.name, checked_by=self._node)

    async def WatchJob(
        self, request: job_service_pb2.WatchJobRequest, context: Context
    ) -> AsyncIterator[job_pb2.JobEvent]:
        if request.name == "jobs/none":
            raise NotFound(request.name)
        job = job_pb2.Job(name=request.name, state=job_pb2.Job.STATE_RUNNING)
        if request.name != "jobs/silent":
            yield job_pb2.JobEvent(version=1, snapshot=job)
        await self._cancelled[request.name].wait()
        job.state = job_pb2.Job.STATE_CANCELLED
        yield job_pb2.JobEvent(version=2, ended=job)

    async def RunJob(
        self, request: job_service_pb2.RunJobRequest, context: Context
    ) -> AsyncIterator[job_pb2.JobEvent]:
        self._check(request.job)
        yield job_pb2.JobEvent(version=1, ended=request.job)

    async def CancelJob(
        self, request: job_service_pb2.CancelJobRequest, context: Context
    ) -> job_pb2.Job:
        self._cancelled[request.name].set()
        return job_pb2.Job(name=request.name, state=job_pb2.Job.STATE_CANCELLED)

    async def BatchCreateJobs(
        self, request: job_service_pb2.BatchCreateJobsRequest, context: Context
    ) -> job_service_pb2.BatchCreateJobsResponse:
        return job_service_pb2.BatchCreateJobsResponse(jobs=[one.job for one in request.requests])

    async def BatchGetJobs(
        self, request: job_service_pb2.BatchGetJobsRequest, context: Context
    ) -> job_service_pb2.BatchGetJobsResponse:
        return job_service_pb2.BatchGetJobsResponse()

    async def CollectJobs(
        self, request: job_service_pb2.CollectJobsRequest, context: Context
    ) -> AsyncIterator[job_service_pb2.CollectJobsResponse]:
        yield job_service_pb2.CollectJobsResponse()

    async def Compute(
        self, request: job_service_pb2.ComputeRequest, context: Context
    ) -> AsyncIterator[job_service_pb2.ComputeResponse]:
        yield job_service_pb2.ComputeResponse(handled_by="worker-1")

    async def ReplayJob(
        self, request: job_service_pb2.ReplayJobRequest, context: Context
    ) -> job_pb2.Job:
        return job_pb2.Job(name=request.name)

    async def ListJobs(
        self, request: job_service_pb2.ListJobsRequest, context: Context
    ) -> job_service_pb2.ListJobsResponse:
        return job_service_pb2.ListJobsResponse()

    async def ListChunks(
        self, request: job_service_pb2.ListChunksRequest, context: Context
    ) -> job_service_pb2.ListChunksResponse:
        return job_service_pb2.ListChunksResponse()

    async def ListChunkLogs(
        self, request: job_service_pb2.ListChunkLogsRequest, context: Context
    ) -> job_service_pb2.ListChunkLogsResponse:
        return job_service_pb2.ListChunkLogsResponse()

    @staticmethod
    def _check(job: job_pb2.Job) -> None:
        if job.chunk_count > 2**22:
            raise InvalidField("job.chunk_count", job.chunk_count, "1 to 4194304")


class Mesh(mesh_service_pb2_grpc.MeshServiceServicer):
    def __init__(self, node: str) -> None:
        self._node = node

    async def WhoAmI(
        self, request: mesh_service_pb2.WhoAmIRequest, context: Context
    ) -> mesh_service_pb2.WhoAmIResponse:
        return mesh_service_pb2.WhoAmIResponse(answered_by=self._node)

    async def GetHealth(
        self, request: mesh_service_pb2.GetHealthRequest, context: Context
    ) -> mesh_service_pb2.GetHealthResponse:
        return mesh_service_pb2.GetHealthResponse(answered_by=self._node)

    async def CheckStore(
        self, request: mesh_service_pb2.CheckStoreRequest, context: Context
    ) -> mesh_service_pb2.CheckStoreResponse:
        return mesh_service_pb2.CheckStoreResponse(answered_by=self._node)


class Dispatch(dispatch_service_pb2_grpc.DispatchServiceServicer):
    async def Synchronize(
        self, request: dispatch_service_pb2.SynchronizeRequest, context: Context
    ) -> dispatch_service_pb2.SynchronizeResponse:
        return dispatch_service_pb2.SynchronizeResponse(accepted=len(request.results))


class Abacus(abacus_service_pb2_grpc.AbacusServiceServicer):
    def __init__(self, node: str) -> None:
        self._node = node

    async def GetSum(
        self, request: abacus_service_pb2.GetSumRequest, context: Context
    ) -> abacus_service_pb2.Sum:
        return abacus_service_pb2.Sum(
            name=request.name, value="5", number=5, answered_by=self._node
        )

    async def AddNumber(
        self, request: abacus_service_pb2.AddNumberRequest, context: Context
    ) -> abacus_service_pb2.AddNumberResponse:
        return abacus_service_pb2.AddNumberResponse(added=str(request.number))

    async def AddNumbers(
        self, messages: AsyncIterator[abacus_service_pb2.AddNumbersRequest], context: Context
    ) -> abacus_service_pb2.AddNumbersResponse:
        told = abacus_service_pb2.AddNumbersResponse()
        async for message in messages:
            told.sum.name = told.sum.name or message.name
            told.accepted_count += len(message.numbers) + len(message.decimals)
            told.sequence = message.sequence
        return told

    async def ListAbaci(
        self, request: abacus_service_pb2.ListAbaciRequest, context: Context
    ) -> abacus_service_pb2.ListAbaciResponse:
        return abacus_service_pb2.ListAbaciResponse()

    async def DeleteAbacus(
        self, request: abacus_service_pb2.DeleteAbacusRequest, context: Context
    ) -> abacus_service_pb2.DeleteAbacusResponse:
        return abacus_service_pb2.DeleteAbacusResponse(
            previous=abacus_service_pb2.Sum(name=request.name)
        )

    async def ListEntries(
        self, request: abacus_service_pb2.ListEntriesRequest, context: Context
    ) -> abacus_service_pb2.ListEntriesResponse:
        entry = abacus_service_pb2.LedgerEntry(name=f"{request.parent}/entries/1")
        return abacus_service_pb2.ListEntriesResponse(entries=[entry])

    async def ResetSum(
        self, request: abacus_service_pb2.ResetSumRequest, context: Context
    ) -> abacus_service_pb2.ResetSumResponse:
        return abacus_service_pb2.ResetSumResponse()

    async def WatchSum(
        self, request: abacus_service_pb2.WatchSumRequest, context: Context
    ) -> AsyncIterator[abacus_service_pb2.Sum]:
        yield abacus_service_pb2.Sum(name=request.name, answered_by=self._node)


async def serve(path: Path, stop: asyncio.Event) -> None:
    """Serves everything on a unix socket until `stop`."""
    server = create_server(path.stem)
    job_service_pb2_grpc.add_JobServiceServicer_to_server(Jobs(path.stem), server)
    mesh_service_pb2_grpc.add_MeshServiceServicer_to_server(Mesh(path.stem), server)
    dispatch_service_pb2_grpc.add_DispatchServiceServicer_to_server(Dispatch(), server)
    abacus_service_pb2_grpc.add_AbacusServiceServicer_to_server(Abacus(path.stem), server)
    report = HealthReport(SERVICES)
    serving = asyncio.create_task(
        run_server(
            server,
            listen=[f"unix:{path}"],
            report=report,
            reflected=SERVICES,
            grace=0.1,
            stop=stop,
        )
    )
    await asyncio.sleep(0)
    await report.set_ready(True)
    await serving


async def main() -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    await asyncio.gather(*(serve(Path(path), stop) for path in sys.argv[1:]))


if __name__ == "__main__":
    asyncio.run(main())
