"""Client and AsyncClient, by the same tests on the shared mesh."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from tallymesh import (
    Abacus,
    Aborted,
    Add,
    AsyncClient,
    Client,
    CountPrimes,
    DeadLetters,
    DeadlineExceeded,
    EtagMismatch,
    InvalidField,
    JobCancelled,
    JobFailed,
    JobHandle,
    NotFound,
    NoWorker,
    Simulate,
    WaitTimeout,
)
from tests.harness.local_mesh import LocalMesh


class Awaited:
    """Something of the library for threads, used as if it were of the one for asyncio."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        if isinstance(getattr(type(self.inner), name, None), property) and name == "sum":
            return asyncio.to_thread(getattr, self.inner, name)
        value = getattr(self.inner, name)
        if isinstance(value, DeadLetters):
            return Awaited(value)
        if not callable(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            if name in ("job", "abacus"):
                return Awaited(value(*args, **kwargs))
            if name in STREAMS:
                return _iterate(value, args, kwargs)
            return _call(value, args, kwargs)

        return call


#: What yields.
STREAMS = {
    "as_completed", "abaci", "chunks", "computing", "entries", "events", "groups", "jobs", "list",
    "map", "watch",
}  # fmt: skip


def _wrapped(value: Any) -> Any:
    return Awaited(value) if isinstance(value, JobHandle | Abacus) else value


def _bare(value: Any) -> Any:
    if isinstance(value, list):
        return [_bare(one) for one in value]
    return value.inner if isinstance(value, Awaited) else value


async def _call(function: Any, args: Any, kwargs: Any) -> Any:
    value = await asyncio.to_thread(function, *map(_bare, args), **kwargs)
    return [_wrapped(one) for one in value] if isinstance(value, list) else _wrapped(value)


async def _iterate(function: Any, args: Any, kwargs: Any) -> AsyncIterator[Any]:
    items: Iterator[Any] = await asyncio.to_thread(function, *map(_bare, args), **kwargs)
    over = object()
    while (item := await asyncio.to_thread(next, items, over)) is not over:
        yield _wrapped(item)


@pytest.fixture(params=["Client", "AsyncClient"])
async def client(request: pytest.FixtureRequest, mesh: LocalMesh) -> AsyncIterator[Any]:
    if request.param == "AsyncClient":
        async with AsyncClient(mesh.address) as client:
            yield client
        return
    with Client(mesh.address) as blocking:
        yield Awaited(blocking)


def simulate(seconds: int) -> Simulate:
    work = Simulate()
    work.duration.FromSeconds(seconds)
    return work


async def test_results(client: Any) -> None:
    assert await client.count_primes(10**6, chunks=4) == 78_498
    assert await client.add("0.1", Decimal("0.2"), 2**70) == 2**70 + Decimal("0.3")
    assert await client.run(Simulate(), chunks=3) == 3
    assert (await client.whoami()).answered_by == "gateway-1"
    assert (await client.health()).worker_count == 2
    assert (await client.check_store()).store.connected


async def test_a_job_is_watched_from_submission_to_chunks(client: Any) -> None:
    job = await client.submit(CountPrimes(stop=10**6), chunks=8, labels={"of": "both"})
    states = [one.state async for one in job.watch()]
    assert states[-1] == job.job.STATE_SUCCEEDED
    assert await job.result() == 78_498
    assert [chunk.index async for chunk in job.chunks(page_size=3)] == list(range(8))
    again = client.job(job.name)
    assert (await again.refresh()).name == job.name
    assert await again.result() == 78_498
    listed = [one.name async for one in client.jobs(labels={"of": "both"}, states=["succeeded"])]
    assert job.name in listed


async def test_a_job_shows_how_far_it_is(
    client: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallymesh.display._FIRST_LINE_SECONDS", 0.0)
    job = await client.submit(CountPrimes(stop=10**6), chunks=8)
    assert [one async for one in job.watch(bar=True)][-1].state == job.job.STATE_SUCCEEDED
    assert f"{job.name}: " in capsys.readouterr().err
    assert (await job.progress()).chunks_done == 8
    assert "8 of 8 chunks" in _bare(job)._repr_html_()


async def test_several_addresses_of_an_edge(mesh: LocalMesh) -> None:
    addresses = [mesh.address, mesh.address]
    with Client(addresses) as blocking:
        assert await asyncio.to_thread(blocking.count_primes, 1000) == 168
    async with AsyncClient(addresses) as awaiting:
        assert await awaiting.count_primes(1000) == 168


async def test_a_request_id_makes_one_job(client: Any) -> None:
    request_id = str(uuid4())
    first = await client.submit(Add(numbers=["1"]), request_id=request_id)
    assert (await client.submit(Add(numbers=["1"]), request_id=request_id)).name == first.name


async def test_many_jobs(client: Any) -> None:
    def work(n: int) -> Add:
        return Add(numbers=[str(n), "0.5"])

    expected = [n + Decimal("0.5") for n in range(50)]
    assert [one async for one in client.map(work, range(50))] == expected
    handles = await client.submit_many([work(n) for n in range(50)])
    ended = {handle.name: await handle.result() async for handle in client.as_completed(handles)}
    assert [ended[handle.name] for handle in handles] == expected


async def test_a_job_is_cancelled(client: Any) -> None:
    job = await client.submit(simulate(60), chunks=2)
    with pytest.raises(WaitTimeout):
        await job.result(timeout=0.2)
    assert (await job.cancel()).cancellation.HasField("stop_time")
    with pytest.raises(JobCancelled):
        await job.result()


async def test_a_failed_job_is_replayed_and_forgotten(client: Any) -> None:
    job = await client.submit(Simulate(failure_rate=1), max_attempts=1)
    with pytest.raises(JobFailed):
        await job.result()
    (letter,) = [one async for one in client.dead_letters.list(job=job.name)]
    assert letter.job == job.name
    assert [group.name async for group in client.dead_letters.groups()]
    await job.replay()
    with pytest.raises(JobFailed):
        await job.result()
    assert (await client.dead_letters.delete(job=job.name)).deleted == 1


async def test_a_computation_without_a_job(client: Any) -> None:
    shares: list[float] = []
    assert await client.compute(CountPrimes(stop=10**6), on_progress=shares.append) == 78_498
    assert shares[0] == 0
    with pytest.raises(Aborted):
        await client.compute(Simulate(failure_rate=1))
    with pytest.raises(NoWorker):
        await client.compute(Simulate(), queue="nobodys")
    with pytest.raises(DeadlineExceeded):
        await client.compute(simulate(60), timeout=0.3)


async def test_an_abacus(client: Any) -> None:
    abacus = client.abacus(f"a{uuid4().hex}")
    assert await abacus.sum == 0
    assert await abacus.add(2**70) == 2**70
    assert await abacus.add_many(["0.1"] * 10) == 2**70 + 1
    read = await abacus.read()
    with pytest.raises(EtagMismatch):
        await abacus.add(1, expected_etag="1-1")
    assert await abacus.add(-1, expected_etag=read.etag) == 2**70
    watch = abacus.watch()
    assert (await anext(watch)).value == str(2**70)
    await abacus.add(1)
    assert (await anext(watch)).value == str(2**70 + 1)
    await watch.aclose()
    assert len([entry async for entry in abacus.entries(page_size=2)]) == 4
    assert await abacus.reset() == 2**70 + 1
    assert (await abacus.delete()).value == "0"
    assert abacus.name not in [one.name async for one in client.abaci()]


async def test_errors(client: Any) -> None:
    with pytest.raises(InvalidField) as caught:
        await client.submit(CountPrimes(start=5, stop=1))
    assert caught.value.field == "job.work.count_primes.stop"
    with pytest.raises(NotFound):
        await client.job("0" * 16).refresh()
    with pytest.raises(TypeError):
        await client.submit(Simulate(), no_such_option=1)


async def test_a_task_that_is_cancelled_leaves_its_job_alone(mesh: LocalMesh) -> None:
    async with AsyncClient(mesh.address) as client:
        job = await client.submit(simulate(1), chunks=1)
        watched = asyncio.Event()

        async def wait() -> None:
            async for _ in job.watch():
                watched.set()

        waiting = asyncio.create_task(wait())
        await asyncio.wait_for(watched.wait(), 10)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await job.result() == 1


async def test_hundreds_of_watches_share_a_loop(mesh: LocalMesh) -> None:
    async with AsyncClient(mesh.address) as client:
        jobs = await client.submit_many([Simulate() for _ in range(300)])
        assert await asyncio.gather(*(job.result() for job in jobs)) == [1] * 300
