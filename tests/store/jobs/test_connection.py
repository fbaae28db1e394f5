"""What the connection to the store promises to all who share it."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from tallymesh_core.domain.errors import StoreUnavailable
from tallymesh_core.domain.states import JobState
from tallymesh_core.store.connection import SCHEMA_VERSION, Store
from tallymesh_core.store.events import Interrupted, tail
from tallymesh_core.store.failures import StoreMismatch
from tallymesh_core.store.jobs import JobStore
from tallymesh_core.store.leases import LeaseStore
from tallymesh_core.store.scripts import Script
from tests.harness.stores import all_clients, client_of
from tests.harness.valkey import ValkeyServer
from tests.store.jobs.conftest import Scheduler


async def test_script_that_fails_spoils_no_other_when_none_is_known(scheduler: Scheduler) -> None:
    ref = await scheduler.submit()
    snapshot = Script.load("snapshot")
    for client in await all_clients(scheduler.store):
        await client.script_flush()
        await client.script_load(snapshot.source)
    broken = replace(snapshot, source="return redis.call('NONSENSE')", sha="0" * 40)
    failing = asyncio.create_task(scheduler.store.run(broken, 0))
    assert (await scheduler.job(ref)).spec.chunk_count == 4
    with pytest.raises(Exception, match=r"[Uu]nknown"):
        await failing


@pytest.mark.parametrize("version", [3, SCHEMA_VERSION + 1])
async def test_store_of_another_layout_is_refused_with_what_to_do(
    store_url: str, version: int
) -> None:
    store = await Store.open(store_url)
    async with store.at(0) as client:
        await client.hset("tm:meta", "schema", version)
    await store.close()
    with pytest.raises(StoreMismatch) as caught:
        await Store.open(store_url)
    told = str(caught.value)
    assert f"version {version}" in told
    assert f"needs {SCHEMA_VERSION}" in told
    assert "empty store in TALLYMESH_STORE_URL" in told
    assert "\n" not in told


@pytest.mark.parametrize(
    "url",
    ["redis://localhost:port/0", "redis://localhost:99999", "redis://localhost?nonsense=1"],
)
async def test_address_that_cannot_be_used_is_said_in_one_line(url: str) -> None:
    with pytest.raises(StoreMismatch, match="TALLYMESH_STORE_URL"):
        await Store.open(url)


@pytest.mark.parametrize(
    ("hurt", "heal"),
    [
        (
            ("CONFIG", "SET", "min-replicas-to-write", 1),
            ("CONFIG", "SET", "min-replicas-to-write", 0),
        ),
        (("REPLICAOF", "127.0.0.1", 1), ("REPLICAOF", "NO", "ONE")),
        (("CLIENT", "PAUSE", 60_000, "WRITE"), ("CLIENT", "UNPAUSE")),
    ],
    ids=["lost its replicas", "made a replica", "paused"],
)
async def test_server_that_takes_no_writes_is_away_until_it_does(
    new_valkey: Callable[..., ValkeyServer],
    monkeypatch: pytest.MonkeyPatch,
    hurt: tuple[str | int, ...],
    heal: tuple[str | int, ...],
) -> None:
    monkeypatch.setattr("tallymesh_core.store.server._TIMEOUT_SECONDS", 0.5)
    server = new_valkey()
    store = await Store.open(server.url)
    scheduler = Scheduler(store, JobStore(store), LeaseStore(store))
    ref = await scheduler.submit()
    server.execute(*hurt)
    with pytest.raises(StoreUnavailable):
        await scheduler.submit()
    server.execute(*heal)
    await scheduler.take("w1")
    assert (await scheduler.job(ref)).state is JobState.RUNNING
    await store.close()


async def test_who_reads_events_too_late_is_told_to_look(store_url: str) -> None:
    store = await Store.open(store_url)
    events = tail(store, 0)
    assert isinstance(await anext(events), Interrupted)
    pipe = (await client_of(store)).pipeline()
    for version in range(1500):
        pipe.xadd(f"{store.prefix(0)}events", {"news": f"default/x {version} leased "})
    await pipe.execute()
    first, told, rest = [await anext(events) for _ in range(3)]
    assert isinstance(told, Interrupted)
    assert isinstance(first, list)
    assert isinstance(rest, list)
    assert len(first) + len(rest) == 1500
    await events.aclose()
    await store.close()


@pytest.mark.parametrize("rounds", range(0, 60, 3))
async def test_a_cancel_that_meets_an_answer_is_not_lost(scheduler: Scheduler, rounds: int) -> None:
    lost = asyncio.Event()

    async def look_on() -> None:
        while not lost.is_set():
            await scheduler.jobs.counts()

    looking = asyncio.create_task(look_on())
    for _ in range(rounds):
        await asyncio.sleep(0)  # one round of the event loop, so that it is cancelled everywhere
    looking.cancel()
    await asyncio.wait([looking], timeout=5)
    lost.set()
    await asyncio.wait([looking], timeout=5)
    assert looking.cancelled()
