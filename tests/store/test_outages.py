"""Stores that go away and come back, or speak TLS: work goes on, and nobody is given up."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest
from redis.crc import key_slot

from tallymesh_core.domain.errors import StoreUnavailable
from tallymesh_core.domain.states import JobState
from tallymesh_core.store.connection import Store
from tallymesh_core.store.jobs import JobStore
from tallymesh_core.store.leases import LeaseStore
from tests.harness.certificates import Certificates, make_certificates
from tests.harness.polling import eventually
from tests.harness.ports import free_port
from tests.harness.sentinels import SentinelStore
from tests.harness.tools import missing, require
from tests.harness.valkey import ValkeyServer
from tests.harness.valkey_cluster import ValkeyCluster
from tests.store.jobs.conftest import Scheduler

ALIVE_SECONDS = 0.5


@asynccontextmanager
async def opened(url: str, shards: int = 1) -> AsyncIterator[Scheduler]:
    store = await Store.open(url, shards=shards)
    leases = LeaseStore(store, alive_seconds=ALIVE_SECONDS, transit_seconds=0)
    try:
        yield Scheduler(store, JobStore(store), leases)
    finally:
        await store.close()


async def serves(store: Store) -> bool:
    try:
        async with asyncio.timeout(0.5):
            await store.look()
    except (StoreUnavailable, TimeoutError):
        return False
    return True


@pytest.fixture
def kept_cluster() -> Iterator[ValkeyCluster]:
    """A cluster whose nodes keep their data through a restart."""
    with closing(ValkeyCluster(timeout=2.0, options=("--appendonly", "yes"))) as cluster:
        cluster.start()
        yield cluster


async def test_outage_of_one_server_of_several_reaps_nobody(
    kept_cluster: ValkeyCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallymesh_core.store.leases.OUTAGE_SECONDS", 0.2)
    # Some shards are before the one that is away, when all are gone through in turn, some after.
    away = kept_cluster.node_of(key_slot(b"{tm1}:"))
    async with opened(kept_cluster.url, shards=6) as scheduler:
        refs = [await scheduler.submit(queue=f"q{number}", chunk_count=1) for number in range(12)]
        assert {ref[-2:] for ref in refs} > {"00", "01"}
        lanes = [f"q{number}/simulate" for number in range(12)]
        await scheduler.beat("w1")
        held = await scheduler.leases.lease("w1", "call", 100, lanes)
        assert len(held) == 12

        away.kill()
        loop = asyncio.get_running_loop()
        back = loop.time() + 3 * ALIVE_SECONDS
        while loop.time() < back:
            for attempt in (scheduler.beat("w1", held), scheduler.leases.reap()):
                with pytest.raises(StoreUnavailable):
                    await attempt
            await asyncio.sleep(0.05)
        away.restart()
        await eventually(lambda: serves(scheduler.store))

        assert await scheduler.leases.reap() == []
        assert await scheduler.beat("w1", held) == []
        assert await scheduler.leases.reap() == []
        for span in held:
            assert await scheduler.commit("w1", span) == (1, 0)
        jobs = [await scheduler.job(ref) for ref in refs]
        assert {(job.state, job.lost) for job in jobs} == {(JobState.SUCCEEDED, 0)}


async def test_who_waits_at_a_server_that_was_replaced_waits_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Its connection is not to be given up for its silence.
    monkeypatch.setattr("tallymesh_core.store.server._TIMEOUT_SECONDS", 60.0)
    with closing(SentinelStore()) as servers:
        servers.start()
        async with opened(servers.url) as scheduler:
            ref = await scheduler.submit(chunk_count=1)
            await eventually(lambda: servers.replicated)
            frozen = servers.primary
            frozen.pause()
            waiting = asyncio.create_task(scheduler.take("w1"))
            await eventually(lambda: serves(scheduler.store))
            with pytest.raises(StoreUnavailable):
                await asyncio.wait_for(waiting, 20)
            [span] = await scheduler.take("w1")
            assert await scheduler.commit("w1", span) == (1, 0)
            assert (await scheduler.job(ref)).state is JobState.SUCCEEDED
            frozen.resume()


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path)


@pytest.fixture
def tls_server(certificates: Certificates) -> Iterator[ValkeyServer]:
    """A server that listens with TLS only, besides its socket. Debian's Redis speaks it."""
    port = free_port()
    options = (
        *("--tls-port", str(port), "--tls-auth-clients", "no"),
        *("--tls-cert-file", str(certificates.certificate)),
        *("--tls-key-file", str(certificates.key)),
    )
    with closing(ValkeyServer(options=options, program=require("redis-server"))) as server:
        try:
            server.start()
        except RuntimeError:
            missing("a redis-server that speaks TLS")
        server.execute("CONFIG", "SET", "requirepass", "secret")
        server.port = port
        yield server


async def test_over_tls_with_an_authority_of_ones_own(
    tls_server: ValkeyServer, certificates: Certificates
) -> None:
    url = f"rediss://:secret@localhost:{tls_server.port}/1"
    async with opened(f"{url}?ssl_ca_certs={certificates.authority}") as scheduler:
        ref = await scheduler.submit(chunk_count=1)
        [span] = await scheduler.take("w1")
        assert await scheduler.commit("w1", replace(span)) == (1, 0)
        assert (await scheduler.job(ref)).state is JobState.SUCCEEDED
    # Without it the server is not believed.
    with pytest.raises(StoreUnavailable) as raised:
        await Store.open(url)
    assert "certificate" in str(raised.value.__cause__)
    assert "secret" not in str(raised.value.__cause__)


async def test_what_is_asked_for_together_runs_in_order_where_some_scripts_are_known(
    store_url: str, valkey_server: ValkeyServer
) -> None:
    async with opened(store_url) as before:
        await before.submit(chunk_count=2, additive=False)
        [span] = await before.take("w1")
    valkey_server.execute("SCRIPT", "FLUSH")
    async with opened(store_url) as after:
        assert await after.lease("w1", call="early") == []
        done, last = await asyncio.gather(
            after.commit("w1", span, sums=None, micros=(), partials=(b"one", b"two")),
            after.lease("w1", call="another"),
        )
    # The last step can be leased once the results are counted.
    assert done == (2, 0)
    assert [(one.first, one.count) for one in last] == [(2, 1)]
