"""Gateways when calls come together, faults happen and the store forgets."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest

from tallymesh.v1 import job_pb2
from tallymesh.v1 import job_service_pb2 as pb
from tallymesh_core.store.connection import Store
from tallymesh_gateway import names
from tests.harness.polling import eventually
from tests.harness.stores import client_of
from tests.integration.gateway.conftest import Gateway, Worker
from tests.integration.gateway.test_gateway import create, facts, known_workers, simulate

Job = job_pb2.Job


async def test_jobs_that_come_together_wake_a_worker_each(gateway: Gateway) -> None:
    workers = [Worker(gateway, name=f"w{i}") for i in range(4)]
    waiting = [asyncio.create_task(worker.call(capacity=1, wait=20)) for worker in workers]

    async def all_wait() -> bool:
        return await known_workers(gateway) and all(not task.done() for task in waiting)

    await eventually(all_wait)
    await asyncio.gather(*(create(gateway, simulate()) for _ in workers))
    # Far sooner than the calls would look for themselves.
    answers = await asyncio.wait_for(asyncio.gather(*waiting), 0.4)
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
    await (await client_of(store)).hset(key_of(store, job), "labels", "NONSENSE")
    await worker.call(capacity=1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(read_to_end(watch), 5)
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
    events = await asyncio.wait_for(read_to_end(watch), 5)
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
    token = names.page_token(cursor, job.name.removeprefix("jobs/"))
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
