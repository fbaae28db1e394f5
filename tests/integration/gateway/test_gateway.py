"""The gateway's services as their callers see them, on a real store."""

import asyncio
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tallymesh.v1 import dispatch_service_pb2 as dispatch
from tallymesh.v1 import errors_pb2, job_pb2, work_pb2
from tallymesh.v1 import job_service_pb2 as pb
from tallymesh.v1 import mesh_service_pb2 as mesh
from tallymesh_gateway import dispatch as dispatching
from tests.harness.polling import eventually
from tests.integration.gateway.conftest import Gateway, Worker, running_gateway

Job = job_pb2.Job


def simulate(chunks: int = 1, **fields: Any) -> Job:
    return Job(work=work_pb2.Work(simulate=work_pb2.Simulate()), chunk_count=chunks, **fields)


def facts(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    details = rpc_status.from_call(cast(grpc.Call, error))
    assert details is not None
    assert any(detail.Unpack(info) for detail in details.details)
    return info


async def create(gateway: Gateway, job: Job, request_id: str = "") -> Job:
    return await gateway.jobs.CreateJob(pb.CreateJobRequest(job=job, request_id=request_id))


async def test_job_goes_through_a_worker_and_names_everyone(
    gateway: Gateway, worker: Worker
) -> None:
    job = await create(gateway, simulate(3, labels={"team": "a"}))
    assert (job.state, job.initiated_by) == (Job.STATE_PENDING, "gateway-1")
    assert "no live worker" in job.state_reason
    answer = await worker.call(capacity=10)
    assert [one.chunks.count for one in answer.assignments] == [3]
    assert answer.works[0].work == job.work
    assert answer.answered_by == "gateway-1"
    assert (await worker.finish()).accepted == 3
    done = await gateway.jobs.GetJob(pb.GetJobRequest(name=job.name))
    assert done.state == Job.STATE_SUCCEEDED
    assert done.result.simulate.chunks == 3
    assert dict(done.handled_by) == {"w1": 3}
    assert done.checked_by == "gateway-1"
    assert done.progress.fraction == 1
    listed = await gateway.jobs.ListChunks(pb.ListChunksRequest(parent=job.name, page_size=2))
    assert [chunk.index for chunk in listed.chunks] == [0, 1]
    rest = await gateway.jobs.ListChunks(
        pb.ListChunksRequest(parent=job.name, page_size=2, page_token=listed.next_page_token)
    )
    assert [(chunk.index, chunk.worker) for chunk in rest.chunks] == [(2, "w1")]
    assert not rest.next_page_token


@pytest.fixture
def no_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has waiting calls not look for themselves, so that only who is woken answers in time."""
    monkeypatch.setattr(dispatching, "_LOOK_SECONDS", 60.0)


@pytest.mark.usefixtures("no_looking")
async def test_waiting_worker_is_woken_by_a_submit(gateway: Gateway, worker: Worker) -> None:
    waiting = asyncio.create_task(worker.call(capacity=1, wait=30))
    await eventually(lambda: known_workers(gateway))
    await create(gateway, simulate())
    answer = await asyncio.wait_for(waiting, 20)
    assert answer.assignments


async def known_workers(gateway: Gateway) -> bool:
    return (await gateway.mesh.GetHealth(mesh.GetHealthRequest())).worker_count > 0


@pytest.mark.usefixtures("no_looking")
async def test_cancel_tells_the_owner_through_its_waiting_call(
    gateway: Gateway, worker: Worker
) -> None:
    job = await create(gateway, simulate(4))
    await worker.call(capacity=2)
    (held,) = worker.held
    one = dispatch.ChunkRange(job=held.job, epoch=held.epoch, count=1, attempt=held.attempt)
    progress = [dispatch.ChunkProgress(chunk=one, fraction=0.5)]
    waiting = asyncio.create_task(worker.call(capacity=0, wait=30, progress=progress))

    async def waits() -> bool:
        told = await gateway.jobs.GetJob(pb.GetJobRequest(name=job.name))
        return told.progress.fraction > 0

    await eventually(waits)
    cancelled = await gateway.jobs.CancelJob(pb.CancelJobRequest(name=job.name))
    assert cancelled.state == Job.STATE_CANCELLED
    answer = await asyncio.wait_for(waiting, 20)
    assert {stop.job for stop in answer.stop} == {worker.held[0].job}
    refused = await worker.finish()
    assert (refused.accepted, refused.refused) == (0, 2)


async def test_watch_begins_with_a_snapshot_and_ends_with_the_end(
    gateway: Gateway, worker: Worker
) -> None:
    job = await create(gateway, simulate(2))
    events: list[job_pb2.JobEvent] = []

    async def watch() -> None:
        async for event in gateway.jobs.WatchJob(pb.WatchJobRequest(name=job.name)):
            events.append(event)

    watching = asyncio.create_task(watch())
    await eventually(lambda: bool(events))
    await worker.call(capacity=1)
    await eventually(lambda: any(e.delta.progress.chunks_running == 1 for e in events))
    await worker.finish(capacity=1)
    await worker.finish()
    await asyncio.wait_for(watching, 20)
    assert events[0].HasField("snapshot")
    assert events[-1].ended.state == Job.STATE_SUCCEEDED
    assert [e.version for e in events] == sorted(e.version for e in events)
    again = [e async for e in gateway.jobs.WatchJob(pb.WatchJobRequest(name=job.name))]
    assert [e.WhichOneof("event") for e in again] == ["snapshot", "ended"]


async def test_run_streams_the_job_to_its_end(gateway: Gateway, worker: Worker) -> None:
    async def work() -> None:
        await worker.call(capacity=9, wait=20)
        await worker.finish()

    working = asyncio.create_task(work())
    events = [e async for e in gateway.jobs.RunJob(pb.RunJobRequest(job=simulate(5)))]
    await working
    assert events[-1].ended.result.simulate.chunks == 5


@pytest.mark.usefixtures("no_looking")
async def test_two_gateways_are_one_mesh(store_url: str) -> None:
    async with (
        running_gateway(store_url, "gateway-1") as one,
        running_gateway(store_url, "gateway-2") as two,
    ):
        worker = Worker(two)
        waiting = asyncio.create_task(worker.call(capacity=5, wait=30))
        await eventually(lambda: known_workers(two))
        job = await create(one, simulate(5))
        assert (await asyncio.wait_for(waiting, 20)).assignments
        watch = asyncio.create_task(collect(one, job.name))
        await worker.finish()
        ended = (await asyncio.wait_for(watch, 20))[-1].ended
        assert ended.state == Job.STATE_SUCCEEDED
        seen = await two.jobs.GetJob(pb.GetJobRequest(name=job.name))
        assert (seen.initiated_by, seen.checked_by) == ("gateway-1", "gateway-2")


async def collect(gateway: Gateway, name: str) -> list[job_pb2.JobEvent]:
    return [e async for e in gateway.jobs.WatchJob(pb.WatchJobRequest(name=name))]


async def test_kernel_that_merges_ends_with_its_result(gateway: Gateway, worker: Worker) -> None:
    work = work_pb2.Work(add=work_pb2.Add(numbers=["1", "2", "3"]))
    job = await create(gateway, Job(work=work, chunk_count=3))

    def sum_of(text: str) -> work_pb2.Result:
        return work_pb2.Result(add=work_pb2.AddResult(sum=text))

    await worker.call(capacity=3)
    results = [dispatch.ChunkResults(chunks=worker.held[0], partials=[sum_of(t) for t in "123"])]
    worker.held = []
    answer = await worker.call(results=results, capacity=1)
    assert [part.add.sum for part in answer.assignments[0].partials] == ["1", "2", "3"]
    final = dispatch.ChunkResults(chunks=answer.assignments[0].chunks, result=sum_of("6"))
    worker.held = []
    await worker.call(results=[final])
    done = await gateway.jobs.GetJob(pb.GetJobRequest(name=job.name))
    assert done.result.add.sum == "6"


async def test_failed_attempts_show_and_fail_the_job(gateway: Gateway, worker: Worker) -> None:
    job = await create(gateway, simulate(1, max_attempts=1))
    await worker.call(capacity=1)
    failure = dispatch.ChunkFailure(
        chunk=worker.held[0], reason=errors_pb2.ERROR_REASON_CHUNK_CRASHED, message="killed"
    )
    await worker.call(failures=[failure], held=[])
    failed = await gateway.jobs.GetJob(pb.GetJobRequest(name=job.name))
    assert failed.state == Job.STATE_FAILED
    assert failed.error.reason == errors_pb2.ERROR_REASON_CHUNK_CRASHED
    assert (failed.error.message, failed.error.worker) == ("killed", "w1")


async def test_draining_worker_leaves_the_fleet(gateway: Gateway, worker: Worker) -> None:
    await worker.call()
    assert await known_workers(gateway)
    await worker.call(draining=True)
    await eventually(lambda: not_known(gateway), timeout=5)


async def not_known(gateway: Gateway) -> bool:
    return not await known_workers(gateway)


async def test_jobs_are_listed_by_filter_and_page(gateway: Gateway) -> None:
    for i in range(5):
        await create(gateway, simulate(1, queue=f"q{i % 2}", labels={"n": str(i)}))
    first = await gateway.jobs.ListJobs(pb.ListJobsRequest(page_size=2, queue="q0"))
    assert len(first.jobs) == 2
    assert not first.jobs[0].HasField("work")
    rest = await gateway.jobs.ListJobs(
        pb.ListJobsRequest(page_size=2, queue="q0", page_token=first.next_page_token)
    )
    assert {job.queue for job in [*first.jobs, *rest.jobs]} == {"q0"}
    assert len(rest.jobs) == 1
    (one,) = (
        await gateway.jobs.ListJobs(pb.ListJobsRequest(labels=["n=3"], view=pb.JOB_VIEW_FULL))
    ).jobs
    assert one.work.HasField("simulate")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.jobs.ListJobs(pb.ListJobsRequest(page_token=first.next_page_token))
    assert facts(caught.value).metadata["field"] == "page_token"


async def test_request_id_makes_create_safe_to_repeat(gateway: Gateway) -> None:
    one = await create(gateway, simulate(2), "id-1")
    assert (await create(gateway, simulate(2), "id-1")).name == one.name
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await create(gateway, simulate(3), "id-1")
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert facts(caught.value).reason == "REQUEST_ID_REUSED"


@pytest.mark.parametrize(
    ("job", "field", "reason"),
    [
        (Job(), "job.work", "UNKNOWN_KERNEL"),
        (Job(work=work_pb2.Work.FromString(b"\xfa\x3e\x00")), "job.work", "UNKNOWN_KERNEL"),
        (simulate(-1), "job.chunk_count", "INVALID_FIELD"),
        (simulate(0), "job.chunk_count", "INVALID_FIELD"),
        (simulate(1, max_attempts=0), "job.max_attempts", "INVALID_FIELD"),
        (simulate(10**9), "job.chunk_count", "INVALID_FIELD"),
        (simulate(1, queue="Bad"), "job.queue", "INVALID_FIELD"),
        (simulate(1, priority=10), "job.priority", "INVALID_FIELD"),
        (simulate(1, max_attempts=101), "job.max_attempts", "INVALID_FIELD"),
        (simulate(1, abacus="visitors"), "job.abacus", "INVALID_FIELD"),
        (simulate(1, labels={"Bad": "x"}), "job.labels", "INVALID_FIELD"),
        (
            Job(work=work_pb2.Work(count_primes=work_pb2.CountPrimes(start=10, stop=5))),
            "job.work.count_primes.stop",
            "INVALID_FIELD",
        ),
        (
            Job(work=work_pb2.Work(add=work_pb2.Add(numbers=["1", "NaN"]))),
            "job.work.add.numbers[1]",
            "INVALID_FIELD",
        ),
    ],
)
async def test_bad_jobs_are_refused_by_field(
    gateway: Gateway, job: Job, field: str, reason: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await create(gateway, job)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    info = facts(caught.value)
    assert (info.reason, info.domain) == (reason, "tallymesh")
    assert info.metadata["field"] == field
    assert info.metadata["bound"]


@pytest.mark.parametrize(
    "name", ["", "jobs/", "jobs/x", "abaci/x", "jobs/../../etc", "jobs/" + "z" * 17]
)
async def test_bad_names_are_refused(gateway: Gateway, name: str) -> None:
    for call in (
        gateway.jobs.GetJob(pb.GetJobRequest(name=name)),
        gateway.jobs.CancelJob(pb.CancelJobRequest(name=name)),
        collect(gateway, name),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert facts(caught.value).metadata["field"] == "name"


async def test_unknown_job_is_not_found(gateway: Gateway) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.jobs.GetJob(pb.GetJobRequest(name="jobs/0000000000000000"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert facts(caught.value).reason == "NOT_FOUND"


async def test_ended_job_cannot_be_cancelled(gateway: Gateway, worker: Worker) -> None:
    job = await create(gateway, simulate())
    await worker.call(capacity=1)
    await worker.finish()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.jobs.CancelJob(pb.CancelJobRequest(name=job.name))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert facts(caught.value).metadata["state"] == "SUCCEEDED"


async def test_malformed_worker_calls_are_refused(gateway: Gateway, worker: Worker) -> None:
    chunk = dispatch.ChunkRange(job="default/0000000000000000", epoch=1, first=0, count=2)
    for said, field in (
        ({"capacity": -1}, "capacity"),
        ({"wait": 31}, "wait"),
        ({"call_id": ""}, "call_id"),
        ({"held": [dispatch.ChunkRange(job="nonsense", count=1)]}, "held[0].job"),
        ({"results": [dispatch.ChunkResults(chunks=chunk, sums=[1])]}, "results[0]"),
        ({"failures": [dispatch.ChunkFailure(chunk=chunk)]}, "failures[0].reason"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await worker.call(**said)
        assert facts(caught.value).metadata["field"] == field


async def test_health_and_store_tell_the_truth(gateway: Gateway, worker: Worker) -> None:
    health = await gateway.mesh.GetHealth(mesh.GetHealthRequest())
    assert health.status == mesh.GetHealthResponse.STATUS_DEGRADED
    assert health.store.connected
    assert health.store.server.split()[0] in ("valkey", "redis")
    await worker.call()
    await eventually(lambda: known_workers(gateway))
    health = await gateway.mesh.GetHealth(mesh.GetHealthRequest())
    assert health.status == mesh.GetHealthResponse.STATUS_HEALTHY
    check = await gateway.mesh.CheckStore(mesh.CheckStoreRequest())
    assert check.round_trip.ToNanoseconds() > 0
    call = gateway.mesh.WhoAmI(mesh.WhoAmIRequest(), metadata=(("x-request-id", "mine"),))
    who = await call
    assert (who.answered_by, who.tenant, who.request_id) == ("gateway-1", "default", "mine")
    metadata = dict(await call.trailing_metadata())
    assert metadata["tallymesh-node"] == "gateway-1"
    assert metadata["tallymesh-request-id"] == "mine"


async def test_stopping_gateway_sends_its_watchers_elsewhere(
    gateway: Gateway, worker: Worker
) -> None:
    job = await create(gateway, simulate())
    watching = asyncio.create_task(collect(gateway, job.name))
    waiting = asyncio.create_task(worker.call(capacity=0, wait=30))
    await eventually(lambda: known_workers(gateway))
    gateway.stop.set()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(watching, 20)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert facts(caught.value).reason == "SHUTTING_DOWN"
    await asyncio.wait_for(waiting, 20)
