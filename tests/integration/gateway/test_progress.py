"""What is told of how far a job is, where chunks were given up or the job lay failed."""

from collections.abc import AsyncIterator

import pytest
from google.protobuf.duration_pb2 import Duration

from tallymesh.v1 import dispatch_service_pb2 as dispatch
from tallymesh.v1 import job_service_pb2 as pb
from tallymesh.v1.errors_pb2 import ERROR_REASON_CHUNK_FAILED
from tallymesh.v1.job_pb2 import Job
from tallymesh_core.store.connection import Store
from tallymesh_core.store.jobs import JobStore
from tallymesh_core.store.leases import LeaseStore
from tests.integration.gateway.conftest import Gateway, Worker
from tests.integration.gateway.test_gateway import create, simulate
from tests.store.jobs.conftest import Scheduler


@pytest.fixture
async def scheduler(store_url: str) -> AsyncIterator[Scheduler]:
    """The gateway's store."""
    store = await Store.open(store_url)
    yield Scheduler(store, JobStore(store), LeaseStore(store))
    await store.close()


async def give_up(worker: Worker, index: int) -> None:
    """Fails a chunk that it holds."""
    (span,) = worker.held
    chunk = dispatch.ChunkRange(
        job=span.job, epoch=span.epoch, first=index, count=1, attempt=span.attempt
    )
    failure = dispatch.ChunkFailure(chunk=chunk, reason=ERROR_REASON_CHUNK_FAILED, message="bad")
    await worker.call(failures=[failure])


async def listed(gateway: Gateway) -> Job:
    (job,) = (await gateway.jobs.ListJobs(pb.ListJobsRequest())).jobs
    return job


async def test_chunks_that_were_given_up_are_not_done(gateway: Gateway, worker: Worker) -> None:
    await create(gateway, simulate(max_attempts=1))
    await worker.call(capacity=1)
    await give_up(worker, 0)
    job = await listed(gateway)
    assert job.state == Job.STATE_FAILED
    told = (job.progress.chunks_done, job.progress.chunks_failed, job.progress.fraction)
    assert told == (0, 1, 0)


async def test_tolerated_chunks_are_not_done_either(gateway: Gateway, worker: Worker) -> None:
    await create(gateway, simulate(4, max_attempts=1, tolerate_failures=1))
    await worker.call(capacity=4)
    await give_up(worker, 0)
    running = await listed(gateway)
    assert (running.progress.fraction, running.progress.chunks_failed) == (0, 1)
    (span,) = worker.held
    worker.held = [
        dispatch.ChunkRange(job=span.job, epoch=1, first=1, count=3, attempt=span.attempt)
    ]
    await worker.finish()
    job = await listed(gateway)
    assert (job.state, job.progress.fraction) == (Job.STATE_SUCCEEDED, 0.75)


async def test_time_that_a_job_lay_failed_does_not_count(
    gateway: Gateway, worker: Worker, scheduler: Scheduler
) -> None:
    made = await create(gateway, simulate(max_attempts=1))
    for _ in range(2):
        await worker.call(capacity=1)
        await scheduler.pass_time(2)
        await give_up(worker, 0)
        worker.held = []
        await scheduler.pass_time(24 * 3600)
        await gateway.jobs.ReplayJob(pb.ReplayJobRequest(name=made.name))
    await worker.call(capacity=1)
    await scheduler.pass_time(2)
    await worker.finish()
    job = await gateway.jobs.GetJob(pb.GetJobRequest(name=made.name))
    assert job.state == Job.STATE_SUCCEEDED
    # It ran for 6 s, and for as long as the machine took meanwhile.
    assert 1 / 60 < job.progress.chunks_per_second <= 1 / 6
    assert 6 <= job.stages.computing.ToTimedelta().total_seconds() < 60
    assert job.end_time.seconds - job.start_time.seconds > 2 * 24 * 3600


async def test_job_that_never_started_waits_anew_once_it_is_replayed(
    gateway: Gateway, worker: Worker, scheduler: Scheduler
) -> None:
    made = await create(gateway, simulate(timeout=Duration(seconds=1)))
    await scheduler.pass_time(2)
    await scheduler.jobs.time_out()
    await scheduler.pass_time(24 * 3600)
    await gateway.jobs.ReplayJob(pb.ReplayJobRequest(name=made.name))
    await worker.call(capacity=1)
    await worker.finish()
    job = await gateway.jobs.GetJob(pb.GetJobRequest(name=made.name))
    assert job.state == Job.STATE_SUCCEEDED
    assert job.stages.waiting.ToTimedelta().total_seconds() < 60
