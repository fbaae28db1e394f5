"""What a page costs does not depend on how much there is beside it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import pytest

from tallymesh_core.domain.jobs import DeadLetterFilter
from tallymesh_core.store.connection import Store
from tallymesh_core.store.jobs import JobStore
from tallymesh_core.store.leases import LeaseStore
from tests.harness.stores import client_of
from tests.store.jobs.conftest import Scheduler


class Cost(NamedTuple):
    """What a read costs: commands, sends that are followed by a wait, and bytes of the answers."""

    commands: int
    sends: int
    bytes: int


@pytest.fixture
async def scheduler(store_url: str) -> AsyncIterator[Scheduler]:
    """A scheduler on one shard of one server, whose commands can be counted."""
    store = await Store.open(store_url)
    yield Scheduler(store, JobStore(store), LeaseStore(store, transit_seconds=0))
    await store.close()


async def cost(
    store: Store, read: Callable[[], Awaitable[Any]], monkeypatch: pytest.MonkeyPatch
) -> Cost:
    client = await client_of(store)
    sends = 0

    async def count() -> tuple[int, int]:
        stats = await client.info("commandstats")
        output = (await client.info("stats"))["total_net_output_bytes"]
        return sum(one["calls"] for one in stats.values()), output

    await count()
    unmeasured = await count()
    measured = await count()
    own = [after - before for before, after in zip(unmeasured, measured, strict=True)]
    with monkeypatch.context() as patch:
        kind = client.connection_pool.connection_class
        send_packed = kind.send_packed_command

        async def send(connection: Any, *arguments: Any, **options: Any) -> Any:
            nonlocal sends
            sends += 1
            return await send_packed(connection, *arguments, **options)

        patch.setattr(kind, "send_packed_command", send)
        await read()
    commands, output = await count()
    return Cost(commands - measured[0] - own[0], sends, output - measured[1] - own[1])


async def test_workers_cost_as_many_round_trips_however_many_they_are(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = []
    for count in (10, 300):
        for i in range(count):
            await scheduler.beat(f"w{i}")
        costs.append(await cost(scheduler.store, scheduler.leases.workers, monkeypatch))
        assert len(await scheduler.leases.workers()) == count
    assert costs[0].sends == costs[1].sends <= 3


async def test_a_page_of_letters_costs_the_same_among_many(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read() -> None:
        page, _ = await scheduler.letters.page("default", DeadLetterFilter(), before="", limit=5)
        assert len(page) == 5

    costs = []
    for more in (10, 390):
        for _ in range(more):
            await scheduler.submit(chunk_count=1, max_attempts=1)
        while spans := await scheduler.take("w1", 1000):
            for span in spans:
                await scheduler.fail("w1", span)
        costs.append(await cost(scheduler.store, read, monkeypatch))
    assert costs[0].commands == costs[1].commands
    assert costs[0].sends == costs[1].sends <= 5


async def test_a_page_of_chunks_costs_the_same_in_a_larger_job(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = []
    for count in (20, 2_000):
        ref = await scheduler.submit(chunk_count=count)
        leased = 0
        while leased < count:
            leased += sum(span.count for span in await scheduler.take("w1", 1000))
        tenant, job_id = ref.split("/")

        async def read(tenant: str = tenant, job_id: str = job_id, count: int = count) -> None:
            chunks, total = await scheduler.jobs.chunks(tenant, job_id, 5, 10)
            assert [chunk.index for chunk in chunks] == [*range(5, 15)]
            assert {chunk.worker for chunk in chunks} == {"name-w1"}
            assert total == count

        costs.append(await cost(scheduler.store, read, monkeypatch))
        await scheduler.cancel(ref)
    assert costs[0][:2] == costs[1][:2]
    # Numbers in it may be some digits longer.
    assert abs(costs[1].bytes - costs[0].bytes) < 200
