"""How long a small job takes from submit to result, and beside it what that is made of."""

import asyncio
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import grpc
from redis.asyncio import Redis

from bench.echo import METHOD
from bench.figures import Bound, Figure, of_seconds, ratio
from bench.mesh import BenchMesh
from bench.sampling import interleaved, of_awaits, of_calls
from tallymesh import Client, Simulate
from tests.harness.processes import Processes

_SECONDS = 30.0


def measure(mesh: BenchMesh, quick: bool) -> Sequence[Figure]:
    with ExitStack() as stack:
        edge = stack.enter_context(Client(mesh.edge))
        direct = stack.enter_context(Client(mesh.gateway))
        echo = stack.enter_context(_echo())
        runner = stack.enter_context(asyncio.Runner())
        store: Redis = Redis.from_url(mesh.store_url)
        stack.callback(lambda: runner.run(store.aclose()))

        def no_ops(client: Client, chunks: int) -> Callable[[], object]:
            return partial(client.run, Simulate(), chunks=chunks, timeout=_SECONDS)

        taken = interleaved(
            {
                "16 edge": of_calls(no_ops(edge, 16)),
                "16 direct": of_calls(no_ops(direct, 16)),
                "1 edge": of_calls(no_ops(edge, 1)),
                "1 direct": of_calls(no_ops(direct, 1)),
                "add direct": of_calls(partial(direct.add, 2, 3, timeout=_SECONDS)),
                "empty edge": of_calls(edge.whoami),
                "empty direct": of_calls(direct.whoami),
                "echo": of_calls(echo),
                "ping": of_awaits(runner, store.ping),
            },
            rounds=3 if quick else 12,
            batch=40,
        )
    return [
        ratio("add as a job, direct / bare gRPC echo", taken["add direct"], taken["echo"]),
        ratio("16 chunks through Envoy / bare gRPC echo", taken["16 edge"], taken["echo"]),
        of_seconds("job of 16 no-op chunks, through Envoy", taken["16 edge"], bound=Bound(5)),
        of_seconds("job of 16 no-op chunks, direct", taken["16 direct"]),
        of_seconds("job of 1 no-op chunk, through Envoy", taken["1 edge"]),
        of_seconds("job of 1 no-op chunk, direct", taken["1 direct"]),
        of_seconds("add as a job, direct", taken["add direct"], bound=Bound(2.5)),
        of_seconds("empty call (WhoAmI), through Envoy", taken["empty edge"]),
        of_seconds("empty call (WhoAmI), direct", taken["empty direct"]),
        of_seconds("bare gRPC echo (grpc.aio)", taken["echo"]),
        of_seconds("Valkey PING (redis-py)", taken["ping"]),
    ]


@contextmanager
def _echo() -> Iterator[Callable[[], object]]:
    """A call to a bare gRPC server, which runs meanwhile."""
    with tempfile.TemporaryDirectory(prefix="tm-bench-") as folder, Processes() as processes:
        path = Path(folder, "echo.sock")
        processes.start([sys.executable, "-m", "bench.echo", path])
        with grpc.insecure_channel(f"unix:{path}") as channel:
            grpc.channel_ready_future(channel).result(timeout=_SECONDS)
            method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
            yield partial(method, b"", timeout=_SECONDS)
