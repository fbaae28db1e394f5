"""Many small jobs at once: submitted by the thousand, and all results at the client."""

import itertools
import time
from collections.abc import Sequence
from functools import partial

from bench.figures import Bound, Figure, of_samples
from bench.mesh import BenchMesh
from bench.sampling import interleaved
from tallymesh import Client, Simulate

_SECONDS = 60.0


def measure(mesh: BenchMesh, quick: bool) -> Sequence[Figure]:
    jobs, rounds = (2_000, 3) if quick else (5_000, 7)

    def rate(client: Client, _: int) -> list[float]:
        return [jobs / _run_jobs(client, jobs)]

    with Client(mesh.edge) as edge, Client(mesh.gateway) as direct:
        _run_jobs(edge, jobs)
        before = mesh.cpu_seconds()
        rates = interleaved(
            {"edge": partial(rate, edge), "direct": partial(rate, direct)},
            rounds=rounds,
            warm_up=False,
        )
    return [
        of_samples(
            f"{jobs:,} jobs of 1 chunk, submitted and collected, through Envoy",
            rates["edge"],
            "/s",
            bound=Bound(6_500, "≥"),
        ),
        of_samples(f"{jobs:,} jobs of 1 chunk, direct", rates["direct"], "/s"),
        *mesh.costs(before, 2 * rounds * jobs, "a job"),
    ]


def _run_jobs(client: Client, count: int) -> float:
    """Runs jobs; returns the seconds from before the first call to the last result."""
    begun = time.perf_counter()
    handles = client.submit_many(itertools.repeat(Simulate(), count), chunks=1)
    for handle in client.as_completed(handles, timeout=_SECONDS):
        assert handle.result() == 1, f"{handle.name}: {handle.result()}"
    return time.perf_counter() - begun
