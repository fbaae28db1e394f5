"""What is not wanted any more stops, and so does a worker."""

import asyncio
from typing import Any

import pytest

from tallymesh.v1 import dispatch_service_pb2 as pb
from tallymesh.v1.worker_service_pb2 import DrainRequest
from tallymesh_worker import synchronizer
from tests.harness.polling import eventually
from tests.integration.worker.conftest import StartWorker, busiest, compute_processes
from tests.integration.worker.mesh import FakeGateway, simulate


async def test_a_chunk_that_ignores_cancel_is_gone_all_the_same(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    await start_worker(slots=1)
    await eventually(lambda: len(compute_processes()) == 2)
    before = compute_processes()
    job = gateway.add("job", simulate(60, busy=True, ignore_cancel=True))
    await eventually(lambda: busiest(before).cpu_times().user > 0.2)
    victim = busiest(before)
    gateway.stop(job)
    await eventually(lambda: not victim.is_running())
    after = gateway.add("after", simulate())
    await eventually(lambda: after.done and gateway.held() == [])
    assert not job.counted
    assert not job.failures


async def test_what_is_being_stopped_is_told_until_it_has_stopped(
    gateway: FakeGateway, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is told meanwhile is told in a call of its own, not once a waiting one is over.
    monkeypatch.setattr(synchronizer, "WAIT_SECONDS", 60.0)
    await start_worker(slots=1)
    await eventually(lambda: len(compute_processes()) == 2)
    before = compute_processes()
    job = gateway.add("job", simulate(60, busy=True, ignore_cancel=True))
    await eventually(lambda: busiest(before).cpu_times().user > 0.2)
    victim = busiest(before)
    # Told while another call waits: that would not return for long.
    gateway.stop(job, wake=False)
    stopping = await eventually(
        lambda: [one for one in gateway.requests if one.stopping], interval=0.005
    )
    assert stopping[0].stopping == [pb.ChunkRange(job="job", epoch=1, count=1, attempt=1)]
    assert not stopping[0].held
    await eventually(lambda: not victim.is_running(), interval=0.005)
    await eventually(lambda: not gateway.last.stopping)
    assert not gateway.last.held
    assert not job.returned
    assert not job.failures


async def test_nothing_is_told_as_stopped_that_still_computes(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    await start_worker(slots=1)
    await eventually(lambda: len(compute_processes()) == 2)
    before = compute_processes()
    job = gateway.add("job", simulate(60, busy=True, ignore_cancel=True))
    await eventually(lambda: busiest(before).cpu_times().user > 0.2)
    victim = busiest(before)
    computing_on: list[bool] = []

    def look() -> None:
        if not (gateway.last.held or gateway.last.stopping):
            computing_on.append(victim.is_running())

    gateway.stop(job)
    gateway.heard = look
    await eventually(lambda: computing_on)
    assert not any(computing_on)


async def test_a_cooperative_chunk_leaves_its_process_alive(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    await start_worker(slots=1)
    await eventually(lambda: len(compute_processes()) == 2)
    before = compute_processes()
    job = gateway.add("job", simulate(60))
    await eventually(lambda: gateway.held() == [("job", 0)])
    gateway.stop(job)
    after = gateway.add("after", simulate())
    await eventually(lambda: after.done and gateway.held() == [])
    assert compute_processes() == before
    assert not job.counted
    assert not job.failures


async def test_a_stop_of_some_chunks_leaves_the_others(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    await start_worker(slots=1)
    job = gateway.add("job", simulate(0.02), 8)
    await eventually(gateway.held)
    gateway.stop(job, first=5, count=2)
    await eventually(lambda: gateway.held() == [])
    assert set(job.counted) == {0, 1, 2, 3, 4, 7}


async def test_draining_ends_what_runs_and_hands_the_rest_back(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    worker = await start_worker(slots=1, drain_grace=60)
    job = gateway.add("job", simulate(0.4), 4)
    await eventually(gateway.held)
    worker.stop.set()
    await asyncio.wait_for(worker.task, 30)
    assert set(job.counted) == {0}
    assert set(job.returned) == {1, 2, 3}
    assert job.failures == []
    assert gateway.last.draining
    assert gateway.held() == []


async def test_after_the_grace_running_chunks_are_handed_back_too(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    worker = await start_worker(slots=1, drain_grace=0.1)
    job = gateway.add("job", simulate(60))
    await eventually(gateway.held)
    worker.stop.set()
    await asyncio.wait_for(worker.task, 30)
    assert job.returned == [0]
    assert gateway.last.draining
    assert gateway.held() == []


@pytest.mark.parametrize("by", ["an answer", "a call"])
async def test_a_worker_that_is_told_to_leave_under_load_loses_nothing(
    gateway: FakeGateway, start_worker: StartWorker, by: str
) -> None:
    worker = await start_worker(slots=2, drain_grace=60)
    jobs = [gateway.add(f"job-{number}", simulate(0.001), 20) for number in range(200)]
    await eventually(lambda: jobs[20].done)
    if by == "an answer":
        gateway.drain = True
    else:
        await worker.service.Drain(DrainRequest())
    await asyncio.wait_for(worker.task, 30)
    assert gateway.last.draining
    assert not gateway.last.held
    assert all(job.nothing_lost for job in jobs)
    assert not any(job.failures for job in jobs)
    assert not jobs[-1].counted, "the load was to outlast the worker"


async def test_a_waiting_worker_hears_at_once_that_it_is_to_leave(
    gateway: FakeGateway, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So long would it have to wait for another call.
    monkeypatch.setattr(synchronizer, "WAIT_SECONDS", 60.0)
    worker = await start_worker(slots=1)
    gateway.drain = True
    gateway.wake()
    await asyncio.wait_for(worker.task, 30)
    assert gateway.last.draining


async def test_a_worker_leaves_though_no_gateway_answers(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    worker: Any = await start_worker(slots=1)
    gateway.deaf = True
    worker.stop.set()
    await asyncio.wait_for(worker.task, 30)
