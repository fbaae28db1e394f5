"""How the mesh counts primes where it is left to choose: by what it estimates to be done first."""

from collections.abc import Mapping

from tallymesh.v1.work_pb2 import CountPrimes
from tallymesh_kernels.count_primes import (
    COMBINATORIAL,
    MAX_COMBINATORIAL,
    PRIMES,
    SieveKernel,
    kind_of,
    width,
)
from tallymesh_kernels.prime_cost import pi_seconds, seconds_per_number, setup_seconds

_UNITS = (
    (365.25 * 86400, "years"),
    (86400, "days"),
    (3600, "h"),
    (60, "min"),
    (1, "s"),
    (1e-3, "ms"),
)


def choose_method(
    work: CountPrimes, *, chunk_count: int | None, slots: Mapping[str, int]
) -> tuple[CountPrimes.Method.ValueType, str]:
    """The method for valid work that names none, and the reason for it, for a person.

    Args:
        work: The work.
        chunk_count: Into how many chunks it is to be cut, or None for any.
        slots: How many chunks of each kernel can be computed at a time.
    """
    if kind_of(work) != CountPrimes.KIND_PRIMES:
        return CountPrimes.METHOD_SIEVE, "tuplets are counted by sieve only"
    if chunk_count not in (None, 1):
        return CountPrimes.METHOD_SIEVE, f"cut into {chunk_count:,} chunks, as only a sieve can be"
    if work.stop > MAX_COMBINATORIAL:
        return CountPrimes.METHOD_SIEVE, "beyond 2^63 only a sieve counts"
    # Where nobody serves either, what is best for those that will come.
    if PRIMES in slots and COMBINATORIAL not in slots:
        return CountPrimes.METHOD_SIEVE, f"no live worker serves {COMBINATORIAL}"
    formulas = pi_seconds(work.stop) + pi_seconds(max(work.start, 1) - 1)
    chunks = chunk_count or SieveKernel(PRIMES).plan(work)
    together = max(1, min(slots.get(PRIMES, 1), chunks))
    sieving = width(work) * seconds_per_number(work.stop) + chunks * setup_seconds(work.stop)
    on = f" on {together} slots" if together > 1 else ""
    said = f"estimates: combinatorial {_text(formulas)}, sieve {_text(sieving / together)}{on}"
    if formulas < sieving / together:
        return CountPrimes.METHOD_COMBINATORIAL, said
    return CountPrimes.METHOD_SIEVE, said


def _text(seconds: float) -> str:
    """An estimate in words, to two digits."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{float(f'{seconds / size:.2g}'):,g} {unit}"
    return "under 1 ms"
