"""kill -9 of any process in the middle of a count: the count is exact, and every watch ends."""

import json
import os
import signal
from pathlib import Path

import pytest

from tallymesh import Client, CountPrimes, Job, TallymeshError
from tallymesh.jobs import JobHandle
from tests.harness.commands import running, tallymesh
from tests.harness.local_mesh import LocalMesh, computing, start_mesh
from tests.harness.polling import eventually_sync
from tests.harness.primes import PRIMES_UP_TO
from tests.harness.processes import Processes


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


@pytest.mark.timeout(240)
def test_worker_gateway_and_edge_die_in_turn_while_10_11_is_counted(
    mesh: LocalMesh, client: Client
) -> None:
    with running(tallymesh(mesh.address, "primes", "1e11", "-o", "json")) as watch:
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
    job = client.submit(CountPrimes(stop=3 * 10**10), abacus="counted")
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
        job = client.submit(CountPrimes(stop=3 * 10**10), abacus="counted")
        await_share(job, 0.2)

        mesh.kill("valkey")

        assert job.result(timeout=100) == PRIMES_UP_TO[3 * 10**10]
        assert_exact(job.refresh(), PRIMES_UP_TO[3 * 10**10])
        total = client.abacus("counted")
        eventually_sync(lambda: total.read().add_count, timeout=20, message="the total landing")
        assert total.read().value == str(PRIMES_UP_TO[3 * 10**10])


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
