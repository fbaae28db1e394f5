"""Jobs of every sort that end in every way, to be run over and over.

They are submitted without request ids, which the mesh remembers for 24 h, so that nothing of them
is to be left once they have expired.
"""

from collections.abc import Sequence

import grpc
from google.protobuf.duration_pb2 import Duration

from tallymesh import Add, Job, Simulate, Work
from tallymesh.v1.job_service_pb2 import (
    BatchCreateJobsRequest,
    CancelJobRequest,
    CollectJobsRequest,
    CreateJobRequest,
)
from tallymesh.v1.job_service_pb2_grpc import JobServiceStub

_SECONDS = 120.0


def run_jobs(channel: grpc.Channel, jobs: Sequence[Job]) -> Sequence[Job]:
    """Submits jobs and returns them as they ended."""
    stub = JobServiceStub(channel)
    asked = CollectJobsRequest(names=_submit(stub, jobs))
    ended = [job for answer in stub.CollectJobs(asked, timeout=_SECONDS) for job in answer.jobs]
    assert len(ended) == len(jobs)
    return ended


def run_mixture(channel: grpc.Channel, large: int, ttl: Duration) -> int:
    """Runs jobs of one chunk, of a hundred and of `large`; some merge, fail or are cancelled.

    Args:
        channel: To a gateway, or to the edge.
        large: Chunks of the largest.
        ttl: How long each is kept after its end.

    Returns:
        How many chunks were counted.
    """
    stub = JobServiceStub(channel)
    endless = Simulate(duration=Duration(seconds=3600))
    for name in _submit(stub, [_simulate(endless, 2, ttl) for _ in range(5)]):
        stub.CancelJob(CancelJobRequest(name=name), timeout=_SECONDS)
    numbers = Work(add=Add(numbers=["0.1"] * 40))
    fails, often_fails = Simulate(failure_rate=1), Simulate(failure_rate=0.3)
    jobs = [
        *(_simulate(Simulate(), 1, ttl) for _ in range(300)),
        *(_simulate(Simulate(), 100, ttl) for _ in range(30)),
        *(Job(work=numbers, chunk_count=8, ttl=ttl) for _ in range(10)),
        *(_simulate(fails, 5, ttl) for _ in range(10)),
        *(_simulate(often_fails, 20, ttl, tolerate_failures=20) for _ in range(10)),
        _simulate(Simulate(), large, ttl),
    ]
    ended = run_jobs(channel, jobs)
    assert {job.state for job in ended} == {Job.STATE_SUCCEEDED, Job.STATE_FAILED}
    return sum(job.progress.chunks_done for job in ended)


def _simulate(work: Simulate, chunks: int, ttl: Duration, *, tolerate_failures: int = 0) -> Job:
    return Job(
        work=Work(simulate=work),
        chunk_count=chunks,
        ttl=ttl,
        max_attempts=1,
        tolerate_failures=tolerate_failures,
    )


def _submit(stub: JobServiceStub, jobs: Sequence[Job]) -> Sequence[str]:
    request = BatchCreateJobsRequest(requests=[CreateJobRequest(job=job) for job in jobs])
    return [job.name for job in stub.BatchCreateJobs(request, timeout=_SECONDS).jobs]
