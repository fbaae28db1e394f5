"""Every sieve gives the true count, from 0 to 2^64 - 1."""

from collections.abc import Iterator
from ctypes.util import find_library
from itertools import accumulate, pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tallymesh.v1.work_pb2 import CountPrimes
from tallymesh_kernels import (
    Cancelled,
    ChunkError,
    SieveUnavailable,
    describe_sieve,
    shared_library,
)
from tallymesh_kernels import numpy_sieve as numpy_module
from tallymesh_kernels import sieve as sieve_module
from tallymesh_kernels.numpy_sieve import NumpySieve
from tallymesh_kernels.primesieve import Primesieve
from tallymesh_kernels.pulse import Pulse
from tallymesh_kernels.shared_library import wheel_library
from tallymesh_kernels.sieve import Sieve
from tallymesh_kernels.tuplets import Kind
from tests.harness.tools import missing
from tests.unit.kernels.recording import Recording

TOP = 2**64 - 1
PRIMES = CountPrimes.KIND_PRIMES
# pi(10^k) for k = 0, 1, ... (OEIS A006880).
PI_OF_POWERS = (0, 4, 25, 168, 1229, 9592, 78498, 664579, 5761455, 50847534, 455052511)
# The largest prime below 2^32, and the first after it.
BELOW_32, ABOVE_32 = 4294967291, 4294967311


def count(sieve: Sieve, start: int, stop: int, kind: Kind = PRIMES) -> int:
    return sieve.count(kind, start, stop, Pulse(Recording(), stop - start + 1))


@pytest.fixture(scope="module")
def library() -> Sieve:
    newest = Primesieve.newest()
    return newest[0] if newest else missing("libprimesieve")


@pytest.fixture(scope="module", params=["system", "wheel", "numpy"])
def sieve(request: pytest.FixtureRequest) -> Sieve:
    if request.param == "numpy":
        return NumpySieve()
    if request.param == "wheel":
        return Primesieve(
            wheel_library("primesieve") or missing("the wheel of libprimesieve"), "wheel"
        )
    return Primesieve(
        find_library("primesieve") or missing("libprimesieve in the system"), "system"
    )


@pytest.fixture
def tiny_segments() -> Iterator[None]:
    """Brings every border of the NumPy sieve down to where numbers can be checked one by one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numpy_module, "MIN_SEGMENT", 4)
        patch.setattr(numpy_module, "MAX_SEGMENT", 32)
        patch.setattr(numpy_module, "KEPT_PRIMES", 16)
        patch.setattr(numpy_module, "BLOCK", 8)
        patch.setattr(numpy_module, "DENSE", 4)
        yield


def primes_below(limit: int) -> list[int]:
    return [n for n in range(2, limit) if all(n % d for d in range(2, int(n**0.5) + 1))]


def test_every_small_range(sieve: Sieve) -> None:
    primes = set(primes_below(70))
    counts = [0, *accumulate(n in primes for n in range(70))]
    for start in range(70):
        for stop in range(start, 70):
            assert count(sieve, start, stop) == counts[stop + 1] - counts[start], (start, stop)


@pytest.mark.parametrize("power", range(9))
def test_powers_of_ten(sieve: Sieve, power: int) -> None:
    assert count(sieve, 0, 10**power) == PI_OF_POWERS[power]


@pytest.mark.parametrize("power", [9, 10])
def test_larger_powers_of_ten(library: Sieve, power: int) -> None:
    assert count(library, 0, 10**power) == PI_OF_POWERS[power]


@pytest.mark.parametrize(
    ("start", "stop", "primes"),
    [
        (BELOW_32, BELOW_32, 1),
        (BELOW_32 + 1, ABOVE_32 - 1, 0),
        (BELOW_32, ABOVE_32, 2),
        (2**32 - 1000, 2**32 + 1000, 92),
        (10**12, 10**12 + 1000, 37),
        (10**12 + 38, 10**12 + 38, 0),
        (10**12 + 39, 10**12 + 39, 1),
        (TOP, TOP, 0),
        (2**64 - 59, 2**64 - 59, 1),
        (2**64 - 59, TOP, 1),
        (2**64 - 1000, TOP, 21),
    ],
)
def test_known_ranges(sieve: Sieve, start: int, stop: int, primes: int) -> None:
    assert count(sieve, start, stop) == primes


@pytest.mark.parametrize("prime", [2, 3, 5, 7, 251, 65521, 65537, 16777213, BELOW_32])
def test_squares_of_primes_are_struck_out(sieve: Sieve, prime: int) -> None:
    square = prime * prime
    assert count(sieve, square, square) == 0
    assert count(sieve, square - 1, square + 1) == (2 if prime == 2 else 0)


@settings(max_examples=100, deadline=None)
@given(
    start=st.integers(0, 50).flatmap(lambda bits: st.integers(0, 2**bits)),
    width=st.integers(0, 18).flatmap(lambda bits: st.integers(1, 2**bits)),
)
@example(start=0, width=2**21 + 2)
@example(start=1, width=2**21 + 1)
@example(start=10**9, width=2**22 + 1)
@example(start=2**44 - 10**6, width=2 * 10**6)
@example(start=10**16, width=10**6)
def test_sieves_agree(library: Sieve, start: int, width: int) -> None:
    stop = start + width - 1
    assert count(NumpySieve(), start, stop) == count(library, start, stop)


def test_sieves_agree_at_the_top(library: Sieve) -> None:
    assert count(NumpySieve(), TOP - 10**5, TOP) == count(library, TOP - 10**5, TOP)


@pytest.mark.slow
def test_sieves_agree_on_a_wide_range_at_the_top(library: Sieve) -> None:
    assert count(NumpySieve(), TOP - 3 * 10**6, TOP) == count(library, TOP - 3 * 10**6, TOP)


@pytest.mark.usefixtures("tiny_segments")
def test_borders_of_segments_and_blocks() -> None:
    limit = 1100
    primes = set(primes_below(limit))
    counts = [0, *accumulate(n in primes for n in range(limit))]
    for start in [*range(20), *range(480, 500), *range(1000, 1020)]:
        for stop in range(start, limit, 37):
            assert count(NumpySieve(), start, stop) == counts[stop + 1] - counts[start]


def test_proof_of_single_numbers() -> None:
    primes = set(primes_below(10_000))
    for number in range(41, 10_000, 2):
        assert numpy_module.is_prime(number) == (number in primes)
    # Strong pseudoprimes to all of the first eight and eleven prime bases.
    assert not numpy_module.is_prime(341550071728321)
    assert not numpy_module.is_prime(3825123056546413051)


def test_progress_and_cancel_while_counting(sieve: Sieve) -> None:
    stop = 2 * 10**9 if isinstance(sieve, Primesieve) else 2 * 10**8
    context = Recording()
    sieve.count(PRIMES, 0, stop, Pulse(context, stop + 1))
    assert context.fractions
    assert all(before < after for before, after in pairwise([0.0, *context.fractions, 1.0]))

    cancelled = Recording(cancel_at=2)
    with pytest.raises(Cancelled):
        sieve.count(PRIMES, 0, 10**12, Pulse(cancelled, 10**12 + 1))
    assert len(cancelled.fractions) == 0


def test_what_is_not_libprimesieve_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_library, "find_library", lambda name: "libc.so.6")
    monkeypatch.setattr(shared_library, "wheel_library", lambda name: f"/nonexistent/lib{name}.so")
    assert Primesieve.newest() is None


def test_no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_library, "WHEEL", "no-such-distribution")
    assert wheel_library("primesieve") is None


def test_a_failure_of_the_library_is_never_a_count(library: Primesieve) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(library._functions, PRIMES, lambda start, stop: TOP)
        with pytest.raises(ChunkError, match="from 5 to 9"):
            count(library, 5, 9)


def test_the_sieve_can_be_chosen(library: Sieve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TALLYMESH_SIEVE", raising=False)
    assert describe_sieve() == library.describe()
    monkeypatch.setenv("TALLYMESH_SIEVE", "libprimesieve")
    assert describe_sieve() == library.describe()
    monkeypatch.setenv("TALLYMESH_SIEVE", "numpy")
    assert describe_sieve().startswith("numpy ")
    monkeypatch.setenv("TALLYMESH_SIEVE", "sundaram")
    with pytest.raises(SieveUnavailable, match="TALLYMESH_SIEVE: 'sundaram' is not one of auto"):
        describe_sieve()


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Primesieve, "newest", lambda: None)
    monkeypatch.delenv("TALLYMESH_SIEVE", raising=False)
    assert isinstance(sieve_module.open_sieve(), NumpySieve)
    monkeypatch.setenv("TALLYMESH_SIEVE", "libprimesieve")
    with pytest.raises(SieveUnavailable, match="TALLYMESH_SIEVE: there is no libprimesieve"):
        sieve_module.open_sieve()
