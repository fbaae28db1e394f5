"""What the mesh refuses of a worker's call fails its chunk, and holds up no other."""

import grpc
import pytest

from tallymesh.v1 import dispatch_service_pb2 as pb
from tallymesh.v1 import work_pb2
from tests.harness.polling import eventually
from tests.integration.worker.conftest import StartWorker
from tests.integration.worker.mesh import FakeGateway, simulate

POISON = 37


def adds(count: int) -> work_pb2.Work:
    return work_pb2.Work(add=work_pb2.Add(numbers=[f"{i}.5" for i in range(count)]))


def holds(request: pb.SynchronizeRequest, job: str, chunk: int) -> bool:
    return any(
        one.chunks.job.endswith(job)
        and one.chunks.first <= chunk < one.chunks.first + one.chunks.count
        for one in request.results
    )


@pytest.mark.parametrize(
    ("code", "details"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "results[3]: is poison"),
        (grpc.StatusCode.INTERNAL, "Exception deserializing request!"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (5 vs. 4)"),
    ],
)
async def test_one_bad_result_fails_its_chunk_alone(
    gateway: FakeGateway, start_worker: StartWorker, code: grpc.StatusCode, details: str
) -> None:
    gateway.refusal = lambda request: (code, details) if holds(request, "bad", POISON) else None
    bad = gateway.add("bad", adds(400), 100)
    good = gateway.add("good", simulate(), 5_000)
    await start_worker(slots=2)
    await eventually(lambda: len(bad.counted) == 99 and good.done and bad.failures)
    assert bad.failed_chunks == [POISON]
    assert details in bad.failures[0].message
    assert good.counted_once
    assert bad.counted.keys() == set(range(100)) - {POISON}
    await eventually(lambda: gateway.held() == [])


async def test_a_failure_that_is_refused_is_reported_in_other_words(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    def refusal(request: pb.SynchronizeRequest) -> tuple[grpc.StatusCode, str] | None:
        if any("simulated" in failure.message for failure in request.failures):
            return grpc.StatusCode.INVALID_ARGUMENT, "failures[0].message: no"
        return None

    gateway.refusal = refusal
    failing = work_pb2.Work(simulate=work_pb2.Simulate(failure_rate=1))
    job = gateway.add("failing", failing, 3)
    await start_worker(slots=1)
    await eventually(lambda: len(job.failures) == 3)
    assert {failure.message for failure in job.failures} == {
        "the mesh refuses what the worker reports of this chunk: failures[0].message: no"
    }
    await eventually(lambda: gateway.held() == [])


async def test_a_worker_whose_every_word_is_refused_ends_and_does_not_spin(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    job = gateway.add("job", adds(8), 4)
    gateway.refusal = lambda request: (
        (grpc.StatusCode.INVALID_ARGUMENT, "no") if request.results or request.failures else None
    )
    await start_worker(slots=1)
    # Nothing it reports is taken, so it gives all of it up, and goes on calling.
    await eventually(lambda: gateway.requests and not gateway.requests[-1].held and not job.waiting)
    assert not job.counted
    assert len(gateway.requests) < 200
