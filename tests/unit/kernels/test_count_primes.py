"""CountPrimes: chunks that add up, plans that make sense, refusals that name the field."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallymesh.v1.work_pb2 import CountPrimes
from tallymesh_kernels import Cancelled, Chunk, Invalid
from tallymesh_kernels.count_primes import MAX_PLANNED_CHUNKS, PRIMES, SieveKernel
from tests.unit.kernels.recording import Recording

TOP = 2**64 - 1


@pytest.fixture(scope="module")
def kernel() -> SieveKernel:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TALLYMESH_SIEVE", "numpy")
        kernel = SieveKernel(PRIMES)
        assert kernel.run(CountPrimes(stop=10), Chunk(0, 1), Recording()) == 4
        return kernel


@given(size=st.integers(0, 2**64), count=st.integers(1, 5000))
def test_chunks_share_out_evenly_and_exactly(size: int, count: int) -> None:
    reached = 0
    for index in range(count):
        begin, end = Chunk(index, count).of(size)
        assert begin == reached
        assert size // count <= end - begin <= size // count + 1
        reached = end
    assert reached == size


@settings(deadline=None)
@given(
    start=st.integers(0, 44).flatmap(lambda bits: st.integers(0, 2**bits)),
    width=st.integers(1, 5000),
    count=st.integers(1, 60),
)
def test_chunks_add_up_to_the_whole(
    kernel: SieveKernel, start: int, width: int, count: int
) -> None:
    work = CountPrimes(start=start, stop=start + width - 1)
    kernel.validate(work)
    parts = [kernel.run(work, Chunk(index, count), Recording()) for index in range(count)]
    assert sum(parts) == kernel.run(work, Chunk(0, 1), Recording())


@pytest.mark.parametrize(
    ("start", "stop", "count", "parts"),
    [
        (0, 0, 2, [0, 0]),
        (2, 2, 3, [0, 0, 1]),
        (2, 5, 4, [1, 1, 0, 1]),
        (TOP - 1, TOP, 2, [0, 0]),
    ],
)
def test_chunks_of_at_most_one_number(
    kernel: SieveKernel, start: int, stop: int, count: int, parts: list[int]
) -> None:
    work = CountPrimes(start=start, stop=stop)
    kernel.validate(work)
    assert [kernel.run(work, Chunk(i, count), Recording()) for i in range(count)] == parts
    assert kernel.plan(work) == 1


def test_a_range_that_ends_before_it_starts_is_refused(kernel: SieveKernel) -> None:
    with pytest.raises(Invalid) as refusal:
        kernel.validate(CountPrimes(start=10, stop=9))
    assert refusal.value.field == "stop"
    assert refusal.value.value == "9"
    assert refusal.value.bound == f"a number from 10 (start) to {TOP}"


def test_an_unknown_method_is_refused(kernel: SieveKernel) -> None:
    kernel.validate(CountPrimes(stop=1, method=CountPrimes.METHOD_SIEVE))
    unknown = CountPrimes.FromString(CountPrimes(stop=1).SerializeToString() + b"\x18\x63")
    with pytest.raises(Invalid) as refusal:
        kernel.validate(unknown)
    assert (refusal.value.field, refusal.value.value) == ("method", "99")
    assert "METHOD_SIEVE" in refusal.value.bound


def test_plans(kernel: SieveKernel) -> None:
    plans = [kernel.plan(CountPrimes(stop=10**power)) for power in range(20)]
    assert plans == sorted(plans)
    assert plans[7] == 1
    assert 10 < plans[10] < 50
    assert 50 < plans[11] < 200
    assert plans[19] == MAX_PLANNED_CHUNKS <= kernel.max_chunks
    # Where every chunk would begin with a second of set-up, a narrow range stays whole.
    assert kernel.plan(CountPrimes(start=TOP - 10**9, stop=TOP)) == 1
    assert kernel.plan(CountPrimes(start=10**9, stop=2 * 10**9)) > 1


def test_result_and_amount(kernel: SieveKernel) -> None:
    result = kernel.finish(CountPrimes(stop=10), kernel.merge(1, 3))
    assert result.count_primes.count == 4
    assert result.count_primes.method == CountPrimes.METHOD_SIEVE
    assert kernel.amount(result) == "4"


def test_a_cancelled_chunk_is_not_begun(kernel: SieveKernel) -> None:
    with pytest.raises(Cancelled):
        kernel.run(CountPrimes(stop=TOP), Chunk(0, 1), Recording(cancel_at=1))
