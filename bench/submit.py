"""What it costs to submit a job, however many chunks it has."""

from collections.abc import Callable, Sequence
from functools import partial

from redis import Redis

from bench.figures import Bound, Figure, of_seconds, ratio
from bench.mesh import BenchMesh
from bench.sampling import interleaved, of_calls
from tallymesh import Client, Simulate

_MILLION = 1_000_000
_KIB = 1024
# Served by no worker, so that what is submitted stays as it is.
_QUEUE = "bench-unserved"


def measure(mesh: BenchMesh, quick: bool) -> Sequence[Figure]:
    with Client(mesh.gateway) as client:

        def submit(chunks: int) -> Callable[[], object]:
            return partial(client.submit, Simulate(), chunks=chunks, queue=_QUEUE)

        taken = interleaved(
            {"one": of_calls(submit(1)), "million": of_calls(submit(_MILLION))},
            rounds=100 if quick else 500,
        )
        jobs = 200
        before = _used_bytes(mesh)
        for _ in range(jobs):
            submit(_MILLION)()
        kib = (_used_bytes(mesh) - before) / jobs / _KIB
    return [
        ratio("1,000,000 chunks / 1 chunk", taken["million"], taken["one"], bound=Bound(1.2)),
        of_seconds("submit 1,000,000 chunks, direct", taken["million"]),
        of_seconds("submit 1 chunk, direct", taken["one"]),
        Figure(
            name="Valkey memory for a job of 1,000,000 chunks",
            value=kib,
            unit="KiB",
            samples=jobs,
            bound=Bound(64, "<"),
        ),
    ]


def _used_bytes(mesh: BenchMesh) -> int:
    with Redis.from_url(mesh.store_url) as store:
        facts: dict[str, int] = store.info("memory")
    return facts["used_memory"]
