"""With `appendfsync always`, what was acknowledged survives kill -9 of the store, counted once."""

import asyncio
import functools
from collections.abc import Callable

import grpc

from tallymesh.v1 import abacus_service_pb2 as pb
from tests.harness.polling import eventually
from tests.harness.valkey import ValkeyServer
from tests.integration.abacus.conftest import Node, StartNode
from tests.integration.abacus.test_service import VISITORS
from tests.integration.abacus.test_watch import read_until, watch_sum

CLIENTS = 16
KILLS = 3


async def acknowledges(node: Node, request: pb.AddNumberRequest) -> bool:
    try:
        await node.stub.AddNumber(request)
    except grpc.aio.AioRpcError as error:
        if error.code() != grpc.StatusCode.UNAVAILABLE:
            raise
        return False
    return True


async def test_adds_survive_kills_of_the_store_and_count_once(
    start_node: StartNode, new_valkey: Callable[..., ValkeyServer]
) -> None:
    server = new_valkey(fsync=True)
    node = await start_node(server.url)
    call = watch_sum(node)
    done = asyncio.Event()
    acknowledged = dict.fromkeys(range(CLIENTS), 0)

    async def post(client: int) -> None:
        while not done.is_set():
            turn = acknowledged[client]
            request = pb.AddNumberRequest(
                name=VISITORS, decimal=f"{client + 1}.001", request_id=f"{client}-{turn}"
            )
            await eventually(functools.partial(acknowledges, node, request))
            acknowledged[client] += 1

    clients = [asyncio.create_task(post(client)) for client in range(CLIENTS)]
    for _ in range(KILLS):
        goal = sum(acknowledged.values()) + 200
        await eventually(lambda goal=goal: sum(acknowledged.values()) >= goal)  # type: ignore[misc]
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.restart)
    goal = sum(acknowledged.values()) + 200
    await eventually(lambda: sum(acknowledged.values()) >= goal, timeout=5)
    done.set()
    await asyncio.gather(*clients)

    count = sum(acknowledged.values())
    whole = sum((client + 1) * adds for client, adds in acknowledged.items())
    expected = f"{whole + count // 1000}.{count % 1000:03}".rstrip("0").rstrip(".")
    final = await node.stub.GetSum(pb.GetSumRequest(name=VISITORS))
    assert (final.value, final.add_count) == (expected, count)
    await read_until(call, expected)
