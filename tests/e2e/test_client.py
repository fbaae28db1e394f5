"""The Python client, through Envoy."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import grpc
import pytest

from tallymesh import (
    Add,
    Chunk,
    ChunkTimedOut,
    Client,
    CountPrimes,
    Job,
    JobCancelled,
    JobEnded,
    JobFailed,
    JobNotReplayable,
    JobTimedOut,
    RequestIdReused,
    Simulate,
    WaitTimeout,
    Work,
)
from tallymesh.v1 import (
    errors_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    mesh_service_pb2,
    mesh_service_pb2_grpc,
)
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


def test_what_takes_too_long_fails_with_its_own_error(client: Client) -> None:
    job = client.submit(simulate(60), max_attempts=2, chunk_timeout=0.1)
    with pytest.raises(ChunkTimedOut) as caught:
        job.result(timeout=30)
    assert (caught.value.reason, caught.value.job.failed_attempts) == ("CHUNK_TIMED_OUT", 2)
    (letter,) = client.dead_letters.list(job=job.name, reason="chunk_timed_out")
    assert letter.name == f"{job.name}/chunks/0"
    job = client.submit(simulate(60), job_timeout=timedelta(milliseconds=200))
    with pytest.raises(JobTimedOut) as raised:
        job.result(timeout=30)
    assert (raised.value.reason, raised.value.job.error.chunk) == ("JOB_TIMED_OUT", -1)


def test_failures_that_are_tolerated_show_beside_the_result(client: Client) -> None:
    work = Simulate(failure_rate=0.5, seed=5)
    job = client.submit(work, chunks=20, max_attempts=1, tolerate_failures=20)
    counted = job.result(timeout=30)
    failed = job.job.progress.chunks_failed
    assert 0 < failed < 20
    assert counted == job.job.progress.chunks_done == 20 - failed
    letters = {letter.chunk for letter in client.dead_letters.list(job=job.name)}
    lost = {chunk.index for chunk in job.chunks() if chunk.state == Chunk.STATE_FAILED}
    assert letters == lost
    assert len(lost) == failed


def test_a_failed_job_is_replayed_once(client: Client) -> None:
    job = client.submit(simulate(failure_rate=1), max_attempts=1)
    with pytest.raises(JobFailed):
        job.result(timeout=30)
    late = client.job(job.name)
    late.refresh()
    assert job.replay().epoch == 2
    assert late.replay().epoch == 2, "whoever saw the same failure replays nothing more"
    with pytest.raises(JobFailed):
        job.result(timeout=30)
    assert [replay.epoch for replay in job.job.replays] == [2]
    assert job.job.failed_attempts == 2
    running = client.submit(simulate(3600))
    with pytest.raises(JobNotReplayable, match="not failed"):
        running.replay()
    running.cancel()


def test_hundreds_of_jobs_are_collected_exactly(client: Client) -> None:
    works: list[Any] = [Add(numbers=[str(index), "0.5"]) for index in range(300)]
    failing = Job(work=Work(simulate=simulate(failure_rate=1)), max_attempts=1)
    handles = client.submit_many([*works, failing], chunks=1, labels={"by": "hundred"})
    found = {handle.name: handle for handle in client.as_completed(handles, timeout=60)}
    assert found.keys() == {handle.name for handle in handles}
    sums = [handle.result() for handle in handles[:300]]
    assert sums == [index + Decimal("0.5") for index in range(300)]
    with pytest.raises(JobFailed):
        handles[300].result()
    assert dict(handles[7].job.labels) == {"by": "hundred"}
    again = client.as_completed([handles[7].name], timeout=60)
    assert next(again).result() == Decimal("7.5"), "what has ended is told at once"


def test_many_are_run_in_order_and_under_one_id_once(client: Client) -> None:
    def work(digits: int) -> CountPrimes:
        return CountPrimes(stop=10**digits)

    works = [work(digits) for digits in (6, 3, 5)]
    request_id = str(uuid4())
    expected = [PRIMES_UP_TO[10**6], 168, 9_592]
    assert list(client.map(work, (6, 3, 5), request_id=request_id, timeout=60)) == expected
    first = client.submit_many(works, request_id=request_id)
    second = client.submit_many(works, request_id=request_id)
    assert [handle.name for handle in first] == [handle.name for handle in second]
    assert [handle.result() for handle in first] == expected


def test_large_jobs_are_collected_in_messages_that_any_client_takes(
    mesh: LocalMesh, client: Client
) -> None:
    large = Add(numbers=["1".zfill(64)] * 10_000)
    handles = client.submit_many([large] * 8)
    for handle in client.as_completed(handles, timeout=60):
        assert handle.result() == 10_000
    names = [handle.name for handle in handles]
    with grpc.insecure_channel(mesh.address) as channel:
        stub = job_service_pb2_grpc.JobServiceStub(channel)
        answers = stub.CollectJobs(job_service_pb2.CollectJobsRequest(names=names))
        assert sorted(job.name for answer in answers for job in answer.jobs) == sorted(names)


def test_a_collection_waits_for_those_that_run(client: Client) -> None:
    handles = client.submit_many([simulate(), simulate(3600)])
    found = client.as_completed(handles, timeout=1)
    assert next(found) is handles[0]
    with pytest.raises(WaitTimeout) as raised:
        next(found)
    assert raised.value.job.name == handles[1].name
    handles[1].cancel()
    with pytest.raises(JobCancelled):
        next(client.as_completed(handles[1:], timeout=30)).result()


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
