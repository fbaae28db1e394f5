"""Workers leave in the middle of work: nothing is lost, and no attempt is spent."""

import os
import signal
from pathlib import Path

from google.protobuf.duration_pb2 import Duration

from tallymesh import Client, Simulate
from tallymesh.jobs import JobHandle
from tests.harness.local_mesh import LocalMesh, alive, await_computing, start_mesh
from tests.harness.polling import eventually_sync
from tests.harness.processes import Processes

GRACE_SECONDS = 10


def leave(mesh: LocalMesh, worker: str) -> None:
    """Has a worker leave by SIGTERM, and waits until it has and another stands in its place."""
    pid = mesh.pids[worker]
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    eventually_sync(
        lambda: mesh.pids[worker] not in {None, pid},
        timeout=GRACE_SECONDS,
        message="it leaving within its grace",
    )


def await_chunks(jobs: list[JobHandle], count: int) -> None:
    """Waits until so many more chunks are done."""

    def done() -> int:
        return sum(job.refresh().progress.chunks_done for job in jobs)

    goal = done() + count
    eventually_sync(lambda: done() >= goal, timeout=30, message="the jobs going on")


def test_workers_leave_under_load(processes: Processes, folder: Path) -> None:
    mesh = start_mesh(
        processes, folder, "--ephemeral", "--slots", "1", "--drain-grace", str(GRACE_SECONDS)
    )
    with Client(mesh.address) as client:
        work = Simulate(duration=Duration(nanos=1_000_000))
        jobs = [client.submit(work, chunks=1_500) for _ in range(4)]
        for worker in ("worker-1", "worker-2"):
            await_chunks(jobs, 300)
            leave(mesh, worker)

        assert [job.result(timeout=60) for job in jobs] == [1_500] * 4
        for job in jobs:
            told = job.refresh()
            assert told.failed_attempts == 0
            assert told.lost_leases == 0
            assert {chunk.attempt for chunk in job.chunks()} == {1}
    said = mesh.process.output()
    assert said.count("ended with exit code 0") == 2


def test_a_chunk_without_end_goes_to_another_worker(processes: Processes, folder: Path) -> None:
    mesh = start_mesh(processes, folder, "--ephemeral", "--slots", "1", "--drain-grace", "1")
    with Client(mesh.address) as client:
        work = Simulate(busy=True, ignore_cancel=True, duration=Duration(seconds=3600))
        job = client.submit(work, chunks=1)

        def owner() -> str:
            (chunk,) = job.chunks()
            return chunk.worker

        first = eventually_sync(owner, message="the chunk being leased")
        (busy,) = await_computing(mesh, 1)
        leave(mesh, first)
        assert not alive(busy)
        eventually_sync(lambda: owner() not in {"", first}, message="another having it")
        (chunk,) = job.chunks()
        assert chunk.attempt == 1
        assert job.refresh().failed_attempts == 0
        assert job.job.lost_leases == 0
        job.cancel()
    assert f"{first} ended with exit code 0" in mesh.process.output()
