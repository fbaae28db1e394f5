"""kill -9 of any process in the middle of a count: the count is exact, and every watch ends."""

import json
import os
import signal
import time
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from google.protobuf.duration_pb2 import Duration

from tallymesh import Chunk, Client, CountPrimes, Job, Simulate, TallymeshError, custom
from tallymesh.jobs import JobHandle
from tests.harness.commands import running, tallymesh
from tests.harness.local_mesh import LocalMesh, computing, start_mesh
from tests.harness.polling import eventually_sync
from tests.harness.primes import PRIMES_UP_TO
from tests.harness.processes import Processes

TO_3_10_10 = CountPrimes(stop=3 * 10**10, method=CountPrimes.METHOD_SIEVE)


def await_share(job: JobHandle, share: float, timeout: float = 60.0) -> None:
    """Waits until so much of a running job is done."""

    def reached() -> bool:
        try:
            job.refresh()
        except TallymeshError:  # whoever answers is being started again
            return False
        assert not job.ended, "the job ended too soon for this test"
        return job.job.progress.fraction >= share

    eventually_sync(reached, timeout=timeout, message=f"{share:.0%} of {job.name} being done")


def assert_exact(job: Job, count: int) -> None:
    """The job has the right count, to which every chunk contributed once."""
    assert job.state == Job.STATE_SUCCEEDED
    assert job.result.count_primes.count == count
    assert job.progress.running_total == str(count)
    assert sum(job.handled_by.values()) == job.progress.chunks_done == job.chunk_count


def simulate(seconds: float, *, busy: bool = False, ignore_cancel: bool = False) -> Simulate:
    """Work that takes so long a chunk."""
    duration = Duration()
    duration.FromMilliseconds(round(1000 * seconds))
    return Simulate(duration=duration, busy=busy, ignore_cancel=ignore_cancel)


@pytest.mark.timeout(240)
def test_worker_gateway_and_edge_die_in_turn_while_10_11_is_counted(
    mesh: LocalMesh, client: Client
) -> None:
    with running(
        tallymesh(mesh.address, *["primes", "1e11", "--method", "sieve", "-o", "json"])
    ) as watch:
        (accepted,) = eventually_sync(lambda: list(client.jobs()), message="the job")
        job = client.job(accepted.name)
        for share, victim in ((0.1, "worker-1"), (0.3, "gateway-1"), (0.5, "edge")):
            await_share(job, share)
            mesh.kill(victim)
        data, said = watch.communicate(timeout=180)

    assert watch.returncode == 0, said
    assert json.loads(data)["result"]["count_primes"]["count"] == str(PRIMES_UP_TO[10**11])
    assert_exact(job.refresh(), PRIMES_UP_TO[10**11])
    assert job.job.lost_leases > 0
    assert job.job.failed_attempts == 0
    assert f"lost {job.name}" in said
    assert f"back on {job.name}" in said
    assert "Traceback" not in said


def test_everything_but_the_store_dies_at_once(mesh: LocalMesh, client: Client) -> None:
    cuts: list[TallymeshError] = []
    job = client.submit(TO_3_10_10, abacus="counted")
    watch = job.watch(timeout=100, on_cut=cuts.append)
    next(seen for seen in watch if seen.progress.chunks_done > 5)

    mesh.kill("worker-1", "worker-2", "gateway-1", "abacus-1", "edge")

    *_, last = watch
    assert cuts
    assert_exact(last, PRIMES_UP_TO[3 * 10**10])
    total = client.abacus("counted")
    eventually_sync(lambda: total.read().add_count, timeout=20, message="the total landing")
    assert total.sum == PRIMES_UP_TO[3 * 10**10]
    assert job.result() == PRIMES_UP_TO[3 * 10**10]


def test_a_compute_process_dies(mesh: LocalMesh, client: Client) -> None:
    job = client.submit(CountPrimes(stop=4 * 10**10), chunks=4)
    victim = next(iter(eventually_sync(lambda: computing(mesh, within=0.05))))

    os.kill(victim, signal.SIGKILL)

    assert job.result(timeout=60) == PRIMES_UP_TO[4 * 10**10]
    assert_exact(job.job, PRIMES_UP_TO[4 * 10**10])
    assert job.job.failed_attempts == 1
    assert job.job.lost_leases == 0
    assert sorted(chunk.attempt for chunk in job.chunks()) == [1, 1, 1, 2]


def test_the_store_dies(processes: Processes, folder: Path) -> None:
    kept = ("--data", folder / "data", "--durability", "fsync")
    mesh = start_mesh(processes, folder, "--slots", "1", *kept)
    with Client(mesh.address) as client:
        job = client.submit(TO_3_10_10, abacus="counted")
        await_share(job, 0.2)

        mesh.kill("valkey")

        assert job.result(timeout=100) == PRIMES_UP_TO[3 * 10**10]
        assert_exact(job.refresh(), PRIMES_UP_TO[3 * 10**10])
        total = client.abacus("counted")
        eventually_sync(lambda: total.read().add_count, timeout=20, message="the total landing")
        assert total.read().value == str(PRIMES_UP_TO[3 * 10**10])


def test_what_a_dead_worker_held_is_leased_again_at_once(mesh: LocalMesh, client: Client) -> None:
    job = client.submit(simulate(60), chunks=1)

    def owner() -> str:
        (chunk,) = job.chunks()
        return chunk.worker

    victim = eventually_sync(owner, message="the chunk being leased")
    pid = mesh.pids[victim]
    assert pid is not None

    os.kill(pid, signal.SIGKILL)

    eventually_sync(lambda: owner() not in {"", victim}, message="another worker having the chunk")
    # It was given up as dead, before it could be for being silent for long.
    assert "worker lost" not in mesh.process.output()
    assert job.refresh().lost_leases == 1
    assert job.job.failed_attempts == 0
    job.cancel()


def test_the_first_result_counts_though_it_is_a_sleepers(mesh: LocalMesh, client: Client) -> None:
    job = client.submit(simulate(2, busy=True), chunks=4)

    def chunk(index: int) -> Chunk:
        return list(job.chunks())[index]

    eventually_sync(lambda: len(computing(mesh)) == 2, message="both computing")
    # Each computes the first of those that it has.
    held = {chunk.worker: chunk.index for chunk in reversed(list(job.chunks())) if chunk.worker}
    (early, its), (late, others) = held.items()
    pids = {name: mesh.pids[name] or 0 for name in held}
    asleep = time.time()
    try:
        for pid in pids.values():
            os.kill(pid, signal.SIGSTOP)  # their compute processes run on, and end
        eventually_sync(
            lambda: job.refresh().lost_leases >= 2, timeout=20, message="both being missed"
        )
        os.kill(pids[early], signal.SIGCONT)
        # It hands in what it had, and computes what the other had.
        eventually_sync(lambda: chunk(others).state == Chunk.STATE_DONE, message="both being done")
        os.kill(pids[late], signal.SIGCONT)
        eventually_sync(
            lambda: job.refresh().refused_duplicates, message="the late result being refused"
        )
    finally:
        for pid in pids.values():
            os.kill(pid, signal.SIGCONT)
    assert job.result(timeout=20) == 4
    assert job.refresh().refused_duplicates == 1
    assert chunk(others).refused_duplicates == 1
    assert [chunk(index).worker for index in (its, others)] == [early, early]
    # What it handed in was computed while it slept, and not again.
    assert chunk(its).start_time.ToMilliseconds() / 1000 < asleep
    assert chunk(others).start_time.ToMilliseconds() / 1000 > asleep
    assert job.job.failed_attempts == 0


def test_a_chunk_longer_than_a_worker_may_be_silent_runs_once(
    processes: Processes, folder: Path
) -> None:
    # More than there are cores, so that the workers themselves have to fight for one.
    mesh = start_mesh(processes, folder, "--ephemeral", "--slots", "3")
    with Client(mesh.address) as client:
        job = client.submit(simulate(7, busy=True, ignore_cancel=True), chunks=6)
        eventually_sync(lambda: job.refresh().progress.chunks_running == 6, message="all running")

        assert job.result(timeout=40) == 6

        assert {chunk.attempt for chunk in job.chunks()} == {1}
        assert sum(job.refresh().handled_by.values()) == 6
        assert job.job.lost_leases == 0
        assert job.job.failed_attempts == 0
        assert job.job.refused_duplicates == 0


def test_a_worker_that_wakes_up_late_counts_nothing_twice(mesh: LocalMesh, client: Client) -> None:
    job = client.submit(CountPrimes(stop=3 * 10**10), chunks=60)
    await_share(job, 0.1)
    sleeper = mesh.pids["worker-1"]
    assert sleeper is not None
    os.kill(sleeper, signal.SIGSTOP)
    try:
        eventually_sync(lambda: job.refresh().lost_leases, timeout=30, message="it being missed")
    finally:
        os.kill(sleeper, signal.SIGCONT)
    assert job.result(timeout=60) == PRIMES_UP_TO[3 * 10**10]
    assert_exact(job.refresh(), PRIMES_UP_TO[3 * 10**10])
    eventually_sync(lambda: client.health().worker_count == 2, message="it being back")


def test_what_a_kernel_has_started_ends_with_its_worker(processes: Processes, folder: Path) -> None:
    mesh = start_mesh(processes, folder, "--workers", "1", "--kernels", "tests.harness.bad_kernels")
    mark = f"mark-{uuid4().hex}"
    with Client(mesh.address) as client:
        assert client.run(custom("bad.forks", {"mark": mark})) == 1
    started = [one for one in psutil.process_iter() if mark in command_line(one)]
    assert started
    worker = mesh.pids["worker-1"]
    assert worker is not None
    os.kill(worker, signal.SIGKILL)
    eventually_sync(lambda: not any(map(is_alive, started)), timeout=10, message="their end")


def command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
