"""How fast sums on an abacus grow: one add at a time, many at once, and streams of numbers."""

import asyncio
import time
from collections.abc import Sequence
from decimal import Decimal
from functools import partial

import grpc.aio

from bench.figures import Bound, Figure, of_samples, of_seconds, ratio
from bench.mesh import BenchMesh
from bench.peers.abacus import beside_peer
from bench.sampling import interleaved, of_calls
from tallymesh import Client
from tallymesh.calls import new_request_id
from tallymesh.v1.abacus_service_pb2 import AddNumberRequest
from tallymesh.v1.abacus_service_pb2_grpc import AbacusServiceStub

_AT_A_TIME = 16
_ABACUS = "abaci/bench"
_SECONDS = 10.0


def measure(mesh: BenchMesh, quick: bool) -> Sequence[Figure]:
    with Client(mesh.edge) as edge, Client(mesh.abacus) as direct:
        taken = interleaved(
            {
                "edge": of_calls(partial(edge.abacus(_ABACUS).add, 1)),
                "direct": of_calls(partial(direct.abacus(_ABACUS).add, 1)),
            },
            rounds=5 if quick else 25,
            batch=40,
        )
    adds, rounds = (1_600, 1) if quick else (3_200, 3)
    with asyncio.Runner() as runner:

        def rate(address: str) -> list[float]:
            with Client(address) as client:
                before = client.abacus(_ABACUS).sum
                seconds = runner.run(_add_many(address, adds))
                assert client.abacus(_ABACUS).sum - before == adds, "a wrong sum"
            return [adds / seconds]

        rates = interleaved(
            {"edge": lambda _: rate(mesh.edge), "direct": lambda _: rate(mesh.abacus)},
            rounds=rounds,
            warm_up=False,
        )
    numbers = 100_000 if quick else 1_000_000
    with Client(mesh.edge) as client:

        def stream_rate(amounts: Sequence[int | str], due: Decimal) -> list[float]:
            before = client.abacus(_ABACUS).sum
            begun = time.perf_counter()
            after = client.abacus(_ABACUS).add_many(amounts)
            seconds = time.perf_counter() - begun
            assert after - before == due, "a wrong sum"
            return [len(amounts) / seconds]

        streams = interleaved(
            {
                "integers": lambda _: stream_rate(
                    range(numbers), Decimal(numbers * (numbers - 1) // 2)
                ),
                "decimals": lambda _: stream_rate(
                    ["-123.45"] * numbers, Decimal("-123.45") * numbers
                ),
            },
            rounds=rounds,
        )
    return [
        ratio("one add, through Envoy / direct", taken["edge"], taken["direct"]),
        of_seconds("one add, through Envoy", taken["edge"]),
        of_seconds("one add, direct", taken["direct"]),
        of_samples(
            f"adds, {_AT_A_TIME} at a time by one client, through Envoy", rates["edge"], "/s"
        ),
        of_samples(f"adds, {_AT_A_TIME} at a time by one client, direct", rates["direct"], "/s"),
        of_samples(
            "integers streamed by one client, through Envoy",
            streams["integers"],
            "/s",
            bound=Bound(200_000, "≥"),
        ),
        of_samples("decimals streamed by one client, through Envoy", streams["decimals"], "/s"),
        *beside_peer(mesh, quick),
    ]


async def _add_many(address: str, count: int) -> float:
    """Adds 1 `count` times; returns the seconds for all."""
    numbers = iter(range(count))
    async with grpc.aio.insecure_channel(address) as channel:
        stub = AbacusServiceStub(channel)

        async def work() -> None:
            for _ in numbers:
                request = AddNumberRequest(name=_ABACUS, number=1, request_id=new_request_id())
                await stub.AddNumber(request, timeout=_SECONDS)

        await channel.channel_ready()
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_AT_A_TIME):
                tasks.create_task(work())
        return time.perf_counter() - begun
