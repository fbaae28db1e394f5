"""Cancelling stops the computation itself, also one that does not listen."""

from datetime import timedelta

from tallymesh import Client, CountPrimes, Job, Simulate
from tests.e2e.conftest import CommandLine
from tests.harness.commands import run, running
from tests.harness.local_mesh import LocalMesh, alive, computing
from tests.harness.polling import eventually_sync
from tests.harness.primes import PRIMES_UP_TO


def test_cancel_stops_work_that_does_not_listen(
    mesh: LocalMesh, client: Client, cli: CommandLine
) -> None:
    work = Simulate(busy=True, ignore_cancel=True)
    work.duration.FromSeconds(3600)
    job = client.submit(work, chunks=2)
    with running(cli.command("jobs", "watch", job.name)) as watch:
        eventually_sync(lambda: len(computing(mesh)) == 2, message="two processes being busy")
        busy = computing(mesh)

        cancellation = job.cancel().cancellation

        assert not any(map(alive, busy)), "what is told as stopped computes no more"
        took = cancellation.stop_time.ToDatetime() - cancellation.request_time.ToDatetime()
        assert took > timedelta(0)
        assert cancellation.request_time.ToDatetime() <= cancellation.acknowledge_time.ToDatetime()
        assert watch.wait(timeout=20) == 3
    assert job.refresh().state == Job.STATE_CANCELLED
    assert job.job.progress.chunks_running == 0
    # The processes that had to be killed were replaced.
    assert client.count_primes(10**6, chunks=8, timeout=30) == PRIMES_UP_TO[10**6]


def test_cancel_stops_formulas(mesh: LocalMesh, client: Client) -> None:
    # Some ten minutes in one call of a library, which only a signal ends.
    job = client.submit(CountPrimes(stop=2**63 - 1, method=CountPrimes.METHOD_COMBINATORIAL))
    eventually_sync(lambda: len(computing(mesh)) == 1, message="a process being busy")
    busy = computing(mesh)

    cancellation = job.cancel().cancellation

    assert not any(map(alive, busy))
    took = cancellation.stop_time.ToDatetime() - cancellation.request_time.ToDatetime()
    assert took > timedelta(0)
    assert client.count_primes(10**12, method="combinatorial", timeout=30) == 37_607_912_018


def test_cancel_goes_on_past_a_job_that_has_ended(client: Client, cli: CommandLine) -> None:
    ended = client.submit(Simulate())
    assert ended.result() == 1
    work = Simulate()
    work.duration.FromSeconds(3600)
    running_on = client.submit(work, chunks=2)
    said = run(cli.command("jobs", "cancel", ended.name, running_on.name))
    assert said.returncode == 1
    assert f"{ended.name} has already succeeded" in said.stderr
    assert f"{running_on.name} is cancelled" in said.stdout
    assert running_on.refresh().state == Job.STATE_CANCELLED
