"""A chunk gets so much time and no more."""

from tallymesh.v1 import errors_pb2
from tallymesh.v1.worker_service_pb2 import DescribeRequest
from tests.harness.polling import eventually
from tests.integration.worker.conftest import StartWorker, compute_processes
from tests.integration.worker.mesh import FakeGateway, simulate


async def test_a_chunk_that_listens_is_stopped_and_leaves_its_process_alive(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    await start_worker(slots=1)
    await eventually(lambda: len(compute_processes()) == 2)
    before = compute_processes()
    job = gateway.add("job", simulate(60), chunk_timeout=0.2)
    await eventually(lambda: job.failures)
    (failure,) = job.failures
    assert failure.reason == errors_pb2.ERROR_REASON_CHUNK_TIMED_OUT
    assert failure.message == "took longer than chunk_timeout, 0.2 s"
    assert failure.chunk.attempt == 1
    after = gateway.add("after", simulate())
    await eventually(lambda: after.done and gateway.held() == [])
    assert compute_processes() == before
    assert not job.counted


async def test_a_chunk_that_does_not_listen_is_held_until_its_process_is_gone(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    await start_worker(slots=1)
    await eventually(lambda: len(compute_processes()) == 2)
    before = compute_processes()
    job = gateway.add("job", simulate(60, busy=True, ignore_cancel=True), chunk_timeout=0.5)
    await eventually(lambda: job.failures, interval=0.005)
    assert len([process for process in before if process.is_running()]) == 1, "the spare alone"
    assert job.failures[0].reason == errors_pb2.ERROR_REASON_CHUNK_TIMED_OUT
    given = next(i for i, one in enumerate(gateway.requests) if one.held)
    told = next(i for i, one in enumerate(gateway.requests) if one.failures)
    for request in gateway.requests[given : told + 1]:
        assert [chunks.first for chunks in request.held] == [0]
        assert not request.stopping


async def test_what_was_sent_along_with_it_is_computed_all_the_same(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    await start_worker(slots=1)
    # Too short a time for those behind the first to be taken back before it is over.
    job = gateway.add("job", simulate(60), 6, chunk_timeout=0.03)
    other = gateway.add("other", simulate(), 100)
    await eventually(lambda: len(job.failures) == 6 and other.done)
    assert job.failed_chunks == list(range(6))
    assert other.counted_once
    await eventually(lambda: gateway.held() == [])
    assert len(job.failures) == 6


async def test_time_counts_from_a_chunks_own_beginning(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    await start_worker(slots=1)
    # As their length is unknown, all are given and sent at once; the last begins long after that.
    job = gateway.add("job", simulate(0.2), 16, chunk_timeout=2)
    await eventually(lambda: job.done)
    assert job.counted_once
    assert not job.failures


async def test_a_chunk_that_is_stopped_for_its_time_can_still_be_cancelled(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    worker = await start_worker(slots=1)
    job = gateway.add("job", simulate(60, busy=True, ignore_cancel=True), chunk_timeout=0.3)
    await eventually(gateway.held)

    async def is_being_stopped() -> bool:
        return not (await worker.service.Describe(DescribeRequest())).running

    await eventually(is_being_stopped, interval=0.005)
    gateway.stop(job)
    after = gateway.add("after", simulate())
    await eventually(lambda: after.done and gateway.held() == [])
    assert not job.failures
