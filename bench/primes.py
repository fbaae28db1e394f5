"""What the mesh adds to real work: primes counted through it, and by libprimesieve alone."""

import subprocess
import sys
from collections.abc import Sequence

from bench.figures import Bound, Figure, of_samples, ratio_of_pairs
from bench.mesh import BenchMesh
from bench.sampling import interleaved, of_calls
from tallymesh import Client, CountPrimes
from tallymesh_kernels.count_primes import PRIMES, SieveKernel

_KNOWN = {10**10: 455_052_511, 10**11: 4_118_054_813}
_SECONDS = 300.0


def measure(mesh: BenchMesh, quick: bool) -> Sequence[Figure]:
    stop = 10**10 if quick else 10**11
    chunks = SieveKernel(PRIMES).plan(CountPrimes(stop=stop))
    with Client(mesh.edge) as client:
        threads = client.health().slot_count
        client.count_primes(10**9, method="sieve", timeout=_SECONDS)
        taken = interleaved(
            {
                "mesh": of_calls(lambda: _check(stop, _count_in_mesh(client, stop))),
                "bare": lambda _: [_count_bare(stop, threads)],
                "sliced": lambda _: [_count_bare(stop, threads, chunks)],
            },
            rounds=3,
            warm_up=False,
        )
    mesh_seconds, bare, sliced = taken["mesh"], taken["bare"], taken["sliced"]
    power = f"10^{len(str(stop)) - 1}"
    return [
        ratio_of_pairs("mesh / libprimesieve alone", mesh_seconds, bare, bound=Bound(1.10)),
        ratio_of_pairs("libprimesieve in slices / in one", sliced, bare),
        ratio_of_pairs("mesh / libprimesieve in slices", mesh_seconds, sliced),
        of_samples(f"primes to {power} in {chunks:,} chunks, through Envoy", mesh_seconds, "s"),
        of_samples(f"libprimesieve alone, {threads} threads", bare, "s"),
        of_samples(f"libprimesieve alone, {threads} threads, same slices", sliced, "s"),
    ]


def _count_in_mesh(client: Client, stop: int) -> int:
    return client.count_primes(stop, method="sieve", timeout=_SECONDS)


def _count_bare(stop: int, threads: int, chunks: int = 1) -> float:
    """Counts in a process of its own; returns the seconds."""
    arguments = map(str, (stop, threads, chunks))
    run = subprocess.run(
        [sys.executable, "-m", "bench.bare_primes", *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=_SECONDS,
    )
    count, seconds = run.stdout.split()
    _check(stop, int(count))
    return float(seconds)


def _check(stop: int, count: int) -> None:
    assert count == _KNOWN[stop], f"{count:,} primes to {stop:,} instead of {_KNOWN[stop]:,}"
