"""Tuplets: every sieve counts those, and only those, that lie wholly in the range."""

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallymesh.v1.work_pb2 import CountPrimes
from tallymesh_kernels import Chunk
from tallymesh_kernels import numpy_sieve as numpy_module
from tallymesh_kernels import primesieve as primesieve_module
from tallymesh_kernels.count_primes import PRIMES, TUPLETS, SieveKernel
from tallymesh_kernels.numpy_sieve import NumpySieve
from tallymesh_kernels.primesieve import Primesieve
from tallymesh_kernels.pulse import Pulse
from tallymesh_kernels.sieve import Sieve
from tallymesh_kernels.tuplets import Kind
from tests.harness.tools import missing
from tests.unit.kernels.recording import Recording

KINDS = [kind for kind in CountPrimes.Kind.values() if kind]
# How close together k primes can stand, from the first to the last of them.
SPANS = {1: 0, 2: 2, 3: 6, 4: 8, 5: 12, 6: 16}
TOP = 2**64 - 1


def is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


PRIMES_BELOW = [number for number in range(9000) if is_prime(number)]


def brute_force(kind: int, start: int, stop: int) -> int:
    """Counts k primes at the least distance that k primes can have again and again.

    That leaves out those with a member for each remainder of some small number, such as (3, 5, 7).
    """
    inside = [prime for prime in PRIMES_BELOW if start <= prime <= stop]
    total = 0
    for first in inside:
        near = [prime for prime in inside if first < prime < first + SPANS[kind]]
        last = first + SPANS[kind]
        if kind == 1:
            total += 1
        elif last in inside:
            total += sum(
                is_admissible((first, *between, last)) for between in combinations(near, kind - 2)
            )
    return total


def is_admissible(members: tuple[int, ...]) -> bool:
    return all(
        len({member % divisor for member in members}) < divisor
        for divisor in range(2, len(members) + 1)
    )


class InPieces:
    """A sieve in such small steps that tuplets lie across their borders."""

    def __init__(self, sieve: Sieve) -> None:
        self._sieve = sieve

    def describe(self) -> str:
        return self._sieve.describe()

    def count(self, kind: Kind, start: int, stop: int, pulse: Pulse) -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(numpy_module, "MIN_SEGMENT", 4)
            patch.setattr(numpy_module, "MAX_SEGMENT", 4)
            patch.setattr(primesieve_module, "CALL_SECONDS", 1e-9)
            patch.setattr(primesieve_module, "CALL_SETUPS", 0)
            return self._sieve.count(kind, start, stop, pulse)


def libprimesieve() -> Sieve:
    newest = Primesieve.newest()
    return newest[0] if newest else missing("libprimesieve")


@pytest.fixture(scope="module", params=["library", "numpy"])
def whole(request: pytest.FixtureRequest) -> Sieve:
    if request.param == "numpy":
        return NumpySieve()
    return libprimesieve()


@pytest.fixture(scope="module", params=["whole", "in pieces"])
def sieve(request: pytest.FixtureRequest, whole: Sieve) -> Sieve:
    return whole if request.param == "whole" else InPieces(whole)


def count(sieve: Sieve, kind: Kind, start: int, stop: int) -> int:
    return sieve.count(kind, start, stop, Pulse(Recording(), stop - start + 1))


@pytest.mark.parametrize(
    ("kind", "to_100"),
    [
        (CountPrimes.KIND_PRIMES, 25),
        (CountPrimes.KIND_TWINS, 8),
        (CountPrimes.KIND_TRIPLETS, 8),
        (CountPrimes.KIND_QUADRUPLETS, 2),
        (CountPrimes.KIND_QUINTUPLETS, 3),
        (CountPrimes.KIND_SEXTUPLETS, 1),
    ],
)
def test_the_first_hundred_numbers(sieve: Sieve, kind: Kind, to_100: int) -> None:
    assert count(sieve, kind, 0, 100) == brute_force(kind, 0, 100) == to_100


@pytest.mark.parametrize("kind", KINDS)
def test_every_small_range(sieve: Sieve, kind: Kind) -> None:
    for start in range(32):
        for stop in range(start, 32):
            assert count(sieve, kind, start, stop) == brute_force(kind, start, stop), (start, stop)


@settings(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(KINDS),
    start=st.integers(0, 6000),
    width=st.integers(1, 2000),
    chunks=st.integers(1, 40),
)
def test_chunks_of_any_range_add_up(
    sieve: Sieve, kind: Kind, start: int, width: int, chunks: int
) -> None:
    kernel = SieveKernel(PRIMES if kind == CountPrimes.KIND_PRIMES else TUPLETS)
    kernel.__dict__["_sieve"] = sieve
    work = CountPrimes(start=start, stop=start + width - 1, kind=kind)
    parts = [kernel.run(work, Chunk(index, chunks), Recording()) for index in range(chunks)]
    assert sum(parts) == brute_force(kind, work.start, work.stop)


# Counted by sieve alone, as tables list them (OEIS A007508, A050258).
@pytest.mark.parametrize(
    ("kind", "to_10_8"),
    [(CountPrimes.KIND_TWINS, 440312), (CountPrimes.KIND_QUADRUPLETS, 4768)],
)
def test_known_counts(kind: Kind, to_10_8: int) -> None:
    library = libprimesieve()
    assert count(library, kind, 0, 10**8) == to_10_8


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("start", "width"),
    [(0, 10**5), (10**9, 10**5), (2**32 - 10**4, 10**5), (10**12, 10**5), (TOP - 10**4, 10**4)],
)
def test_sieves_agree(kind: Kind, start: int, width: int) -> None:
    library = libprimesieve()
    stop = start + width
    assert count(NumpySieve(), kind, start, stop) == count(library, kind, start, stop)
