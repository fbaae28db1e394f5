"""What libprimecount counts and finds, and that it is what the sieves say."""

from random import Random

import pytest

from tallymesh.v1.work_pb2 import CountPrimes, NthPrime
from tallymesh_kernels import Cancelled, Chunk, ChunkError, Invalid, primecount, shared_library
from tallymesh_kernels.count_primes import (
    MAX_COMBINATORIAL,
    PRIMES,
    CombinatorialKernel,
    SieveKernel,
)
from tallymesh_kernels.nth_prime import MAX_N, NthPrimeKernel
from tallymesh_kernels.primecount import (
    PrimecountUnavailable,
    choose_primecount,
    open_primecount,
)
from tests.harness.tools import missing
from tests.unit.kernels.recording import Recording

COMBINATORIAL = CountPrimes.METHOD_COMBINATORIAL
WHOLE = Chunk(0, 1)


@pytest.fixture(autouse=True)
def library() -> primecount.Primecount:
    try:
        return open_primecount()
    except PrimecountUnavailable as error:
        return missing(str(error))


def count(start: int, stop: int) -> int:
    kernel = CombinatorialKernel()
    work = CountPrimes(start=start, stop=stop, method=COMBINATORIAL)
    kernel.validate(work)
    assert kernel.plan(work) == kernel.max_chunks == 1
    return kernel.run(work, WHOLE, Recording())


@pytest.mark.parametrize(
    ("start", "stop", "primes"),
    [
        (0, 0, 0),
        (0, 1, 0),
        (1, 1, 0),
        (0, 2, 1),
        (1, 2, 1),
        (2, 2, 1),
        (3, 4, 1),
        (0, 10**12, 37_607_912_018),
        (10**12, 10**12 + 1000, 37),
        (0, 10**13, 346_065_536_839),
    ],
)
def test_known_ranges(start: int, stop: int, primes: int) -> None:
    assert count(start, stop) == primes


def test_it_counts_what_a_sieve_counts() -> None:
    sieve, draw = SieveKernel(PRIMES), Random(7)
    for _ in range(40):
        start = draw.randrange(10 ** draw.randint(0, 11))
        stop = start + draw.randrange(10**6)
        by_sieve = sieve.run(CountPrimes(start=start, stop=stop), WHOLE, Recording())
        assert count(start, stop) == by_sieve, (start, stop)


def test_the_result_says_how_and_why() -> None:
    kernel = CombinatorialKernel()
    asked = kernel.finish(CountPrimes(stop=10, method=COMBINATORIAL), 4).count_primes
    assert (asked.count, asked.method, asked.kind) == (4, COMBINATORIAL, CountPrimes.KIND_PRIMES)
    assert asked.method_reason == "asked for"
    chosen = CountPrimes(stop=10, method=COMBINATORIAL, method_reason="it is quick")
    assert kernel.finish(chosen, 4).count_primes.method_reason == "it is quick"


@pytest.mark.parametrize(
    ("work", "field", "value", "bound"),
    [
        (CountPrimes(stop=2**63), "stop", str(2**63), str(MAX_COMBINATORIAL)),
        (CountPrimes(stop=9, kind=CountPrimes.KIND_TWINS), "kind", "KIND_TWINS", "KIND_PRIMES"),
        (CountPrimes(start=9, stop=5), "stop", "5", "9 (start)"),
    ],
)
def test_what_the_formulas_cannot_count_is_refused(
    work: CountPrimes, field: str, value: str, bound: str
) -> None:
    work.method = COMBINATORIAL
    with pytest.raises(Invalid) as refusal:
        CombinatorialKernel().validate(work)
    assert (refusal.value.field, refusal.value.value) == (field, value)
    assert bound in refusal.value.bound


@pytest.mark.parametrize(
    ("n", "prime"), [(1, 2), (2, 3), (25, 97), (664_579, 9_999_991), (10**10, 252_097_800_623)]
)
def test_nth_primes(n: int, prime: int) -> None:
    kernel = NthPrimeKernel()
    kernel.validate(NthPrime(n=n))
    result = kernel.finish(NthPrime(n=n), kernel.run(NthPrime(n=n), WHOLE, Recording()))
    assert result.nth_prime.prime == prime
    assert kernel.amount(result) == str(prime)


@pytest.mark.parametrize("n", [0, MAX_N + 1, 2**64 - 1])
def test_no_such_prime(n: int) -> None:
    NthPrimeKernel().validate(NthPrime(n=MAX_N))
    with pytest.raises(Invalid) as refusal:
        NthPrimeKernel().validate(NthPrime(n=n))
    assert (refusal.value.field, refusal.value.value) == ("n", str(n))
    assert refusal.value.bound == f"a number from 1 to {MAX_N}"


def test_a_failure_of_the_library_is_never_a_number(
    library: primecount.Primecount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "_pi", lambda number: -1)
    monkeypatch.setattr(library, "_nth_prime", lambda n: -1)
    with pytest.raises(ChunkError, match="the primes up to 10"):
        count(0, 10)
    with pytest.raises(ChunkError, match="prime number 5"):
        NthPrimeKernel().run(NthPrime(n=5), WHOLE, Recording())


def test_a_cancelled_chunk_is_not_begun() -> None:
    with pytest.raises(Cancelled):
        CombinatorialKernel().run(CountPrimes(stop=10**18), WHOLE, Recording(cancel_at=1))
    with pytest.raises(Cancelled):
        NthPrimeKernel().run(NthPrime(n=MAX_N), WHOLE, Recording(cancel_at=1))


def test_what_is_not_libprimecount_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_library, "find_library", lambda name: "libc.so.6")
    monkeypatch.setattr(shared_library, "wheel_library", lambda name: f"/nonexistent/lib{name}.so")
    with pytest.raises(PrimecountUnavailable, match="no libprimecount"):
        choose_primecount.__wrapped__()
