"""Which server is asked for what, and how that follows a store that is moved about."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing

import pytest
from redis.crc import key_slot

from tallymesh_core.domain.errors import StoreUnavailable
from tallymesh_core.domain.states import JobState
from tallymesh_core.store.connection import Store
from tallymesh_core.store.failures import StoreMismatch
from tallymesh_core.store.inspection import Inspection
from tallymesh_core.store.jobs import JobStore
from tallymesh_core.store.leases import LeaseStore
from tests.harness.polling import eventually
from tests.harness.ports import free_port
from tests.harness.stores import all_clients
from tests.harness.valkey import ValkeyServer
from tests.harness.valkey_cluster import SlotMove, ValkeyCluster
from tests.store.jobs.conftest import Scheduler


@pytest.fixture
async def scheduler(cluster_url: str) -> AsyncIterator[Scheduler]:
    """All on one shard, so on one node of a cluster."""

    store = await Store.open(cluster_url)
    yield Scheduler(store, JobStore(store), LeaseStore(store, transit_seconds=0))
    await store.close()


@pytest.fixture
def begin_move(valkey_cluster: ValkeyCluster) -> Iterator[Callable[[], SlotMove]]:
    """Begins to move the shard; once moved, it goes back after the test."""
    slot = key_slot(b"{tm0}:")
    home = valkey_cluster.node_of(slot)
    yield lambda: valkey_cluster.begin_move(slot)
    valkey_cluster.flush()
    valkey_cluster.await_agreement(slot)
    if valkey_cluster.node_of(slot) is not home:
        # As an import, so that the new owner tells all others at once and overrules the old one.
        valkey_cluster.begin_move(slot, home).finish()
        valkey_cluster.await_agreement(slot)


async def test_who_asks_at_the_old_place_is_sent_on_and_runs_once(
    scheduler: Scheduler, begin_move: Callable[[], SlotMove]
) -> None:
    ref = await scheduler.submit(chunk_count=2)
    one, two = await scheduler.take("w1", 1), await scheduler.take("w2", 1)
    begin_move().finish()
    # Nothing has told of the move: the answer of the old place has to.
    assert await scheduler.commit("w1", one[0], 20) == (1, 0)
    assert await scheduler.commit("w2", two[0], 22) == (1, 0)
    job = await scheduler.job(ref)
    assert (job.state, job.total, job.refused) == (JobState.SUCCEEDED, 42, 0)


async def test_read_at_the_old_place_is_refused_once(
    scheduler: Scheduler, begin_move: Callable[[], SlotMove]
) -> None:
    ref = await scheduler.submit()
    begin_move().finish()
    with pytest.raises(StoreUnavailable):
        await scheduler.jobs.works_of([ref])
    assert (await scheduler.jobs.works_of([ref]))[ref][1] == b"work"


async def test_shard_is_away_while_its_keys_are_in_two_places(
    scheduler: Scheduler, begin_move: Callable[[], SlotMove]
) -> None:
    ref = await scheduler.submit(chunk_count=1)
    [span] = await scheduler.take("w1")
    move = begin_move()
    # A script that ran at either place would miss half of what it looks for.
    for carried in ([], move.keys()[::2]):
        move.carry(*carried)
        for attempt in (scheduler.commit("w1", span), scheduler.take("w2"), scheduler.job(ref)):
            with pytest.raises(StoreUnavailable):
                await attempt
    move.finish()
    await eventually(lambda: _serves(scheduler))
    assert await scheduler.commit("w1", span) == (1, 0)
    assert (await scheduler.job(ref)).state is JobState.SUCCEEDED


async def test_look_finds_what_has_moved(
    scheduler: Scheduler, begin_move: Callable[[], SlotMove]
) -> None:
    ref = await scheduler.submit()
    begin_move().finish()
    await scheduler.store.look()
    assert (await scheduler.jobs.works_of([ref]))[ref][1] == b"work"


async def test_facts_are_of_all_servers_together(cluster_url: str) -> None:
    store = await Store.open(cluster_url, shards=6)
    facts = await Inspection(store).facts()
    clients = await all_clients(store)
    assert len(clients) == 3
    assert facts.key_count == sum([await client.dbsize() for client in clients]) == 1
    used = [(await client.info("memory"))["used_memory"] for client in clients]
    assert facts.memory_bytes > max(used)
    assert (facts.durability, facts.shard_count) == ("none", 6)
    assert await Inspection(store).round_trip() > 0
    await store.close()


async def test_another_kind_of_store_is_said_in_one_line(valkey_cluster: ValkeyCluster) -> None:
    with closing(ValkeyServer(port=free_port())) as server:
        server.start()
        for url, said in (
            (f"redis+cluster://127.0.0.1:{server.port}", "no cluster"),
            (f"redis+sentinel://127.0.0.1:{server.port}/tally", "no sentinel"),
            *(
                (f"redis://127.0.0.1:{node.port}", r"redis\+cluster://")
                for node in valkey_cluster.nodes
            ),
        ):
            with pytest.raises(StoreMismatch, match=f"TALLYMESH_STORE_URL: .*{said}"):
                await Store.open(url)


async def _serves(scheduler: Scheduler) -> bool:
    try:
        await scheduler.store.look()
        await scheduler.leases.workers()
    except StoreUnavailable:
        return False
    return True
