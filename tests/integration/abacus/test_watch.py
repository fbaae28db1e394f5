"""Watching a sum: current first, the first change at once, the final value always."""

import asyncio
import time
from collections.abc import Callable

import grpc
import pytest

from tallymesh.v1 import abacus_service_pb2 as pb
from tallymesh_abacus import watch
from tallymesh_core.store.abaci import Abaci
from tallymesh_core.store.connection import Store
from tests.harness.polling import eventually
from tests.harness.stores import client_of
from tests.harness.valkey import ValkeyServer
from tests.integration.abacus.conftest import Node, StartNode
from tests.integration.abacus.test_service import VISITORS, error_info

Watch = grpc.aio.UnaryStreamCall[pb.WatchSumRequest, pb.Sum]


def watch_sum(node: Node, name: str = VISITORS) -> Watch:
    call: Watch = node.stub.WatchSum(pb.WatchSumRequest(name=name))
    return call


async def read(call: Watch) -> pb.Sum:
    async with asyncio.timeout(10):
        told = await call.read()
    assert isinstance(told, pb.Sum)
    return told


async def read_until(call: Watch, value: str) -> list[pb.Sum]:
    told = [await read(call)]
    while told[-1].value != value:
        told.append(await read(call))
    return told


async def add(node: Node, number: int = 1, name: str = VISITORS) -> None:
    await node.stub.AddNumber(pb.AddNumberRequest(name=name, number=number))


async def test_current_first_then_the_change_at_once(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is told sooner is told for the change.
    monkeypatch.setattr(watch, "_KEEPALIVE_SECONDS", 60)
    await add(node, 5)
    call = watch_sum(node)
    assert (await read(call)).value == "5"
    await add(node, 2)
    told = await asyncio.wait_for(read(call), 20)
    assert (told.value, told.version, told.answered_by) == ("7", 2, "abacus-1")


async def test_one_never_used_can_be_watched(node: Node) -> None:
    call = watch_sum(node)
    assert (await read(call)).version == 0
    await add(node)
    assert (await read(call)).value == "1"
    await node.stub.ResetSum(pb.ResetSumRequest(name=VISITORS))
    assert (await read(call)).value == "0"


async def test_many_changes_are_told_together_up_to_the_last(node: Node) -> None:
    call = watch_sum(node)
    await read(call)
    started = time.perf_counter()
    await asyncio.gather(*[add(node) for _ in range(500)])
    told = await read_until(call, "500")
    assert len(told) <= 3 + 20 * (time.perf_counter() - started)
    versions = [one.version for one in told]
    assert versions == sorted(versions)


async def test_each_watcher_hears_of_its_own_abacus_from_any_node(
    start_node: StartNode, store_url: str
) -> None:
    one = await start_node(store_url, "abacus-1")
    two = await start_node(store_url, "abacus-2")
    names = [f"abaci/a{index}" for index in range(5)]
    calls = [watch_sum(one, name) for name in names for _ in range(10)]
    for call in calls:
        assert (await read(call)).value == "0"
    for number, name in enumerate(names, start=1):
        await add(two, number, name)
    for index, call in enumerate(calls):
        told = await read(call)
        assert (told.name, told.value) == (names[index // 10], str(1 + index // 10))


async def test_one_reader_serves_all_watchers_and_leaves_with_the_last(
    node: Node, valkey_server: ValkeyServer
) -> None:
    def readers() -> int:
        clients = str(valkey_server.execute("CLIENT", "LIST"))
        return clients.count("cmd=xread ")

    calls = [watch_sum(node, f"abaci/a{index % 3}") for index in range(30)]
    for call in calls:
        await read(call)
    await eventually(lambda: readers() == 1)
    for call in calls:
        call.cancel()
    await eventually(lambda: readers() == 0)


async def test_a_store_of_several_shards_has_a_reader_for_each_that_is_watched(
    start_node: StartNode, store_url: str, valkey_server: ValkeyServer
) -> None:
    store = await Store.open(store_url, shards=4)
    names = [f"a{index}" for index in range(40)]
    few = [name for name in names if store.shard_of("default", name) < 2]
    watched = {store.shard_of("default", name) for name in few}
    await store.close()
    node = await start_node(store_url)
    calls = [watch_sum(node, f"abaci/{name}") for name in few]
    for call in calls:
        await read(call)

    def readers() -> int:
        return str(valkey_server.execute("CLIENT", "LIST")).count("cmd=xread ")

    await eventually(lambda: readers() == len(watched) == 2)


async def test_an_unchanged_sum_is_told_again(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_KEEPALIVE_SECONDS", 0.1)
    call = watch_sum(node)
    assert [(await read(call)).version for _ in range(4)] == [0, 0, 0, 0]


async def test_a_lost_event_costs_a_keepalive_and_no_more(
    node: Node, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_KEEPALIVE_SECONDS", 0.2)
    call = watch_sum(node)
    await read(call)
    store = await Store.open(store_url)
    shard = store.shard_of("default", "visitors")
    client = await client_of(store, shard)
    await client.hset(f"{store.prefix(shard)}abacus:default/visitors", "0", "7")
    await read_until(call, "7")
    await store.close()


async def test_too_many_events_to_tell_stir_every_watcher(
    node: Node, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_KEEPALIVE_SECONDS", 60)
    call = watch_sum(node)
    await read(call)
    store = await Store.open(store_url)
    shard = store.shard_of("default", "visitors")
    prefix, client = store.prefix(shard), await client_of(store, shard)
    async with client.pipeline(transaction=True) as pipe:
        pipe.hset(f"{prefix}abacus:default/visitors", "0", "7")
        for _ in range(1000):
            pipe.xadd(f"{prefix}abacus-events", {"abacus": "default/other"})
        await pipe.execute()
    await read_until(call, "7")
    await store.close()


async def test_a_stop_sends_watchers_elsewhere(start_node: StartNode, store_url: str) -> None:
    node = await start_node(store_url, drain_grace=60)
    call = watch_sum(node)
    await read(call)
    node.stop.set()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read(call)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert error_info(caught.value).reason == "SHUTTING_DOWN"
    async with asyncio.timeout(30):
        await node.running


async def test_a_watch_outlives_an_outage(
    start_node: StartNode, new_valkey: Callable[..., ValkeyServer]
) -> None:
    server = new_valkey(fsync=True)
    node = await start_node(server.url)
    await add(node, 5)
    call = watch_sum(node)
    await read(call)
    server.kill()
    server.restart()
    await eventually(node.serving, timeout=3)
    await add(node, 2)
    assert (await read_until(call, "7"))[-1].version == 2


async def test_a_long_outage_ends_the_watch(
    start_node: StartNode,
    new_valkey: Callable[..., ValkeyServer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "_KEEPALIVE_SECONDS", 0.1)
    monkeypatch.setattr(watch, "_SILENCE_SECONDS", 0.3)
    server = new_valkey()
    node = await start_node(server.url)
    call = watch_sum(node)
    await read(call)
    server.kill()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read_until(call, "never")
    assert error_info(caught.value).reason == "STORE_UNAVAILABLE"


async def test_a_fault_ends_the_watch_and_does_not_leave_it_hanging(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = watch_sum(node)
    await read(call)

    async def fail(*_: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(Abaci, "get", fail)
    await add(node)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read(call)
    assert caught.value.code() == grpc.StatusCode.INTERNAL
    assert "a fault" not in str(caught.value.details())
