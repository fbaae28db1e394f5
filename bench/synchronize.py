"""What the hop costs by which workers need no store: Synchronize against Valkey itself."""

import asyncio
import itertools
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import grpc.aio
from redis.asyncio import Redis

from bench.figures import Figure, of_seconds, ratio
from bench.mesh import BenchMesh
from bench.sampling import interleaved, of_awaits
from tallymesh.v1.dispatch_service_pb2 import SynchronizeRequest, Worker
from tallymesh.v1.dispatch_service_pb2_grpc import DispatchServiceStub
from tallymesh_core.store.connection import Store
from tallymesh_core.store.leases import LeaseStore
from tallymesh_core.store.scripts import Script

if TYPE_CHECKING:
    from tallymesh.v1.dispatch_service_pb2_grpc import DispatchServiceAsyncStub

# Of a queue that nobody uses: it is never given anything.
_WORKER = Worker(
    name="bench", uid="bench-synchronize", slots=1, kernels=["simulate"], queues=["bench-unserved"]
)
_SCRIPT = "return 1"


def measure(mesh: BenchMesh, quick: bool) -> Sequence[Figure]:
    with asyncio.Runner() as runner, ExitStack() as stack:
        channel = runner.run(_open_channel(mesh.gateway))
        stack.callback(lambda: runner.run(channel.close()))
        dispatch = DispatchServiceStub(channel)
        client: Redis = Redis.from_url(mesh.store_url)
        stack.callback(lambda: runner.run(client.aclose()))
        store = runner.run(Store.open(mesh.store_url))
        stack.callback(lambda: runner.run(store.close()))
        leases = LeaseStore(store)
        script = client.register_script(_SCRIPT)
        same = Script("empty", _SCRIPT, script.sha)
        ids = itertools.count()

        async def synchronize() -> None:
            await dispatch.Synchronize(
                SynchronizeRequest(call_id=str(next(ids)), worker=_WORKER), timeout=10.0
            )

        async def beat() -> None:
            await leases.beat(
                _WORKER.uid,
                name=_WORKER.name,
                info=_WORKER.SerializeToString(),
                slots=1,
                draining=False,
                held=(),
                open_calls=(str(next(ids)),),
            )

        hop = of_awaits(runner, synchronize)
        taken = interleaved(
            {
                "hop": hop,
                "beat": of_awaits(runner, beat),
                "script": of_awaits(runner, script),
                "own": of_awaits(runner, lambda: store.run(same, 0)),
            },
            rounds=5 if quick else 25,
            batch=40,
        )
        calls = 500 if quick else 4_000
        before = mesh.cpu_seconds()["gateway-1"]
        hop(calls)
        used = mesh.cpu_seconds()["gateway-1"] - before
        runner.run(_leave(dispatch))
    return [
        ratio("Synchronize / EVALSHA", taken["hop"], taken["script"]),
        ratio("Synchronize / the same heartbeat by EVALSHA", taken["hop"], taken["beat"]),
        ratio("EVALSHA by the services' connection / by redis-py", taken["own"], taken["script"]),
        of_seconds("Synchronize with nothing to say, direct", taken["hop"]),
        of_seconds("heartbeat script by EVALSHA", taken["beat"]),
        of_seconds("empty script by EVALSHA (redis-py)", taken["script"]),
        Figure(
            name="gateway's processor time a call",
            value=1e6 * used / calls,
            unit="µs",
            samples=calls,
        ),
    ]


async def _open_channel(address: str) -> grpc.aio.Channel:
    # An aio channel belongs to the loop in which it is opened.
    return grpc.aio.insecure_channel(address)


async def _leave(dispatch: "DispatchServiceAsyncStub") -> None:
    farewell = SynchronizeRequest(call_id="farewell", worker=_WORKER, draining=True)
    await dispatch.Synchronize(farewell, timeout=10.0)
