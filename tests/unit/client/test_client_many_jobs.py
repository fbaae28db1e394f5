"""Many jobs at once: batches that the mesh takes, and a stream that brings each job once."""

from decimal import Decimal
from typing import Any

import pytest

from tallymesh import (
    Add,
    Client,
    CountPrimes,
    Job,
    JobFailed,
    JobHandle,
    NotFound,
    Simulate,
    TallymeshError,
    WaitTimeout,
    Work,
)
from tallymesh.v1.work_pb2 import AddResult, CountPrimesResult, Result
from tallymesh_core.domain import errors as domain
from tests.unit.client.fake_mesh import Cut, FakeMesh, Silence, collected, failed_job


def ended(handle: JobHandle | str, count: int = 0) -> Job:
    name = handle if isinstance(handle, str) else handle.name
    result = Result(count_primes=CountPrimesResult(count=count))
    return Job(name=name, state=Job.STATE_SUCCEEDED, result=result)


def failed(handle: JobHandle) -> Job:
    job = failed_job()
    job.name = handle.name
    return job


def test_works_go_in_batches_with_ids_of_their_own(mesh: FakeMesh, client: Client) -> None:
    whole = Job(work=Work(add=Add(numbers=["1"])), queue="mine")
    works: list[Any] = [*(CountPrimes(stop=stop) for stop in range(1100)), Simulate(seed=7), whole]
    handles = client.submit_many(works, queue="q", chunks=1)
    assert [handle.job.work.count_primes.stop for handle in handles[:1100]] == list(range(1100))
    batches = [list(batch.requests) for batch in mesh.asked("BatchCreateJobs")]
    assert [len(batch) for batch in batches] == [1000, 102]
    requests = [request for batch in batches for request in batch]
    assert requests[1100].job == Job(work=Work(simulate=Simulate(seed=7)), queue="q", chunk_count=1)
    assert requests[1101].job == whole
    assert len({request.request_id for request in requests}) == 1102
    client.submit_many([Simulate()] * 2, request_id="mine")
    last = mesh.asked("BatchCreateJobs")[-1].requests
    assert [request.request_id for request in last] == ["mine-0", "mine-1"]
    assert client.submit_many([]) == []


def test_large_works_go_in_batches_that_the_mesh_takes(mesh: FakeMesh, client: Client) -> None:
    large = Add(numbers=["1" * 64] * 10_000)
    client.submit_many([large] * 20)
    batches = mesh.asked("BatchCreateJobs")
    assert sum(len(batch.requests) for batch in batches) == 20
    assert 1 < len(batches) < 10
    assert max(batch.ByteSize() for batch in batches) < 3 * 2**20


def test_what_is_no_work_is_refused_before_a_call(mesh: FakeMesh, client: Client) -> None:
    with pytest.raises(TypeError, match=r"works\[0\]: .* is of type str, not a CountPrimes"):
        client.submit_many(["primes"])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="'priority'"):
        client.submit_many([Simulate()], prio=3)  # type: ignore[call-arg]
    assert not mesh.calls


def test_jobs_come_as_they_end_each_once(mesh: FakeMesh, client: Client) -> None:
    first, second, third = client.submit_many([CountPrimes(stop=10)] * 3)
    mesh.streams.append(
        [collected(ended(third, 3)), collected(), collected(ended(first, 1), ended(second, 2))]
    )
    # A job that is given twice comes once; one that is given by name gets a handle.
    found = client.as_completed([first, second.name, third, second.name.removeprefix("jobs/")])
    assert [handle.result() for handle in found] == [3, 1, 2]
    assert first.result() == 1
    assert not second.ended
    assert not mesh.asked("WatchJob")


@pytest.mark.parametrize(
    "cut", [Cut(), domain.StoreUnavailable(), Silence(), None], ids=lambda cut: type(cut).__name__
)
def test_a_collection_that_is_cut_asks_for_what_is_missing(
    mesh: FakeMesh, client: Client, cut: Cut | Silence | domain.DomainError | None
) -> None:
    if isinstance(cut, domain.DomainError):
        cut.retry_after = 0.01
    handles = client.submit_many([CountPrimes(stop=10)] * 3)
    mesh.streams.extend(
        [
            [collected(ended(handles[1])), *([cut] if cut else [])],
            [collected(ended(handles[0])), collected(ended(handles[2]))],
        ]
    )
    cuts: list[TallymeshError] = []
    assert list(client.as_completed(handles, on_cut=cuts.append)) == [handles[i] for i in (1, 0, 2)]
    assert len(cuts) == 1
    asked = [list(request.names) for request in mesh.asked("CollectJobs")]
    assert asked == [[handle.name for handle in handles], [handles[0].name, handles[2].name]]


def test_more_jobs_than_a_call_takes_are_asked_for_by_and_by(
    mesh: FakeMesh, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallymesh.many_jobs._COLLECTED_NAMES", 4)
    names = [f"jobs/j{index}" for index in range(7)]
    mesh.streams.extend(
        [
            [collected(ended("jobs/j3")), collected(ended("jobs/j1")), Silence()],
            [collected(*(ended(f"jobs/j{index}") for index in (5, 4))), Silence()],
            [collected(*(ended(f"jobs/j{index}") for index in (6, 2, 0)))],
        ]
    )
    found = [handle.name for handle in client.as_completed(names)]
    assert found == [f"jobs/j{index}" for index in (3, 1, 5, 4, 6, 2, 0)]
    asked = [[name.removeprefix("jobs/j") for name in r.names] for r in mesh.asked("CollectJobs")]
    assert ["".join(indices) for indices in asked] == ["0123", "0245", "026"]


def test_collecting_has_a_timeout_and_the_jobs_go_on(mesh: FakeMesh, client: Client) -> None:
    handles = client.submit_many([CountPrimes(stop=10)] * 4)
    mesh.streams.append([collected(ended(handles[0])), Silence()])
    found = client.as_completed(handles, timeout=0.3)
    assert next(found) is handles[0]
    with pytest.raises(WaitTimeout, match=r"and 2 more did not end within 0\.3 s") as caught:
        next(found)
    assert caught.value.job.name == handles[1].name


def test_a_collection_that_is_given_up_ends_its_call(mesh: FakeMesh, client: Client) -> None:
    mesh.streams.append([collected(ended("jobs/a")), Silence()])
    for handle in client.as_completed(["a", "b"]):
        assert handle.name == "jobs/a"
        break
    mesh.streams.append([domain.NotFound("jobs/b")])
    with pytest.raises(NotFound):
        list(client.as_completed(["b"]))
    assert list(client.as_completed([])) == []


def test_results_come_in_the_order_of_the_works(mesh: FakeMesh, client: Client) -> None:
    mesh.streams.append(
        [
            collected(ended("jobs/r-2", 2), ended("jobs/r-0", 0)),
            collected(failed(client.job("r-3"))),
            collected(
                Job(
                    name="jobs/r-1",
                    state=Job.STATE_SUCCEEDED,
                    result=Result(add=AddResult(sum="0.1")),
                )
            ),
        ]
    )
    results = client.map(lambda stop: CountPrimes(stop=stop), [10] * 4, request_id="r")
    assert mesh.asked("BatchCreateJobs"), "they are submitted at once"
    assert [next(results), next(results), next(results)] == [0, Decimal("0.1"), 2]
    with pytest.raises(JobFailed):
        next(results)
