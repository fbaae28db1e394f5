"""Gateways when calls come together, faults happen and the store forgets."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import grpc
import grpc.aio
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from tallymesh.v1 import dead_letter_service_pb2 as letters
from tallymesh.v1 import dispatch_service_pb2 as dispatch_pb
from tallymesh.v1 import errors_pb2, job_pb2, work_pb2
from tallymesh.v1 import job_service_pb2 as pb
from tallymesh_core.rpc.paging import page_token
from tallymesh_core.store.chunk_logs import ChunkLogStore
from tallymesh_core.store.connection import Store
from tallymesh_core.store.events import JobChanged
from tallymesh_core.store.jobs import JobStore
from tallymesh_core.store.leases import LeaseStore
from tallymesh_gateway import contents, dispatch
from tallymesh_gateway.answers import Answers
from tallymesh_gateway.collecting import Collections
from tallymesh_gateway.contents import Contents
from tallymesh_gateway.dispatch import Dispatcher
from tallymesh_gateway.fleet import Fleet
from tallymesh_gateway.watching import Watches
from tallymesh_kernels import builtin
from tests.harness.polling import eventually
from tests.harness.stores import client_of
from tests.integration.gateway.conftest import Gateway, Worker
from tests.integration.gateway.test_gateway import create, facts, known_workers, simulate
from tests.store.jobs.conftest import ADDITIVE

Job = job_pb2.Job


async def test_jobs_that_come_together_wake_a_worker_each(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The calls are not to look for themselves.
    monkeypatch.setattr(dispatch, "_LOOK_SECONDS", 60.0)
    workers = [Worker(gateway, name=f"w{i}") for i in range(4)]
    waiting = [asyncio.create_task(worker.call(capacity=1, wait=30)) for worker in workers]

    async def all_wait() -> bool:
        return await known_workers(gateway) and all(not task.done() for task in waiting)

    await eventually(all_wait)
    await asyncio.gather(*(create(gateway, simulate()) for _ in workers))
    answers = await asyncio.wait_for(asyncio.gather(*waiting), 20)
    assert all(answer.assignments for answer in answers)


async def test_draining_worker_leaves_no_chunk_behind(gateway: Gateway, worker: Worker) -> None:
    await create(gateway, simulate())
    # The answer to this call is lost: the worker holds nothing, as far as it knows.
    await worker.call(capacity=1)
    await worker.call(draining=True, held=[])
    assert not await known_workers(gateway)
    other = Worker(gateway, name="w2")
    assert (await other.call(capacity=1)).assignments
    # A call of the first one that was held up on its way gets nothing.
    assert not (await worker.call(capacity=1, held=[])).assignments


async def test_watch_of_a_job_that_cannot_be_read_ends(
    gateway: Gateway, worker: Worker, store: Store
) -> None:
    job = await create(gateway, simulate())
    watch = aiter(gateway.jobs.WatchJob(pb.WatchJobRequest(name=job.name)))
    await anext(watch)
    await (await client_of(store)).hset(key_of(store, job), "spec", "NONSENSE")
    await worker.call(capacity=1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(read_to_end(watch), 20)
    assert caught.value.code() is grpc.StatusCode.INTERNAL


async def test_watch_ends_though_the_store_has_lost_its_last_moments(
    gateway: Gateway, worker: Worker, store: Store
) -> None:
    job = await create(gateway, simulate(2))
    watch = aiter(gateway.jobs.WatchJob(pb.WatchJobRequest(name=job.name)))
    await worker.call(capacity=1)
    while (await anext(watch)).version < 2:
        pass
    await (await client_of(store)).hset(
        key_of(store, job), mapping={"state": "CANCELLED", "version": 1}
    )
    await make_everyone_look(store)
    events = await asyncio.wait_for(read_to_end(watch), 20)
    assert events[-1].ended.state == Job.STATE_CANCELLED


async def test_absent_abacus_is_asked_once_a_round(
    gateway: Gateway, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(50):
        await create(gateway, simulate(abacus="abaci/x"))
    while (await worker.call(capacity=50)).assignments:
        await worker.finish()
    await eventually(lambda: "the abacus cannot be reached" in caplog.text)
    # A round goes by with each batch of jobs that end, and each second.
    assert caplog.text.count("the abacus cannot be reached") < 25


@pytest.mark.parametrize("cursor", ["9" * 9, "9" * 5000, "-1", "x"])
async def test_made_up_page_tokens_are_refused(gateway: Gateway, cursor: str) -> None:
    job = await create(gateway, simulate())
    token = page_token(cursor, job.name.removeprefix("jobs/"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.jobs.ListChunks(pb.ListChunksRequest(parent=job.name, page_token=token))
    assert facts(caught.value).metadata["field"] == "page_token"


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    """The gateway's store, to be tampered with."""
    store = await Store.open(store_url)
    yield store
    await store.close()


def key_of(store: Store, job: Job) -> str:
    return f"{store.prefix(0)}job:default/{job.name.removeprefix('jobs/')}"


async def read_to_end(watch: AsyncIterator[job_pb2.JobEvent]) -> list[job_pb2.JobEvent]:
    return [event async for event in watch]


async def make_everyone_look(store: Store) -> None:
    """Has more happen at once than a gateway reads."""
    pipe = (await client_of(store)).pipeline(transaction=True)
    for _ in range(1500):
        pipe.xadd(f"{store.prefix(0)}events", {"news": "default/x 1 leased "})
    await pipe.execute()


async def test_works_told_again_and_again_are_kept_once(
    gateway: Gateway, worker: Worker, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "_MOST_BYTES", 1000)
    job = Job(work=work_pb2.Work(add=work_pb2.Add(numbers=["1" * 50] * 10)))
    for _ in range(5):
        made = await create(gateway, job, request_id="again")
    # It need not be read.
    await (await client_of(store)).delete(key_of(store, made).replace("}:job:", "}:work:"))
    assert (await worker.call(capacity=1)).works


@pytest.mark.parametrize("cursor", ["x", "1", "1:x:2", "x:abc:1", "1:2:3:4", "9" * 400 + ":a:1"])
async def test_forged_page_tokens_are_refused(gateway: Gateway, cursor: str) -> None:
    for call in (
        gateway.letters.ListDeadLetterGroups(
            letters.ListDeadLetterGroupsRequest(page_token=page_token(cursor, "groups"))
        ),
        gateway.letters.ListDeadLetters(
            letters.ListDeadLettersRequest(page_token=page_token(cursor, ""))
        ),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert facts(caught.value).metadata["field"] == "page_token"


@pytest.mark.parametrize("time", [Timestamp(seconds=1 << 60), Timestamp(nanos=-5)])
async def test_times_out_of_range_are_refused(gateway: Gateway, time: Timestamp) -> None:
    for call, field in (
        (gateway.jobs.ListJobs(pb.ListJobsRequest(create_time_from=time)), "create_time_from"),
        (gateway.jobs.ListJobs(pb.ListJobsRequest(create_time_until=time)), "create_time_until"),
        (
            gateway.letters.ListDeadLetters(
                letters.ListDeadLettersRequest(filter=letters.DeadLetterFilter(fail_time_from=time))
            ),
            "filter.fail_time_from",
        ),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert facts(caught.value).metadata["field"] == field


async def test_watch_of_a_replayed_job_knows_nothing_of_its_former_end(store_url: str) -> None:
    store = await Store.open(store_url)
    jobs, leases = JobStore(store), LeaseStore(store)
    watches = Watches(
        jobs, Answers("gateway-1", builtin(), Fleet(leases), Contents(jobs)), "gateway-1"
    )
    job = await jobs.submit(replace(ADDITIVE, work=b"", timeout_ms=1))
    # Who reads slowly has not taken the end yet when the job runs again.
    slow = watches.watch("default", job.id)
    await anext(slow)
    await eventually(lambda: ended(jobs, job.id))
    watches.notice([JobChanged(f"default/{job.id}", 2, "ended", "1 0")])
    while not (await anext(slow)).HasField("ended"):
        pass
    await jobs.replay("default", job.id)
    watch = watches.watch("default", job.id)
    assert (await anext(watch)).snapshot.state == Job.STATE_PENDING
    await jobs.cancel("default", job.id)
    watches.notice([JobChanged(f"default/{job.id}", 9, "ended", "1 0")])
    assert [event async for event in watch][-1].ended.state == Job.STATE_CANCELLED
    assert [event async for event in slow] == []
    await store.close()


async def ended(jobs: JobStore, job_id: str) -> bool:
    await jobs.time_out()
    return (await jobs.get("default", job_id)).state.is_final


async def test_what_has_ended_on_several_shards_is_heard_before_the_beat(store_url: str) -> None:
    store = await Store.open(store_url, shards=2)
    jobs, leases = JobStore(store), LeaseStore(store, transit_seconds=0)
    watches = Watches(
        jobs, Answers("gateway-1", builtin(), Fleet(leases), Contents(jobs)), "gateway-1"
    )
    collections = Collections(jobs, "gateway-1")
    logs = ChunkLogStore(store)
    dispatcher = Dispatcher(
        jobs, leases, watches, collections, "gateway-1", logs=logs, contents=Contents(jobs)
    )
    queues = {store.shard_of("default", f"q{i}"): f"q{i}" for i in range(16)}
    worker = dispatch_pb.Worker(
        name="w1", uid="uid-of-w1", slots=1, kernels=["simulate"], queues=queues.values()
    )
    failed = [
        (await jobs.submit(replace(ADDITIVE, work=b"", queue=queues[shard], chunk_count=1))).id
        for shard in (1, 0)
    ]
    await dispatcher.synchronize(dispatch_pb.SynchronizeRequest(call_id="1", worker=worker))
    given = await dispatcher.synchronize(
        dispatch_pb.SynchronizeRequest(call_id="2", worker=worker, capacity=2)
    )
    held = {one.chunks.job: one.chunks for one in given.assignments}
    await dispatcher.synchronize(
        dispatch_pb.SynchronizeRequest(
            call_id="3",
            worker=worker,
            failures=[
                dispatch_pb.ChunkFailure(
                    chunk=held[f"default/{job_id}"],
                    reason=errors_pb2.ERROR_REASON_CHUNK_FAILED,
                    message="broken",
                )
                for job_id in failed
            ],
        )
    )
    assert [(await jobs.get("default", job_id)).failed for job_id in failed] == [1, 1]
    await store.close()
