"""The Python client, through Envoy."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from uuid import uuid4

import grpc
import pytest

from tallymesh import (
    Add,
    Client,
    CountPrimes,
    Job,
    JobCancelled,
    JobEnded,
    JobFailed,
    RequestIdReused,
    Simulate,
    WaitTimeout,
)
from tallymesh.v1 import errors_pb2, mesh_service_pb2, mesh_service_pb2_grpc
from tests.harness.local_mesh import LocalMesh
from tests.harness.polling import eventually_sync
from tests.harness.primes import PRIMES_UP_TO


def simulate(seconds: int = 0, failure_rate: float = 0.0) -> Simulate:
    work = Simulate(failure_rate=failure_rate, seed=3)
    work.duration.FromSeconds(seconds)
    return work


def test_every_answer_names_who_answered(mesh: LocalMesh) -> None:
    with grpc.insecure_channel(mesh.address) as channel:
        stub = mesh_service_pb2_grpc.MeshServiceStub(channel)
        who, call = stub.WhoAmI.with_call(mesh_service_pb2.WhoAmIRequest())
    told = {key: value for key, value in call.trailing_metadata() if isinstance(value, str)}
    assert told["tallymesh-node"] == who.answered_by == "gateway-1"
    assert told["tallymesh-request-id"] == who.request_id


def test_a_job_from_its_submission_to_its_result(client: Client) -> None:
    job = client.submit(CountPrimes(stop=10**6), chunks=5, labels={"by": "python"})
    seen = list(job.watch(timeout=30))
    assert seen[-1].state == Job.STATE_SUCCEEDED
    assert [one.version for one in seen] == sorted(one.version for one in seen)
    assert job.result() == PRIMES_UP_TO[10**6]
    assert (job.job.initiated_by, job.job.checked_by) == ("gateway-1", "gateway-1")
    assert sum(job.job.handled_by.values()) == 5
    assert job.name in [one.name for one in client.jobs(labels={"by": "python"})]


def test_numbers_are_added_exactly(client: Client) -> None:
    assert client.add("0.1", 2**70, Decimal("-0.3")) == Decimal(2**70) - Decimal("0.2")
    numbers = [f"{sign}{i}.{i}" for i in range(1000) for sign in ("", "-")]
    job = client.submit(Add(numbers=[*numbers, "1"]), chunks=64)
    assert job.result(timeout=30) == 1


def test_a_job_of_the_most_chunks_is_accepted_and_cancelled(client: Client) -> None:
    job = client.submit(simulate(1), chunks=2**22)
    assert job.job.chunk_count == 2**22
    assert len(job.refresh().progress.chunk_map.cells) == 256
    assert job.cancel().state == Job.STATE_CANCELLED


def test_a_submission_repeated_under_its_id_is_one_job(client: Client) -> None:
    request_id = str(uuid4())
    first = client.submit(simulate(), request_id=request_id)
    assert client.submit(simulate(), request_id=request_id).name == first.name
    with pytest.raises(RequestIdReused):
        client.submit(simulate(1), request_id=request_id)


def test_a_wait_may_end_before_the_job(client: Client) -> None:
    job = client.submit(simulate(3600))
    with pytest.raises(WaitTimeout) as raised:
        job.result(timeout=0.2)
    assert raised.value.job.name == job.name
    job.cancel()
    with pytest.raises(JobCancelled):
        job.result()


def test_attempts_are_spent_before_a_job_fails(client: Client) -> None:
    job = client.submit(simulate(failure_rate=1), max_attempts=2)
    with pytest.raises(JobFailed) as raised:
        job.result(timeout=30)
    assert raised.value.job.failed_attempts == 2
    assert raised.value.job.error.reason == errors_pb2.ERROR_REASON_CHUNK_FAILED
    with pytest.raises(JobEnded):
        job.cancel()


def test_failures_and_crashes_do_not_change_a_count(client: Client) -> None:
    work = Simulate(failure_rate=0.2, crash_rate=0.1, seed=4)
    job = client.submit(work, chunks=20, max_attempts=100)
    assert job.result(timeout=60) == 20
    assert job.job.failed_attempts > 0
    assert sum(job.job.handled_by.values()) == 20


def test_adds_from_many_threads_lose_nothing(client: Client) -> None:
    abacus = client.abacus(f"a{uuid4().hex}")
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda i: abacus.add(Decimal(i) / 8), range(200)))
    assert abacus.sum == Decimal(sum(range(200))) / 8
    assert abacus.read().add_count == 200


def test_an_abacus_is_watched_while_jobs_add_to_it(client: Client) -> None:
    abacus = client.abacus(f"a{uuid4().hex}")
    sums = abacus.watch(timeout=30)
    assert next(sums).value == "0"
    jobs = [client.submit(CountPrimes(stop=10**6), abacus=abacus.name) for _ in range(3)]
    assert next(seen for seen in sums if seen.add_count == 3).number == 3 * PRIMES_UP_TO[10**6]
    eventually_sync(
        lambda: all(job.refresh().abacus_posting.HasField("post_time") for job in jobs),
        message="each job telling that its total has landed",
    )
    assert {job.job.abacus_posting.amount for job in jobs} == {str(PRIMES_UP_TO[10**6])}
    assert abacus.reset() == 3 * PRIMES_UP_TO[10**6]
