"""The registry finds kernels, and importing them costs next to nothing."""

import subprocess
import sys

import pytest

from tallymesh.v1.work_pb2 import Add, CountPrimes, NthPrime, Result, Simulate, Work
from tallymesh_kernels import Invalid, Registry, UnknownKernel, builtin, primecount, usable

COMBINATORIAL = CountPrimes(stop=9, method=CountPrimes.METHOD_COMBINATORIAL)
TWINS = CountPrimes(stop=9, kind=CountPrimes.KIND_TWINS)


def test_every_kernel_of_the_contract_is_built_in() -> None:
    names = {name.partition(".")[0] for name in builtin().names()}
    for message in (Work, Result):
        members = message.DESCRIPTOR.oneofs_by_name["kernel"].fields
        assert {member.name for member in members} == {*names, "custom"}


@pytest.mark.parametrize(
    ("work", "name", "message"),
    [
        (Work(count_primes=CountPrimes(stop=9)), "count_primes", CountPrimes(stop=9)),
        (Work(count_primes=CountPrimes()), "count_primes", CountPrimes()),
        (Work(count_primes=COMBINATORIAL), "count_primes.combinatorial", COMBINATORIAL),
        (Work(count_primes=TWINS), "count_primes.tuplets", TWINS),
        (Work(nth_prime=NthPrime(n=3)), "nth_prime", NthPrime(n=3)),
        (Work(add=Add(numbers=["1"])), "add", Add(numbers=["1"])),
        (Work(simulate=Simulate(seed=1)), "simulate", Simulate(seed=1)),
    ],
)
def test_work_names_its_kernel(work: Work, name: str, message: object) -> None:
    registry = builtin()
    kernel, found = registry.of(work)
    assert kernel is registry.get(name)
    assert kernel.name == name
    assert found == message


def test_only_add_keeps_partials() -> None:
    registry = builtin()
    assert {name for name in registry.names() if not registry.get(name).additive} == {"add"}
    assert registry.get("add").max_chunks == 65_536
    assert registry.get("count_primes").max_chunks == registry.get("simulate").max_chunks == 2**22


def test_empty_work() -> None:
    with pytest.raises(UnknownKernel, match="names no kernel") as error:
        builtin().of(Work())
    assert error.value.name == ""
    assert error.value.known == builtin().names()


def test_unknown_kernels() -> None:
    with pytest.raises(UnknownKernel, match="'score' is not a known kernel; known: count_primes"):
        builtin().get("score")
    with pytest.raises(UnknownKernel, match="'add'"):
        Registry(()).of(Work(add=Add()))


def test_kernels_that_lack_their_library_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise primecount.PrimecountUnavailable

    monkeypatch.setattr(primecount, "open_primecount", missing)
    registry = usable(builtin())
    assert registry.names() == ("count_primes", "add", "simulate", "count_primes.tuplets")
    with pytest.raises(UnknownKernel, match=r"'count_primes\.combinatorial' is not"):
        registry.of(Work(count_primes=COMBINATORIAL))
    with pytest.raises(UnknownKernel, match="'nth_prime' is not"):
        registry.of(Work(nth_prime=NthPrime(n=1)))


def test_a_refusal_says_all() -> None:
    refusal = Invalid("stop", 3, "a number from 9 to 10")
    assert str(refusal) == "stop: '3' is not a number from 9 to 10"


def test_the_light_half_loads_nothing_heavy() -> None:
    script = """
import sys
from tallymesh.v1.work_pb2 import Add, CountPrimes, NthPrime, Simulate, Work
from tallymesh_kernels import builtin, settled
for work in (
    Work(count_primes=CountPrimes(stop=10**10)),
    settled(Work(count_primes=CountPrimes(stop=10**14)), chunk_count=None, slots={}),
    Work(nth_prime=NthPrime(n=9)),
    Work(add=Add(numbers=["1"])),
    Work(simulate=Simulate(failure_rate=0.5)),
):
    kernel, message = builtin().of(work)
    kernel.validate(message)
    kernel.plan(message)
heavy = {"numpy", "ctypes", "importlib.metadata", "grpc", "redis", "tallymesh_core", "asyncio"}
print(sorted(heavy & set(sys.modules)))
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60
    )
    assert ended.stdout.strip() == "[]"
