"""Answers with several jobs whose works and results are long: none passes what a client takes.

The client here is a bare channel, which refuses any message of more than 4 MiB.
"""

import grpc.aio
import pytest

from tallymesh.v1 import dispatch_service_pb2 as dispatch
from tallymesh.v1 import job_service_pb2 as pb
from tallymesh.v1.job_pb2 import Job
from tallymesh.v1.work_pb2 import CustomResult, CustomWork, Result, Work
from tests.integration.gateway.conftest import Gateway, Worker
from tests.integration.gateway.test_gateway import create, facts

MIB = 1024 * 1024
#: Lengths of works. With its result the last but one takes more than an answer holds.
LENGTHS = [MIB, 2 * MIB, 40, 2 * MIB + MIB // 2, MIB, 4 * MIB - 4096, 40]
TOO_LONG = 4 * MIB - 4096
RESULT = Result(custom=CustomResult(kernel="test.blob", data=b"r" * (MIB - 64)))


@pytest.fixture
async def jobs(gateway: Gateway) -> dict[str, int]:
    """The lengths of the works of ended jobs, by their names; the results have 1 MiB."""
    worker = Worker(gateway, kernels=("test.blob",))
    lengths = {}
    for length in LENGTHS:
        work = Work(custom=CustomWork(kernel="test.blob", data=b"w" * length))
        lengths[(await create(gateway, Job(work=work, chunk_count=1))).name] = length
        answer = await worker.call(capacity=1)
        results = dispatch.ChunkResults(chunks=answer.assignments[0].chunks, result=RESULT)
        assert (await worker.call(results=[results], held=[])).accepted == 1
    return lengths


def check_whole(job: Job, length: int) -> None:
    """Nothing is missing, but for a work that no answer holds."""
    assert job.result == RESULT
    assert job.HasField("work") is (length != TOO_LONG)
    assert not job.HasField("work") or len(job.work.custom.data) == length


async def test_pages_end_before_they_are_too_long(gateway: Gateway, jobs: dict[str, int]) -> None:
    listed: list[Job] = []
    token = ""
    while True:
        page = await gateway.jobs.ListJobs(
            pb.ListJobsRequest(page_size=100, page_token=token, view=pb.JOB_VIEW_FULL)
        )
        assert page.jobs
        listed += page.jobs
        if not (token := page.next_page_token):
            break
    assert [job.name for job in listed] == list(jobs)[::-1]
    for job in listed:
        check_whole(job, jobs[job.name])
    basic = await gateway.jobs.ListJobs(pb.ListJobsRequest(page_size=100))
    assert [job.name for job in basic.jobs] == list(jobs)[::-1]
    assert basic.ByteSize() < 10_000


async def test_batch_that_is_too_long_is_refused_with_the_bound(
    gateway: Gateway, jobs: dict[str, int]
) -> None:
    names = list(jobs)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.jobs.BatchGetJobs(pb.BatchGetJobsRequest(names=names, view=pb.JOB_VIEW_FULL))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    told = facts(caught.value).metadata
    assert (told["field"], told["value"]) == ("names", f"{len(names)} jobs")
    assert "of these the first 1" in told["bound"]
    for name in names:
        answer = await gateway.jobs.BatchGetJobs(
            pb.BatchGetJobsRequest(names=[name], view=pb.JOB_VIEW_FULL)
        )
        check_whole(answer.jobs[0], jobs[name])
    assert len((await gateway.jobs.BatchGetJobs(pb.BatchGetJobsRequest(names=names))).jobs) == 7


async def test_collected_jobs_come_in_several_messages(
    gateway: Gateway, jobs: dict[str, int]
) -> None:
    messages = [
        answer async for answer in gateway.jobs.CollectJobs(pb.CollectJobsRequest(names=list(jobs)))
    ]
    collected = [job for answer in messages for job in answer.jobs]
    assert [job.name for job in collected] == list(jobs)
    for job in collected:
        check_whole(job, jobs[job.name])
    assert len(messages) > 4


async def test_accepted_batch_that_is_too_long_to_be_told_whole_comes_without_works(
    gateway: Gateway,
) -> None:
    # Each request is a little shorter than what is answered to it.
    work = Work(custom=CustomWork(kernel="test.blob", data=b"w" * 4096))
    request = pb.BatchCreateJobsRequest(
        requests=[pb.CreateJobRequest(job=Job(work=work, chunk_count=1)) for _ in range(1000)]
    )
    answer = await gateway.jobs.BatchCreateJobs(request)
    assert len(answer.jobs) == 1000
    assert not any(job.HasField("work") for job in answer.jobs)
