"""What the promises rest on: a store that cannot keep them is refused, or told of."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path

import pytest

from tallymesh_core.config.store_conditions import Condition
from tallymesh_core.domain.decimals import Exact
from tallymesh_core.domain.errors import StoreFull, StoreUnavailable
from tallymesh_core.domain.states import JobState
from tallymesh_core.store.abaci import Abaci, Add, Added
from tallymesh_core.store.conditions import ServerFacts, problems_of
from tallymesh_core.store.connection import Store
from tallymesh_core.store.failures import StoreMismatch
from tallymesh_core.store.inspection import Inspection
from tallymesh_core.store.jobs import JobStore
from tallymesh_core.store.leases import LeaseStore
from tallymesh_core.store.once import Once
from tests.harness.polling import eventually
from tests.harness.sentinels import SentinelStore
from tests.harness.tools import require
from tests.harness.valkey import ValkeyServer, find_server
from tests.store.abacus.conftest import ORIGIN, VISITORS
from tests.store.jobs.conftest import Scheduler

StartServer = Callable[..., ValkeyServer]


@pytest.fixture(params=["valkey", "redis"])
def start_server(request: pytest.FixtureRequest) -> Iterator[StartServer]:
    """Starts servers, of each kind in turn: `start_server("--maxmemory", "1mb")`."""
    program: Path = find_server() if request.param == "valkey" else require("redis-server")
    with ExitStack() as stack:

        def start(*options: str) -> ValkeyServer:
            server = ValkeyServer(options=options, program=program)
            stack.enter_context(closing(server))
            server.start()
            return server

        yield start


@asynccontextmanager
async def opened(server: ValkeyServer, *tolerated: Condition) -> AsyncIterator[Store]:
    store = await Store.open(server.url, tolerated=tolerated)
    try:
        yield store
    finally:
        await store.close()


def scheduler_of(store: Store) -> Scheduler:
    return Scheduler(store, JobStore(store), LeaseStore(store, transit_seconds=0))


async def told_of(store: Store) -> str:
    return "; ".join((await store.look()).problems)


@pytest.mark.parametrize(
    ("options", "said", "condition"),
    [
        (
            ("--maxmemory", "20mb", "--maxmemory-policy", "allkeys-lru"),
            "set `maxmemory-policy noeviction`",
            Condition.EVICTION,
        ),
        (
            ("--maxmemory", "20mb", "--maxmemory-policy", "volatile-ttl"),
            "set `maxmemory-policy noeviction`",
            Condition.EVICTION,
        ),
        (("--replicaof", "127.0.0.1 1"), "is a replica", None),
    ],
)
async def test_a_store_that_cannot_keep_the_promises_is_refused_in_one_line(
    start_server: StartServer, options: tuple[str, ...], said: str, condition: Condition | None
) -> None:
    server = start_server(*options)
    with pytest.raises(StoreMismatch) as raised:
        await Store.open(server.url)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    if condition:
        assert f"TALLYMESH_STORE_TOLERATE={condition.value}" in str(raised.value)
        async with opened(server, condition) as store:
            assert await told_of(store) == ""


@pytest.mark.parametrize(
    ("info", "is_taken"),
    [
        ({"redis_version": "6.2.14"}, False),
        ({"redis_version": "7.0.0"}, True),
        ({"redis_version": "10.1.0"}, True),
        ({"redis_version": "255.255.255"}, True),
        ({"redis_version": "unstable"}, True),
        ({"redis_version": "6.2.14", "valkey_version": "9.1.2"}, True),
        ({}, True),
    ],
)
def test_servers_are_new_enough_or_named(info: dict[str, str], is_taken: bool) -> None:
    problems = list(problems_of(ServerFacts(info), durability="everysec", is_single=True))
    assert (problems == []) is is_taken
    if not is_taken:
        [problem] = problems
        assert "Valkey, or Redis 7.0 or newer" in problem.refusal
        assert problem.is_fatal


async def test_without_a_limit_of_memory_any_policy_will_do(start_server: StartServer) -> None:
    async with opened(start_server("--maxmemory-policy", "allkeys-lru")) as store:
        assert await told_of(store) == ""


@pytest.mark.parametrize(("key", "word"), [("tm:meta", "SET"), ("{tm0}:events", "SADD")])
async def test_keys_of_others_in_the_way_are_named(
    start_server: StartServer, key: str, word: str
) -> None:
    server = start_server()
    server.execute(word, key, "theirs")
    with pytest.raises(StoreMismatch, match=f"{key} is not Tallymesh's"):
        await Store.open(server.url)


async def test_keys_of_ones_own_are_in_nobodys_way(start_server: StartServer) -> None:
    server = start_server()
    server.execute("SET", "theirs", "1")
    async with opened(server) as store:
        scheduler = scheduler_of(store)
        await scheduler.leases.reap()
        await scheduler.submit(chunk_count=1, timeout_ms=60_000, abacus="visitors")
        await scheduler.submit(chunk_count=1)
        abaci = Abaci(store)
        await abaci.add(0, [Add(VISITORS, Exact(1), ORIGIN)])
        await abaci.delete(VISITORS)
        for _ in range(2):
            [span] = await scheduler.take("w1", 1)
            await scheduler.commit("w1", span)
        failing = await scheduler.submit(chunk_count=1)
        [span] = await scheduler.take("w1", 1)
        await scheduler.fail("w1", span)
        assert (await scheduler.job(failing)).state is JobState.RUNNING
    async with opened(server) as store:
        assert await told_of(store) == ""


async def test_what_changes_later_is_told_and_what_is_mended_is_not(
    start_server: StartServer,
) -> None:
    server = start_server()
    async with opened(server) as store:
        server.execute("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        server.execute("CONFIG", "SET", "maxmemory", "100mb")
        assert "may evict" in await told_of(store)
        server.execute("CONFIG", "SET", "maxmemory", 0)
        assert await told_of(store) == ""


async def test_evicted_keys_are_counted_and_told(start_server: StartServer) -> None:
    server = start_server()
    async with opened(server) as store:
        for number in range(50):
            server.execute("SET", f"key{number}", "x")
        server.execute("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
        server.execute("CONFIG", "SET", "maxmemory", 1)
        await eventually(lambda: "evicted_keys:0" not in str(server.execute("INFO", "stats")))
        server.execute("CONFIG", "SET", "maxmemory", 0)
        server.execute("CONFIG", "SET", "maxmemory-policy", "noeviction")
        assert "has evicted" in await told_of(store)
        assert (await Inspection(store).facts()).evicted_key_count >= 50
        server.execute("CONFIG", "RESETSTAT")
        assert "evicted" not in await told_of(store)


async def test_durability_that_is_lowered_later_is_told(start_server: StartServer) -> None:
    server = start_server("--appendonly", "yes", "--appendfsync", "always")
    store = await Store.open(server.url, durability="fsync")
    server.execute("CONFIG", "SET", "appendfsync", "everysec")
    assert "needs a store with `appendonly yes`" in await told_of(store)
    await store.close()
    with pytest.raises(StoreMismatch, match="appendfsync everysec"):
        await Store.open(server.url, durability="fsync")


async def test_a_full_store_takes_nothing_new_and_ends_what_it_has(
    start_server: StartServer,
) -> None:
    server = start_server()
    async with opened(server) as store:
        scheduler, abaci = scheduler_of(store), Abaci(store)
        add = Add(VISITORS, Exact(7), ORIGIN, Once("id-1"))
        [done] = await abaci.add(0, [add])
        running = await scheduler.submit(chunk_count=2, additive=False)
        failing = await scheduler.submit(queue="f", chunk_count=1, max_attempts=1)
        doomed = await scheduler.submit(queue="d")
        [span] = await scheduler.take("w1", 2)

        server.execute("CONFIG", "SET", "maxmemory", 1)
        with pytest.raises(StoreFull, match="OOM command not allowed"):
            await scheduler.submit()
        with pytest.raises(StoreFull, match="OOM command not allowed"):
            await abaci.add(0, [Add(VISITORS, Exact(1), ORIGIN)])
        with pytest.raises(StoreFull):
            await Inspection(store).round_trip()
        assert "the store is full" in await told_of(store)
        # A repeat is answered, and everything that was accepted goes on.
        [again] = await abaci.add(0, [add])
        assert isinstance(again, Added)
        assert isinstance(done, Added)
        assert again.repeated
        assert again.sum == done.sum == await abaci.get(VISITORS)
        assert (await scheduler.job(running)).running == 2
        await scheduler.beat("w2")
        assert await scheduler.commit("w1", span, sums=None, partials=(b"1", b"2")) == (2, 0)
        [last] = await scheduler.lease("w2", 1)
        assert await scheduler.commit("w2", last, sums=None, result=b"3") == (1, 0)
        assert (await scheduler.job(running)).state is JobState.SUCCEEDED
        [bad] = await scheduler.lease("w2", 1, lane="f/simulate")
        assert await scheduler.fail("w2", bad) == 1
        assert (await scheduler.job(failing)).state is JobState.FAILED
        await scheduler.cancel(doomed)
        assert (await scheduler.job(doomed)).state is JobState.CANCELLED
        await abaci.delete(VISITORS)

        server.execute("CONFIG", "SET", "maxmemory", 0)
        await scheduler.submit()
        assert await told_of(store) == ""


async def test_all_that_was_accepted_before_a_store_was_full_ends_with_its_sum(
    start_server: StartServer,
) -> None:
    server = start_server()
    async with opened(server) as store:
        scheduler = scheduler_of(store)
        used = (await Inspection(store).facts()).memory_bytes
        server.execute("CONFIG", "SET", "maxmemory", used + 1024 * 1024)
        refs: list[str] = []

        async def fill() -> None:
            while True:
                refs.append(await scheduler.submit(chunk_count=3, work=b"w" * 10_000, ttl_ms=1))

        with pytest.raises(StoreFull):
            await fill()
        assert len(refs) > 50
        while spans := await scheduler.take("w1", 30):
            for span in spans:
                assert await scheduler.commit("w1", span) == (span.count, 0)
        jobs = [await scheduler.job(ref) for ref in refs]
        assert {(job.state, job.total) for job in jobs} == {(JobState.SUCCEEDED, 3)}
        assert "the store is full" in await told_of(store)
        with pytest.raises(StoreFull):
            await scheduler.submit()

        async def there_is_room() -> bool:
            await scheduler.jobs.expire()
            return await told_of(store) == ""

        await eventually(there_is_room, message="expired jobs making room")
        await scheduler.submit()


async def test_a_store_that_was_emptied_is_laid_out_anew_and_told_of(
    start_server: StartServer,
) -> None:
    server = start_server()
    first = await Store.open(server.url, shards=3)
    # Another process, whose own setting must not decide how many shards there are now.
    second = await Store.open(server.url, shards=1)
    server.execute("FLUSHALL")
    for store in (first, second):
        assert "has lost everything" in await told_of(store)
        assert store.shards == 3
    assert server.execute("HGET", "tm:meta", "shards") == "3"
    async with opened(server) as third:
        assert third.shards == 3
        assert await told_of(third) == ""
    await scheduler_of(first).submit()
    await first.close()
    await second.close()


@pytest.mark.parametrize("login", ["", ":wrong@", "nobody:secret@"])
async def test_a_login_that_is_refused_is_a_mistake_and_no_outage(
    start_server: StartServer, login: str
) -> None:
    server = start_server()
    server.execute("CONFIG", "SET", "requirepass", "secret")
    with pytest.raises(StoreMismatch, match="TALLYMESH_STORE_URL: the store refuses the login"):
        await Store.open(server.url.replace("unix://", f"unix://{login}"))


async def test_a_password_that_nobody_asked_for_is_a_mistake(start_server: StartServer) -> None:
    server = start_server()
    with pytest.raises(StoreMismatch, match="TALLYMESH_STORE_URL: the store refuses the login"):
        await Store.open(server.url.replace("unix://", "unix://:secret@"))


async def test_a_login_that_sentinels_refuse_is_a_mistake() -> None:
    with closing(SentinelStore()) as servers:
        await asyncio.to_thread(servers.start)
        without = servers.url.partition("?")[0]
        for url in (without, f"{without}?sentinel_password=wrong"):
            with pytest.raises(StoreMismatch, match="the sentinels refuse the login"):
                await Store.open(url)


async def test_a_password_that_is_changed_later_is_an_outage(start_server: StartServer) -> None:
    server = start_server()
    server.execute("ACL", "SETUSER", "mesh", "on", ">secret", "~*", "&*", "+@all")
    store = await Store.open(server.url.replace("unix://", "unix://mesh:secret@"))
    server.execute("ACL", "SETUSER", "mesh", "resetpass", ">other")
    server.execute("CLIENT", "KILL", "USER", "mesh")
    states = store.watch()

    async def trouble() -> str:
        found = (await anext(states)).trouble
        return found.message if found else ""

    async def is_refused() -> bool:
        return "the store refuses the login" in await trouble()

    async def is_well() -> bool:
        return not await trouble()

    await eventually(is_refused)
    server.execute("ACL", "SETUSER", "mesh", ">secret")
    await eventually(is_well)
    await store.close()


async def test_a_user_without_the_rights_is_a_mistake(start_server: StartServer) -> None:
    server = start_server()
    server.execute(*("ACL", "SETUSER", "mesh", "on", ">secret", "~*", "&*"), "+@all", "-evalsha")
    with pytest.raises(StoreMismatch, match="TALLYMESH_STORE_URL: the store does not serve"):
        await Store.open(server.url.replace("unix://", "unix://mesh:secret@"))


async def test_a_managed_store_that_hides_its_settings_is_taken_with_a_warning(
    start_server: StartServer,
) -> None:
    server = start_server()
    server.execute(
        *("ACL", "SETUSER", "mesh", "on", ">secret", "~*", "&*"), "+@all", "-info", "-config"
    )
    url = server.url.replace("unix://", "unix://mesh:secret@")
    store = await Store.open(url, durability="fsync")
    assert store.state.unseen == (
        "INFO is forbidden: whether the store evicts keys or is full cannot be seen",
        "CONFIG is forbidden: whether the store has `appendfsync always` cannot be seen",
    )
    await scheduler_of(store).submit()
    facts = await Inspection(store).facts()
    assert (facts.durability, facts.problems) == ("unknown", ())
    assert facts.key_count > 0
    await store.close()


async def test_nothing_is_asked_of_a_store_that_is_not_known_yet() -> None:
    store = Store("unix:///nowhere.sock", shards=4)
    scheduler = scheduler_of(store)
    for call in (scheduler.submit(), scheduler.take("w1"), Inspection(store).facts()):
        with pytest.raises(StoreUnavailable, match="has not answered yet"):
            await asyncio.wait_for(call, 5)
    await store.close()
