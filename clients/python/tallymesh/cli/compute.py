"""Commands that submit a job: primes, nth-prime, add, simulate."""
# ruff: noqa: D301 - \b is click's mark for lines to be left as they stand

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tallymesh.cli.exits import Exit
from tallymesh.cli.options import (
    Settings,
    TakesNumbers,
    common_options,
    duration,
    integer,
    job_options,
    number,
    pass_settings,
)

if TYPE_CHECKING:
    from tallymesh.works import Kind, Method


@click.command(cls=TakesNumbers)
@click.argument("stop", type=integer)
@click.option("--from", "start", type=integer, default=0, help="First number; default 0.")
@click.option(
    "--kind",
    type=click.Choice(["primes", "twins", "triplets", "quadruplets", "quintuplets", "sextuplets"]),
    default="primes",
    help="What to count; default primes.",
)
@click.option(
    "--method",
    type=click.Choice(["auto", "sieve", "combinatorial"]),
    default="auto",
    help="How to count; default: what the mesh estimates to be done first.",
)
@job_options
@common_options
@pass_settings
def primes(
    settings: Settings,
    /,
    *,
    stop: int,
    start: int,
    kind: Kind,
    method: Method,
    **options: Any,
) -> Exit:
    """Count the primes up to and including STOP, or their tuplets.

    The count goes to stdout, progress and a summary to stderr. Ctrl-C detaches: the job goes on. A
    second Ctrl-C cancels it.

    \b
    Examples:
      tallymesh primes 1e14
      tallymesh primes 1e10 --kind twins
      tallymesh primes 1e11 --method sieve
      tallymesh primes 10^11 --from 10^10 --chunks 256
      tallymesh primes 2**40 --abacus primes --detach
      tallymesh primes 1e12 --chunk-timeout 1m --job-timeout 2h --ttl 30d
      tallymesh primes 1e11 -o json | jq -r .result.count_primes.count
    """
    from tallymesh.cli.follow import submit
    from tallymesh.works import make_count_primes

    return submit(settings, make_count_primes(start, stop, kind=kind, method=method), options)


@click.command(cls=TakesNumbers)
@click.argument("n", type=integer)
@job_options
@common_options
@pass_settings
def nth_prime(settings: Settings, /, *, n: int, **options: Any) -> Exit:
    """Find the N-th prime, of which the first is 2.

    \b
    Examples:
      tallymesh nth-prime 1e10
      tallymesh nth-prime 2**50
    """
    from tallymesh.cli.follow import submit
    from tallymesh.works import make_nth_prime

    return submit(settings, make_nth_prime(n), options)


@click.command(cls=TakesNumbers)
@click.argument("numbers", type=number, nargs=-1, required=True)
@job_options
@common_options
@pass_settings
def add(settings: Settings, /, *, numbers: tuple[str, ...], **options: Any) -> Exit:
    """Add NUMBERS exactly, as a job.

    \b
    Examples:
      tallymesh add 2 3
      tallymesh add 0.1 0.2 -5 1e30
    """
    from tallymesh.cli.follow import submit
    from tallymesh.v1.work_pb2 import Add

    return submit(settings, Add(numbers=numbers), options)


@click.command()
@click.option(
    "--duration", "chunk_time", type=duration, default=0.0, help="Time of a chunk: 50ms, 2s."
)
@click.option("--failure-rate", type=float, default=0.0, help="Chance of an attempt to fail.")
@click.option("--crash-rate", type=float, default=0.0, help="Chance to kill its process.")
@click.option("--seed", type=integer, default=0, help="Makes the draws repeatable.")
@click.option("--busy", is_flag=True, help="Compute, instead of sleeping.")
@click.option("--ignore-cancel", is_flag=True, help="Do not stop when asked nicely.")
@job_options
@common_options
@pass_settings
def simulate(
    settings: Settings,
    /,
    *,
    chunk_time: float,
    failure_rate: float,
    crash_rate: float,
    seed: int,
    busy: bool,
    ignore_cancel: bool,
    **options: Any,
) -> Exit:
    """Run chunks that spend time, fail and crash as told.

    It is for trials and drills of a mesh.

    \b
    Examples:
      tallymesh simulate --chunks 200 --duration 100ms
      tallymesh simulate --chunks 64 --failure-rate 0.2 --crash-rate 0.05 --max-attempts 20
      tallymesh simulate --chunks 64 --failure-rate 0.3 --max-attempts 1 --tolerate-failures 40
    """
    from tallymesh.cli.follow import submit
    from tallymesh.v1.work_pb2 import Simulate

    if not 0 <= seed < 2**64:
        raise click.BadParameter(f"{seed} is not in 0 to 2^64 - 1", param_hint="--seed")
    work = Simulate(
        failure_rate=failure_rate,
        crash_rate=crash_rate,
        seed=seed,
        busy=busy,
        ignore_cancel=ignore_cancel,
    )
    work.duration.FromNanoseconds(round(chunk_time * 1e9))
    return submit(settings, work, options)
