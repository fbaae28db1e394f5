"""How right the estimates are by which the mesh chooses how to count primes."""

import statistics
from collections.abc import Sequence

from bench.figures import TIMES, Bound, Figure, of_samples
from bench.mesh import BenchMesh
from bench.sampling import interleaved, of_calls
from tallymesh import Client, CountPrimes
from tallymesh_kernels.prime_cost import pi_seconds, seconds_per_number, setup_seconds

_KNOWN = 3_204_941_750_802
_SLICE = 10**9
_ROUNDS = 3
_SECONDS = 300.0


def measure(mesh: BenchMesh, quick: bool) -> Sequence[Figure]:
    stops = [10**power for power in range(10, 15 if quick else 17)]
    formulas = {
        stop: (CountPrimes(stop=stop, method=CountPrimes.METHOD_COMBINATORIAL), pi_seconds(stop))
        for stop in stops
    }
    slices = {
        stop: (
            CountPrimes(start=stop - _SLICE, stop=stop, method=CountPrimes.METHOD_SIEVE),
            _SLICE * seconds_per_number(stop) + setup_seconds(stop),
        )
        for stop in stops
    }
    with Client(mesh.edge) as client:
        to_10_14 = interleaved(
            {"mesh": of_calls(lambda: _check(client.count_primes(10**14, timeout=_SECONDS)))},
            rounds=_ROUNDS,
        )
        return [
            of_samples("primes to 10^14 in 1 chunk, through Envoy", to_10_14["mesh"], "s"),
            _worst("combinatorial", client, formulas),
            _worst("sieve", client, slices),
        ]


def _worst(method: str, client: Client, works: dict[int, tuple[CountPrimes, float]]) -> Figure:
    """By what factor the worst of the estimates is off, above or below."""
    off = []
    for work, estimate in works.values():
        taken = statistics.median(_processor_time(client, work) for _ in range(_ROUNDS))
        off.append(max(estimate / taken, taken / estimate))
    first, last = (f"10^{len(str(stop)) - 1}" for stop in (min(works), max(works)))
    name = f"{method}: estimate / time taken or the reverse, the worst of {first} to {last}"
    return Figure(name=name, value=max(off), unit=TIMES, samples=len(off), bound=Bound(2.0))


def _processor_time(client: Client, work: CountPrimes) -> float:
    job = client.submit(work, chunks=1)
    job.result(timeout=_SECONDS)
    return job.job.compute_time.ToMicroseconds() / 1e6


def _check(count: int) -> None:
    assert count == _KNOWN, f"{count:,} primes to 10^14 instead of {_KNOWN:,}"
