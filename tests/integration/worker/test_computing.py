"""Chunks go in, each result comes out once."""

from pathlib import Path

import psutil
import pytest

from tallymesh import custom
from tallymesh.v1 import errors_pb2, work_pb2
from tests.harness.polling import eventually
from tests.integration.worker.conftest import StartWorker, busiest, compute_processes
from tests.integration.worker.mesh import FakeGateway, simulate


async def test_every_chunk_is_computed_once(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    await start_worker(slots=2)
    quick = gateway.add("quick", simulate(), 20_000)
    primes = gateway.add("primes", work_pb2.Work(count_primes=work_pb2.CountPrimes(stop=10**6)), 64)
    await eventually(lambda: quick.done and primes.done)
    assert quick.counted_once
    assert primes.counted_once
    assert sum(quick.sums.values()) == 20_000
    assert sum(primes.sums.values()) == 78_498
    await eventually(lambda: gateway.held() == [])


async def test_partials_are_merged_by_the_last_step(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    await start_worker(slots=2)
    numbers = [f"{i}.5" for i in range(100)]
    job = gateway.add("add", work_pb2.Work(add=work_pb2.Add(numbers=numbers)), 7)
    await eventually(lambda: job.done)
    assert sorted(job.partials) == list(range(7))
    job.waiting.append((7, 8))
    gateway.wake()
    await eventually(lambda: job.result)
    assert job.result == work_pb2.Result(add=work_pb2.AddResult(sum="5000"))


async def test_the_only_chunk_of_a_job_gives_its_result(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    await start_worker(slots=1)
    job = gateway.add("add", work_pb2.Work(add=work_pb2.Add(numbers=["0.1", "0.2"])))
    await eventually(lambda: job.result)
    assert job.result == work_pb2.Result(add=work_pb2.AddResult(sum="0.3"))
    assert job.partials == {}


async def test_results_are_kept_until_they_are_acknowledged(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    await start_worker(slots=2)
    gateway.lost_answers = 3
    job = gateway.add("job", simulate(0.01), 40)
    await eventually(lambda: job.done and gateway.held() == [])
    assert job.counted_once
    by_id: dict[str, bytes] = {}
    for request in gateway.requests:
        request.ClearField("held")  # what is told of the worker as a whole is brought up to date
        request.ClearField("open_call_ids")
        for result in request.results:
            result.ClearField("age_micros")
        told = request.SerializeToString()
        assert told == by_id.setdefault(request.call_id, told), "a repeat is the same call"
    assert len(gateway.requests) >= len(by_id) + 3


async def test_results_tell_when_they_were_begun(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    await start_worker(slots=1)
    gateway.lost_answers = 1
    job = gateway.add("job", simulate(0.1), 3)
    await eventually(lambda: job.done and gateway.held() == [])
    ages: dict[tuple[str, int], int] = {}
    for request in gateway.requests:
        for result in request.results:
            assert result.elapsed_micros >= 100_000 * result.chunks.count
            assert result.age_micros >= result.elapsed_micros
            told = (request.call_id, result.chunks.first)
            assert result.age_micros > ages.get(told, 0), "a repeat is later"
            ages[told] = result.age_micros
    repeats = sum(len(request.results) for request in gateway.requests) - len(ages)
    assert repeats >= 1


async def test_an_outage_loses_nothing_and_is_told_once(
    gateway: FakeGateway, start_worker: StartWorker, caplog: pytest.LogCaptureFixture
) -> None:
    await start_worker(slots=2)
    caplog.set_level("INFO", "tallymesh_worker")
    job = gateway.add("job", simulate(0.4), 2)
    await eventually(lambda: len(gateway.held()) == 2)
    gateway.deaf = True
    calls = len(gateway.requests)
    await eventually(lambda: len(gateway.requests) > calls + 4)
    assert not job.counted
    gateway.deaf = False
    await eventually(lambda: job.done and gateway.held() == [])
    assert job.counted_once

    def told() -> list[str]:
        return [record.message for record in caplog.records if "gateway" in record.message]

    await eventually(lambda: len(told()) > 1)
    assert told() == ["no gateway answers; computing goes on", "a gateway answers again"]


async def test_a_dead_gateway_is_passed_over(
    gateway: FakeGateway, start_worker: StartWorker, directory: Path
) -> None:
    await start_worker(slots=1, gateway=f"unix:{directory}/dead, unix:{directory}/gateway")
    job = gateway.add("job", simulate(), 10)
    await eventually(lambda: job.done)


async def test_failures_are_told_with_their_reason(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    await start_worker(slots=2)
    failing = gateway.add("failing", simulate(failure_rate=1.0), 3)
    refused = gateway.add(
        "refused", work_pb2.Work(count_primes=work_pb2.CountPrimes(start=9, stop=3)), 2
    )
    await eventually(lambda: len(failing.failures) == 3 and len(refused.failures) == 2)
    assert failing.failed_chunks == [0, 1, 2]
    assert {one.reason for one in failing.failures} == {errors_pb2.ERROR_REASON_CHUNK_FAILED}
    assert failing.failures[0].message.startswith("simulated failure of chunk")
    assert {one.reason for one in refused.failures} == {errors_pb2.ERROR_REASON_WORK_REFUSED}
    assert refused.failures[0].message.startswith("stop: '3' is not")


async def test_progress_of_a_long_chunk_is_told(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    await start_worker(slots=1)
    job = gateway.add("job", simulate(1.0))
    await eventually(lambda: job.done)
    assert len(job.progress) >= 2
    assert job.progress == sorted(job.progress)
    assert 0 < job.progress[0] < job.progress[-1] <= 1


async def test_a_killed_process_costs_its_chunk_and_is_replaced(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    await start_worker(slots=1)
    await eventually(lambda: len(compute_processes()) == 2)
    before = compute_processes()
    job = gateway.add("job", simulate(0.6, busy=True), 3)
    other = gateway.add("other", simulate(), 10)
    await eventually(lambda: busiest(before).cpu_times().user > 0.2)
    busiest(before).kill()
    await eventually(lambda: job.failures)
    (failed,) = job.failed_chunks
    assert job.failures[0].reason == errors_pb2.ERROR_REASON_CHUNK_CRASHED
    assert job.failures[0].message == "process killed by SIGKILL"
    await eventually(lambda: set(job.counted) == {0, 1, 2} - {failed} and other.done)
    assert job.failed_chunks == [failed]
    assert other.counted_once
    await eventually(lambda: len(compute_processes()) == 2)
    assert len(set(compute_processes()) & set(before)) == 1


async def test_crashes_are_told_chunk_by_chunk(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    await start_worker(slots=2)
    job = gateway.add("job", simulate(crash_rate=0.5), 12)
    await eventually(lambda: len(job.counted) + len(job.failures) == 12, timeout=20)
    assert job.failures
    assert set(job.counted).isdisjoint(job.failed_chunks)
    assert max(job.counted.values(), default=1) == 1
    assert len(set(job.failed_chunks)) == len(job.failures)


async def test_a_process_that_grows_too_large_is_replaced_between_batches(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    await start_worker(slots=1, child_memory_mib=1)
    before = {process.pid for process in compute_processes()}
    job = gateway.add("job", simulate(), 10)
    await eventually(lambda: job.done)
    assert job.counted_once
    assert job.failures == []
    await eventually(lambda: not all(psutil.pid_exists(pid) for pid in before))


async def test_a_kernel_that_leaks_costs_a_process_now_and_then(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    await start_worker(slots=1, child_memory_mib=150, kernels="tests.harness.bad_kernels")
    before = {process.pid for process in compute_processes()}
    work = custom("bad.leaks", {"mib": 60})
    job = gateway.add("job", work_pb2.Work(custom=work), 6)
    await eventually(lambda: job.done)
    assert job.counted_once
    assert job.failures == []
    await eventually(lambda: not any(psutil.pid_exists(pid) for pid in before))


async def test_what_waits_behind_long_chunks_is_handed_back(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    await start_worker(slots=2)
    job = gateway.add("job", simulate(0.6), 10, again=False)
    await eventually(lambda: len(job.returned) == 8)
    assert not job.counted, "not before the first chunk has ended"
    await eventually(lambda: gateway.held() == [])
    assert sorted([*job.counted, *job.returned]) == list(range(10))


async def test_long_chunks_are_all_computed_by_the_worker_that_is_alone(
    gateway: FakeGateway, start_worker: StartWorker
) -> None:
    await start_worker(slots=2)
    job = gateway.add("job", simulate(0.12), 10)
    await eventually(lambda: job.done)
    assert job.counted_once
