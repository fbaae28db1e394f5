"""`tallymesh demo`: a mesh that counts primes, watched live, and where the time went."""

import asyncio
import socket
import time
from dataclasses import dataclass

import click

from tallymesh import Client, CountPrimes, Job
from tallymesh.cli import text
from tallymesh.display import open_display
from tallymesh.wording import counted, duration, seconds_of
from tallymesh_local.console import Console
from tallymesh_local.mesh import Mesh
from tallymesh_local.plan import MeshOptions
from tallymesh_local.up import until_signal

#: Ranges that are counted, as a power of ten, and how many primes are known to lie below.
_KNOWN = {10: 455_052_511, 11: 4_118_054_813}
_NEXT_STEPS = """
Try next:
  tallymesh up                         the same mesh, to keep; its page is at http://localhost:8080
  tallymesh primes 1e14                count further, without a sieve
  tallymesh primes 1e12 --method sieve and with one; Ctrl-C leaves the job running
  tallymesh up --data ./mesh-data      jobs and sums survive a restart
  kill -9 a worker meanwhile           the count stays exact"""


@dataclass(frozen=True, slots=True)
class _Run:
    """A job that was watched to its end, and the seconds that this took here."""

    job: Job
    submitting: float
    whole: float


async def run_demo(*, port: int | None, workers: int, slots: int | None, gateways: int) -> int:
    """Runs the demonstration; returns 0 if every count is right, 1 otherwise.

    Raises:
        CannotStart: The mesh does not come up.
    """
    options = MeshOptions(
        workers=workers,
        slots=slots,
        gateways=gateways,
        port=port or _free_port(),
        log_level="warning",
    )
    console = Console()
    mesh = Mesh(options, console)
    code = await until_signal(_demonstrate(mesh, options), mesh, console)
    return 1 if code is None else code


async def _demonstrate(mesh: Mesh, options: MeshOptions) -> int:
    begun = time.monotonic()
    click.echo("Starting a mesh: Valkey, abacus, gateway, workers, Envoy; all real.")
    async with mesh:
        address = mesh.addresses[0]
        click.echo(f"Ready after {time.monotonic() - begun:.1f} s at http://{address}.")
        right = True
        # Closed first when a signal comes, so that the thread's watch ends.
        with Client(address) as client:
            for power, known in _KNOWN.items():
                click.echo(f"\nCounting the primes below 10^{power}, through Envoy:")
                run = await asyncio.to_thread(_count, client, 10**power)
                right &= _report(run, known, options)
    if right:
        click.echo(_NEXT_STEPS)
    return 0 if right else 1


def _count(client: Client, stop: int) -> _Run:
    begun = time.monotonic()
    with open_display() as display:
        # Formulas would be done in milliseconds, and there would be nothing to see.
        handle = client.submit(CountPrimes(stop=stop, method=CountPrimes.METHOD_SIEVE))
        submitting = time.monotonic() - begun
        for job in handle.watch():
            display.show(job)
    return _Run(handle.job, submitting, time.monotonic() - begun)


def _report(run: _Run, known: int, options: MeshOptions) -> bool:
    job = run.job
    if job.state != Job.STATE_SUCCEEDED:
        click.echo(f"  {Job.State.Name(job.state)}: {job.error.message}")
        return False
    count = job.result.count_primes.count
    right = count == known
    waiting = text.between(job.create_time, job.start_time)
    computing = text.between(job.start_time, job.end_time)
    busy = seconds_of(job.compute_time)
    slots = options.workers * options.slots_each
    shares = ", ".join(f"{name} {chunks:,}" for name, chunks in sorted(job.handled_by.items()))
    verdict = "as is known" if right else f"WRONG: it is {known:,}"
    click.echo(f"  {count:,} primes, {verdict}, in {duration(run.whole)}. Where the time went:")
    rows = [
        ("submitting", f"{duration(run.submitting)}, by this program"),
        ("waiting", f"{duration(waiting)}, from accepted to the first chunk given out"),
        ("computing", f"{duration(computing)}, {job.chunk_count:,} chunks: {shares}"),
        (
            "processor time",
            f"{duration(busy)}, {busy / slots / computing:.0%} of "
            f"{counted(slots, 'slot')} in that time",
        ),
        (
            "all the rest",
            f"{duration(run.whole - busy / slots)}: handing out, counting, and processors "
            "that other programs had",
        ),
    ]
    for name, said in rows:
        click.echo(f"    {name:<15} {said}")
    return right


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
