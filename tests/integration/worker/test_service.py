"""What a worker serves itself."""

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.struct_pb2 import Struct
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from tallymesh.v1 import work_pb2
from tallymesh.v1.work_pb2 import CountPrimes
from tallymesh.v1.worker_service_pb2 import (
    DescribeRequest,
    DrainRequest,
    WorkerServiceComputeRequest,
    WorkerServiceComputeResponse,
)
from tallymesh_kernels import builtin, describe_libraries, usable
from tests.harness.polling import eventually
from tests.harness.tools import missing
from tests.integration.worker.conftest import (
    RunningWorker,
    StartWorker,
    busiest,
    compute_processes,
)
from tests.integration.worker.mesh import FakeGateway, simulate


async def compute(worker: RunningWorker, work: work_pb2.Work) -> list[WorkerServiceComputeResponse]:
    return [one async for one in worker.service.Compute(WorkerServiceComputeRequest(work=work))]


async def refusal(worker: RunningWorker, work: work_pb2.Work) -> tuple[grpc.StatusCode, str, str]:
    """The code, reason and message with which a computation ends."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await compute(worker, work)
    error: Any = caught.value
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details)
    return error.code(), info.reason, status.message


async def test_compute_streams_progress_and_the_result(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    worker = await start_worker(slots=1)
    told = await compute(worker, simulate(0.5))
    fractions = [one.fraction for one in told[:-1]]
    assert fractions[0] == 0
    assert len(fractions) > 1
    assert fractions == sorted(fractions)
    assert told[-1].result == work_pb2.Result(simulate=work_pb2.SimulateResult(chunks=1))
    added = await compute(worker, work_pb2.Work(add=work_pb2.Add(numbers=["2", "3"])))
    assert [one.result.add.sum for one in added] == ["", "5"]


async def test_compute_chooses_how_to_count(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    worker = await start_worker(slots=1)
    if "nth_prime" not in usable(builtin()).names():
        missing("libprimecount")
    *_, last = await compute(worker, work_pb2.Work(count_primes=CountPrimes(stop=10**12)))
    counted = last.result.count_primes
    assert (counted.count, counted.method) == (37607912018, CountPrimes.METHOD_COMBINATORIAL)
    assert "estimates: combinatorial" in counted.method_reason
    # A gateway has chosen already, and said why.
    chosen = CountPrimes(stop=100, method=CountPrimes.METHOD_SIEVE, method_reason="it is quick")
    *_, last = await compute(worker, work_pb2.Work(count_primes=chosen))
    assert last.result.count_primes.method_reason == "it is quick"
    twins = CountPrimes(stop=100, kind=CountPrimes.KIND_TWINS)
    *_, last = await compute(worker, work_pb2.Work(count_primes=twins))
    counted = last.result.count_primes
    assert (counted.count, counted.method) == (8, CountPrimes.METHOD_SIEVE)
    *_, last = await compute(worker, work_pb2.Work(nth_prime=work_pb2.NthPrime(n=10**10)))
    assert last.result.nth_prime.prime == 252097800623
    twins.method = CountPrimes.METHOD_COMBINATORIAL
    _, reason, message = await refusal(worker, work_pb2.Work(count_primes=twins))
    assert (reason, message.split(":")[0]) == ("INVALID_FIELD", "work.count_primes.kind")


async def test_a_call_that_ends_stops_its_computation(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    worker = await start_worker(slots=1)
    await eventually(lambda: len(compute_processes()) == 2)
    for replaced in (1, 2):  # the slot's process, and the one that takes its place
        await eventually(lambda: _has_room(worker))
        call = worker.service.Compute(
            WorkerServiceComputeRequest(work=simulate(60, busy=True, ignore_cancel=True))
        )
        while not (await call.read()).fraction:
            pass  # it has not begun to compute
        call.cancel()

        async def is_replaced(count: int = replaced) -> bool:
            told = await worker.service.Describe(DescribeRequest())
            return bool(told.processes_replaced == count)

        await eventually(is_replaced)
    await eventually(lambda: len(compute_processes()) == 2)
    await eventually(lambda: _has_room(worker))


async def test_what_a_computation_without_a_job_logs_is_told_to_nobody(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    worker = await start_worker(slots=1, kernels="tests.harness.bad_kernels")
    loops = work_pb2.Work(custom=work_pb2.CustomWork(kernel="bad.loops", json=Struct()))
    call = worker.service.Compute(WorkerServiceComputeRequest(work=loops))
    await call.read()
    await eventually(lambda: busiest(compute_processes()).cpu_times().user > 0.5)
    call.cancel()
    await eventually(lambda: _has_room(worker))
    job = gateway.add("job", simulate(0.1), 4)
    await eventually(lambda: job.done)
    assert job.counted_once
    assert not [log for request in gateway.requests for log in request.logs]


async def test_no_free_slot_is_told_at_once(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    worker = await start_worker(slots=1)
    await eventually(lambda: len(compute_processes()) == 2)
    gateway.add("job", simulate(60))
    await eventually(gateway.held)
    await eventually(lambda: _has_room(worker))  # the spare has loaded
    spare = worker.service.Compute(WorkerServiceComputeRequest(work=simulate(60)))
    assert (await spare.read()).HasField("fraction")
    # Far sooner than a slot is free.
    code, reason, _ = await asyncio.wait_for(refusal(worker, simulate()), 30)
    assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "NO_FREE_SLOT")
    spare.cancel()
    await eventually(lambda: _has_room(worker))


async def _has_room(worker: RunningWorker) -> bool:
    try:
        return bool(await compute(worker, simulate()))
    except grpc.aio.AioRpcError:
        return False


async def test_bad_work_is_refused_by_name(gateway: FakeGateway, start_worker: StartWorker) -> None:
    worker = await start_worker(slots=1)
    assert (await refusal(worker, work_pb2.Work()))[:2] == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "UNKNOWN_KERNEL",
    )
    code, reason, message = await refusal(worker, simulate(failure_rate=2))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert message.startswith("work.simulate.failure_rate")


async def test_failure_and_crash_are_told_apart(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    worker = await start_worker(slots=1)
    assert (await refusal(worker, simulate(failure_rate=1)))[:2] == (
        grpc.StatusCode.ABORTED,
        "CHUNK_FAILED",
    )
    assert await refusal(worker, simulate(crash_rate=1)) == (
        grpc.StatusCode.ABORTED,
        "CHUNK_CRASHED",
        "process killed by SIGKILL",
    )


async def test_a_worker_describes_itself(gateway: FakeGateway, start_worker: StartWorker) -> None:
    worker = await start_worker(slots=2, node="w1", uid="told-by-others")
    done = gateway.add("done", simulate(), 5)
    await eventually(lambda: done.done)
    gateway.add("job", simulate(60), 2)
    await eventually(lambda: gateway.held() == [("job", 0), ("job", 1)])
    told = await worker.service.Describe(DescribeRequest())
    assert (told.worker.name, told.worker.uid) == ("w1", "told-by-others")
    assert told.worker.slots == 2
    assert tuple(told.worker.kernels) == usable(builtin()).names()
    assert sorted((one.job, one.first, one.count) for one in told.running) == [
        ("job", 0, 1),
        ("job", 1, 1),
    ]
    assert (told.waiting, told.chunks_done, told.chunks_failed) == (0, 5, 0)
    assert tuple(told.worker.libraries) == describe_libraries()
    assert not told.draining


async def test_drain_makes_it_leave(gateway: FakeGateway, start_worker: StartWorker) -> None:
    worker = await start_worker(slots=1, drain_grace=60)
    job = gateway.add("job", simulate(0.4))
    await eventually(gateway.held)
    assert (await worker.service.Drain(DrainRequest())).running == 1
    await asyncio.wait_for(worker.task, 30)
    assert job.counted_once


async def test_health_follows_the_first_answer(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    gateway.deaf = True
    worker = await start_worker(slots=1)
    health: Any = health_pb2_grpc.HealthStub(worker.channel)

    async def status() -> object:
        answer = await health.Check(
            health_pb2.HealthCheckRequest(service="tallymesh.v1.WorkerService"),
            wait_for_ready=True,
        )
        return answer.status

    assert await status() == health_pb2.HealthCheckResponse.NOT_SERVING
    gateway.deaf = False
    serving = health_pb2.HealthCheckResponse.SERVING

    async def is_serving() -> bool:
        return await status() == serving

    await eventually(is_serving)
