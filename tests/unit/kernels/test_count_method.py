"""Which method the mesh chooses, and what it says of it."""

import pytest

from tallymesh.v1.work_pb2 import Add, CountPrimes, Simulate, Work
from tallymesh_kernels import as_asked, builtin, is_settled, settled
from tallymesh_kernels.count_method import choose_method
from tallymesh_kernels.count_primes import COMBINATORIAL, PRIMES, TUPLETS

SIEVE, FORMULAS = CountPrimes.METHOD_SIEVE, CountPrimes.METHOD_COMBINATORIAL
ALL = {PRIMES: 2, TUPLETS: 2, COMBINATORIAL: 2}


@pytest.mark.parametrize(
    ("work", "chunks", "slots", "method", "reason"),
    [
        # All from 0: the sieve grows with the range, the formulas far less.
        (CountPrimes(stop=10**10), None, ALL, FORMULAS, ", sieve 570 ms on 2 slots"),
        (CountPrimes(stop=10**14), None, ALL, FORMULAS, "estimates: combinatorial 230 ms,"),
        (CountPrimes(stop=10**14), 1, ALL, FORMULAS, "estimates: combinatorial 230 ms,"),
        (CountPrimes(stop=2**63 - 1), None, ALL, FORMULAS, "years on 2 slots"),
        # A narrow range high up: the formulas start from 0 twice.
        (CountPrimes(start=10**15, stop=10**15 + 10**6), None, ALL, SIEVE, ", sieve "),
        # As wide as takes a sieve about as long on one slot, but half of it on two.
        (CountPrimes(start=10**15, stop=10**15 + 6 * 10**9), None, ALL, SIEVE, "on 2 slots"),
        (CountPrimes(start=10**15, stop=10**15 + 9 * 10**9), None, ALL | {PRIMES: 1}, FORMULAS, ""),
        (CountPrimes(stop=10**14), 2, ALL, SIEVE, "cut into 2 chunks"),
        (CountPrimes(stop=10**14), 0, ALL, SIEVE, ""),  # which is refused, as of a sieve
        (CountPrimes(stop=2**63), None, ALL, SIEVE, "beyond 2^63 only a sieve counts"),
        (CountPrimes(stop=99, kind=CountPrimes.KIND_TWINS), None, ALL, SIEVE, "tuplets"),
        (
            CountPrimes(stop=10**14),
            None,
            {PRIMES: 4},
            SIEVE,
            "no live worker serves count_primes.c",
        ),
        (CountPrimes(stop=10**14), None, {COMBINATORIAL: 1}, FORMULAS, ""),
        (CountPrimes(stop=10**14), None, {}, FORMULAS, "estimates: combinatorial 230 ms,"),
        (CountPrimes(stop=0), None, ALL, FORMULAS, "combinatorial under 1 ms"),
    ],
)
def test_choices(
    work: CountPrimes,
    chunks: int | None,
    slots: dict[str, int],
    method: CountPrimes.Method.ValueType,
    reason: str,
) -> None:
    chosen, said = choose_method(work, chunk_count=chunks, slots=slots)
    assert (chosen, reason in said) == (method, True), said


def test_only_a_choice_of_method_is_left_to_the_mesh() -> None:
    for work in (
        Work(add=Add(numbers=["1"])),
        Work(simulate=Simulate()),
        Work(count_primes=CountPrimes(stop=9, method=SIEVE)),
        Work(count_primes=CountPrimes(stop=9, method=FORMULAS)),
    ):
        assert is_settled(work)
    assert not is_settled(Work(count_primes=CountPrimes(stop=9)))


def test_settling_leaves_the_request_as_it_was() -> None:
    asked = Work(count_primes=CountPrimes(stop=10**14))
    chosen = settled(asked, chunk_count=None, slots=ALL)
    assert asked == Work(count_primes=CountPrimes(stop=10**14))
    assert chosen.count_primes.method == FORMULAS
    assert builtin().of(chosen)[0].name == COMBINATORIAL


def test_nobody_else_gives_the_reason() -> None:
    asked = Work(count_primes=CountPrimes(stop=9, method=SIEVE))
    assert as_asked(asked) is asked
    claimed = Work(count_primes=CountPrimes(stop=9, method=SIEVE, method_reason="I say so"))
    assert as_asked(claimed) == asked
    assert claimed.count_primes.method_reason == "I say so"
