"""Prime k-tuplets: what they look like."""

from typing import TypeAlias

from tallymesh.v1.work_pb2 import CountPrimes

Kind: TypeAlias = CountPrimes.Kind.ValueType

# For each kind, the distances of a tuplet's members from the first of them. All patterns of a kind
# end at the same distance.
PATTERNS: dict[Kind, tuple[tuple[int, ...], ...]] = {
    CountPrimes.KIND_PRIMES: ((0,),),
    CountPrimes.KIND_TWINS: ((0, 2),),
    CountPrimes.KIND_TRIPLETS: ((0, 2, 6), (0, 4, 6)),
    CountPrimes.KIND_QUADRUPLETS: ((0, 2, 6, 8),),
    CountPrimes.KIND_QUINTUPLETS: ((0, 2, 6, 8, 12), (0, 4, 6, 10, 12)),
    CountPrimes.KIND_SEXTUPLETS: ((0, 4, 6, 10, 12, 16),),
}


def span(kind: Kind) -> int:
    """How far the last member of such a tuplet is from the first; 0 for primes."""
    return PATTERNS[kind][0][-1]
