"""How primes are counted is settled once, by the gateway, and known to whoever counts them."""

from typing import Any

import grpc.aio
import pytest
from grpc import StatusCode

from tallymesh.v1 import dead_letter_service_pb2 as letters
from tallymesh.v1 import dispatch_service_pb2 as dispatch
from tallymesh.v1 import errors_pb2
from tallymesh.v1 import job_service_pb2 as pb
from tallymesh.v1 import mesh_service_pb2 as mesh
from tallymesh.v1.job_pb2 import Job
from tallymesh.v1.work_pb2 import CountPrimes, NthPrime, Work
from tests.harness.polling import eventually
from tests.integration.gateway.conftest import Gateway, Worker
from tests.integration.gateway.test_gateway import facts

SIEVE, COMBINATORIAL = CountPrimes.METHOD_SIEVE, CountPrimes.METHOD_COMBINATORIAL
ALL = ("count_primes", "count_primes.tuplets", "count_primes.combinatorial", "nth_prime")


def primes(stop: int = 10**14, *, chunks: int = 0, **fields: Any) -> Job:
    work = Work(count_primes=CountPrimes(stop=stop, **fields))
    return Job(work=work, chunk_count=chunks or None)


async def create(gateway: Gateway, job: Job, request_id: str = "") -> Job:
    return await gateway.jobs.CreateJob(pb.CreateJobRequest(job=job, request_id=request_id))


async def alive(gateway: Gateway, *kernels: str) -> Worker:
    """A live worker of these kernels, of which the gateway knows."""
    worker = Worker(gateway, kernels=kernels)

    async def known() -> bool:
        await worker.call()
        return (await gateway.mesh.GetHealth(mesh.GetHealthRequest())).worker_count > 0

    await eventually(known)
    return worker


async def test_the_choice_is_kept_with_the_job(gateway: Gateway) -> None:
    worker = await alive(gateway, *ALL)
    job = await create(gateway, primes())
    chosen = job.work.count_primes
    assert (chosen.method, job.kernel, job.chunk_count) == (COMBINATORIAL, ALL[2], 1)
    assert "estimates: combinatorial" in chosen.method_reason
    (given,) = (await worker.call(capacity=4)).works
    assert given.work == job.work
    await worker.call(
        results=[dispatch.ChunkResults(chunks=worker.held[0], sums=[7], compute_micros=[1])]
    )
    result = (await gateway.jobs.GetJob(pb.GetJobRequest(name=job.name))).result.count_primes
    assert (result.count, result.method, result.kind) == (7, COMBINATORIAL, CountPrimes.KIND_PRIMES)
    assert result.method_reason == chosen.method_reason


async def test_a_repeat_is_the_same_request_whatever_would_be_chosen_now(gateway: Gateway) -> None:
    first = await create(gateway, primes(), "id-1")
    assert first.work.count_primes.method == COMBINATORIAL  # nobody serves anything: the best
    await alive(gateway, "count_primes")
    again = await create(gateway, primes(), "id-1")
    assert (again.name, again.work) == (first.name, first.work)
    other = await create(gateway, primes(), "id-2")
    assert other.work.count_primes.method == SIEVE
    assert other.work.count_primes.method_reason == (
        "no live worker serves count_primes.combinatorial"
    )


async def test_only_the_mesh_gives_the_reason(gateway: Gateway) -> None:
    job = await create(gateway, primes(100, method=SIEVE, method_reason="I say so"))
    assert job.work.count_primes.method_reason == ""


async def test_what_must_be_cut_is_sieved(gateway: Gateway) -> None:
    await alive(gateway, *ALL)
    job = await create(gateway, primes(chunks=2))
    assert (job.work.count_primes.method, job.kernel, job.chunk_count) == (SIEVE, ALL[0], 2)
    assert job.work.count_primes.method_reason == "cut into 2 chunks, as only a sieve can be"


@pytest.mark.parametrize(
    ("job", "field", "value", "bound"),
    [
        (primes(method=COMBINATORIAL, chunks=2), "job.chunk_count", "2", "1, all that"),
        (primes(2**63, method=COMBINATORIAL), "job.work.count_primes.stop", str(2**63), "up to"),
        (
            primes(kind=CountPrimes.KIND_TWINS, method=COMBINATORIAL),
            "job.work.count_primes.kind",
            "KIND_TWINS",
            "KIND_PRIMES",
        ),
        (Job(work=Work(nth_prime=NthPrime())), "job.work.nth_prime.n", "0", "from 1 to"),
        (Job(work=Work(nth_prime=NthPrime(n=2)), chunk_count=2), "job.chunk_count", "2", "1, all"),
    ],
)
async def test_what_cannot_be_counted_so_is_refused_by_field(
    gateway: Gateway, job: Job, field: str, value: str, bound: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await create(gateway, job)
    assert caught.value.code() is StatusCode.INVALID_ARGUMENT
    told = facts(caught.value).metadata
    assert (told["field"], told["value"]) == (field, value)
    assert bound in told["bound"]


async def test_a_worker_that_knows_only_primes_is_given_nothing_else(gateway: Gateway) -> None:
    worker = await alive(gateway, "count_primes")
    others = [
        await create(gateway, primes(method=COMBINATORIAL)),
        await create(gateway, primes(kind=CountPrimes.KIND_TWINS)),
        await create(gateway, Job(work=Work(nth_prime=NthPrime(n=5)))),
    ]
    assert [job.state_reason for job in others] == [
        f"no live worker serves kernel {kernel} on queue default"
        for kernel in ("count_primes.combinatorial", "count_primes.tuplets", "nth_prime")
    ]
    await create(gateway, primes(100, method=SIEVE, kind=CountPrimes.KIND_PRIMES))
    (given,) = (await worker.call(capacity=9)).works
    assert given.work.count_primes.stop == 100


async def test_a_filter_by_kernel_takes_its_ways_too(gateway: Gateway) -> None:
    for job in (
        primes(100, method=COMBINATORIAL),
        primes(100, kind=CountPrimes.KIND_TWINS),
        primes(100, method=SIEVE),
        Job(work=Work(nth_prime=NthPrime(n=5))),
    ):
        await create(gateway, job)

    async def listed(kernel: str) -> list[str]:
        page = await gateway.jobs.ListJobs(pb.ListJobsRequest(kernel=kernel))
        return sorted(job.kernel for job in page.jobs)

    assert await listed("count_primes") == sorted(ALL[:3])
    assert await listed("count_primes.tuplets") == ["count_primes.tuplets"]
    assert await listed("nth_prime") == ["nth_prime"]

    worker = await alive(gateway, *ALL)
    await worker.call(capacity=100)
    await worker.call(
        failures=[
            dispatch.ChunkFailure(
                chunk=dispatch.ChunkRange(
                    job=one.job, epoch=one.epoch, first=one.first, count=1, attempt=one.attempt
                ),
                reason=errors_pb2.ERROR_REASON_WORK_REFUSED,
                message="no",
            )
            for one in worker.held
        ],
        held=[],
    )

    async def dead(kernel: str) -> set[str]:
        page = await gateway.letters.ListDeadLetters(
            letters.ListDeadLettersRequest(filter=letters.DeadLetterFilter(kernel=kernel))
        )
        return {letter.kernel for letter in page.dead_letters}

    assert await dead("count_primes") == set(ALL[:3])
    assert await dead("count_primes.combinatorial") == {"count_primes.combinatorial"}
