"""What a gateway reads of the store for those who watch a job."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from tallymesh.v1 import dispatch_service_pb2 as pb
from tallymesh.v1.work_pb2 import Simulate, Work
from tallymesh_core.domain.jobs import JobRecord
from tallymesh_core.store.chunk_logs import ChunkLogStore
from tallymesh_core.store.connection import Store
from tallymesh_core.store.events import JobChanged
from tallymesh_core.store.jobs import JobStore
from tallymesh_core.store.leases import LeaseStore
from tallymesh_gateway.answers import Answers
from tallymesh_gateway.collecting import Collections
from tallymesh_gateway.contents import Contents
from tallymesh_gateway.dispatch import Dispatcher
from tallymesh_gateway.fleet import Fleet
from tallymesh_gateway.watching import Watches
from tallymesh_kernels import builtin
from tests.store.jobs.conftest import ADDITIVE

JOB = replace(ADDITIVE, work=Work(simulate=Simulate()).SerializeToString())


class CountingJobs(JobStore):
    """Jobs whose readings are counted."""

    readings = 0

    async def get(self, *args: Any, **options: Any) -> JobRecord:
        self.readings += 1
        return await super().get(*args, **options)


class Mesh:
    """A gateway's parts without a server, and no events but those that a test tells."""

    def __init__(self, store: Store) -> None:
        leases = LeaseStore(store)
        self.jobs = CountingJobs(store)
        contents = Contents(self.jobs)
        answers = Answers("gateway-1", builtin(), Fleet(leases), contents)
        self.watches = Watches(self.jobs, answers, "gateway-1")
        self.dispatcher = Dispatcher(
            self.jobs,
            leases,
            self.watches,
            Collections(self.jobs, "gateway-1"),
            "gateway-1",
            logs=ChunkLogStore(store),
            contents=contents,
        )
        self.calls = 0

    async def call(self, **said: Any) -> pb.SynchronizeResponse:
        self.calls += 1
        worker = pb.Worker(name="w1", uid="uid-of-w1", slots=1, kernels=["simulate"])
        return await self.dispatcher.synchronize(
            pb.SynchronizeRequest(call_id=str(self.calls), worker=worker, **said)
        )

    async def commit(self, given: pb.ChunkRange, chunk: int) -> None:
        one = pb.ChunkRange()
        one.CopyFrom(given)
        one.first, one.count = chunk, 1
        answer = await self.call(
            held=[given], results=[pb.ChunkResults(chunks=one, sums=[1], compute_micros=[1])]
        )
        assert answer.accepted == 1


@pytest.fixture
async def mesh(store_url: str) -> AsyncIterator[Mesh]:
    store = await Store.open(store_url)
    yield Mesh(store)
    await store.close()


async def test_each_commit_is_read_once_and_what_has_been_told_not_again(mesh: Mesh) -> None:
    job = await mesh.jobs.submit(replace(JOB, chunk_count=5))
    await mesh.call()
    (given,) = (await mesh.call(capacity=5)).assignments
    watch = mesh.watches.watch("default", job.id)
    version = (await anext(watch)).version
    for chunk in range(4):
        await mesh.commit(given.chunks, chunk)
        event = await anext(watch)
        assert event.delta.progress.chunks_done == chunk + 1
        assert event.version == version + 1
        version = event.version
        # The store's events tell all of it once more.
        for kind in ("leased", "committed"):
            mesh.watches.notice([JobChanged(f"default/{job.id}", version, kind, "")])
    await mesh.commit(given.chunks, 4)
    mesh.watches.notice([JobChanged(f"default/{job.id}", version + 1, "ended", "1 0")])
    assert [event.ended.progress.chunks_done async for event in watch] == [5]
    assert mesh.jobs.readings == 1 + 5


async def test_a_change_by_others_is_read_whatever_it_is(mesh: Mesh) -> None:
    job = await mesh.jobs.submit(replace(JOB, chunk_count=2))
    watch = mesh.watches.watch("default", job.id)
    assert (await anext(watch)).snapshot.progress.chunks_running == 0
    await mesh.call()
    (given,) = (await mesh.call(capacity=2)).assignments
    mesh.watches.notice([JobChanged(f"default/{job.id}", 2, "leased", "")])
    assert (await anext(watch)).delta.progress.chunks_running == 2
    await mesh.commit(given.chunks, 0)
    assert (await anext(watch)).delta.progress.chunks_done == 1
    await mesh.jobs.cancel("default", job.id)
    mesh.watches.notice([JobChanged(f"default/{job.id}", 9, "ended", "1 0 uid-of-w1")])
    assert (await anext(watch)).ended.progress.chunks_done == 1
