"""How much of the smallest work goes through the mesh, and what of the processors that takes."""

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import grpc.aio

from bench.figures import Bound, Figure, of_samples
from bench.mesh import BenchMesh
from bench.sampling import interleaved
from tallymesh import Client, Simulate, Work
from tallymesh.calls import new_request_id
from tallymesh.v1.job_pb2 import Job
from tallymesh.v1.job_service_pb2 import RunJobRequest
from tallymesh.v1.job_service_pb2_grpc import JobServiceStub

if TYPE_CHECKING:
    from tallymesh.v1.job_service_pb2_grpc import JobServiceAsyncStub

_AT_A_TIME = 64
_SECONDS = 60.0


def measure(mesh: BenchMesh, quick: bool) -> Sequence[Figure]:
    return [*_chunks(mesh, quick), *_jobs(mesh, quick)]


def _chunks(mesh: BenchMesh, quick: bool) -> Sequence[Figure]:
    chunks, rounds = (50_000, 1) if quick else (200_000, 5)
    with Client(mesh.edge) as client:
        client.run(Simulate(), chunks=chunks // 10, timeout=_SECONDS)
        before = mesh.cpu_seconds()
        rates = []
        for _ in range(rounds):
            begun = time.perf_counter()
            client.run(Simulate(), chunks=chunks, timeout=_SECONDS)
            rates.append(chunks / (time.perf_counter() - begun))
    return [
        of_samples(f"no-op chunks of a job of {chunks:,}", rates, "/s", bound=Bound(40_000, "≥")),
        *mesh.costs(before, rounds * chunks, "a chunk"),
    ]


def _jobs(mesh: BenchMesh, quick: bool) -> Sequence[Figure]:
    jobs, rounds = (500, 1) if quick else (2_000, 3)
    with asyncio.Runner() as runner:

        def rate(address: str) -> list[float]:
            return [jobs / runner.run(_run_jobs(address, jobs))]

        runner.run(_run_jobs(mesh.edge, jobs // 10))
        before = mesh.cpu_seconds()
        rates = interleaved(
            {
                "edge": lambda _: rate(mesh.edge),
                "direct": lambda _: rate(mesh.gateway),
            },
            rounds=rounds,
            warm_up=False,
        )
    return [
        of_samples(f"jobs of 1 chunk, {_AT_A_TIME} at a time, through Envoy", rates["edge"], "/s"),
        of_samples(f"jobs of 1 chunk, {_AT_A_TIME} at a time, direct", rates["direct"], "/s"),
        *mesh.costs(before, 2 * rounds * jobs, "a job"),
    ]


async def _run_jobs(address: str, count: int) -> float:
    """Runs jobs, so many at a time; returns the seconds for all."""
    numbers = iter(range(count))
    async with grpc.aio.insecure_channel(address) as channel:
        stub = JobServiceStub(channel)

        async def work() -> None:
            for _ in numbers:
                await _run_job(stub)

        await channel.channel_ready()
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_AT_A_TIME):
                tasks.create_task(work())
        return time.perf_counter() - begun


async def _run_job(stub: "JobServiceAsyncStub") -> None:
    request = RunJobRequest(
        job=Job(work=Work(simulate=Simulate()), chunk_count=1), request_id=new_request_id()
    )
    state = Job.STATE_UNSPECIFIED
    async for event in stub.RunJob(request, timeout=_SECONDS):
        state = event.ended.state
    assert state == Job.STATE_SUCCEEDED, f"a job ended as {Job.State.Name(state)}"
