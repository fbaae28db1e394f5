"""Commands about jobs: list, get, watch, cancel, replay, chunks, logs."""
# ruff: noqa: D301 - \b is click's mark for lines to be left as they stand

from __future__ import annotations

import click

from tallymesh.cli.exits import Exit
from tallymesh.cli.one_by_one import OneByOne
from tallymesh.cli.options import (
    DEFAULT_TIMEOUT,
    Settings,
    common_options,
    duration,
    label_option,
    limit_option,
    pass_settings,
)
from tallymesh.cli.output import write, write_all, write_data, write_listed

_STATES = ("pending", "running", "succeeded", "failed", "cancelled")


@click.group()
@common_options
def jobs() -> None:
    """Look at jobs, watch them, cancel them, replay them.

    A job's NAME may be given with or without its "jobs/".

    \b
    Examples:
      tallymesh jobs list --state running
      tallymesh jobs why 1m80bxc6859yzg00
    """


@jobs.command("list")
@click.option(
    "--state", "states", multiple=True, type=click.Choice(_STATES), help="May be repeated."
)
@click.option("--kernel", default="", help="Only of this kernel: count_primes, add, simulate.")
@click.option("--queue", default="", help="Only of this queue.")
@label_option
@click.option("--since", type=duration, help="Only those accepted in the last: 10m, 2h.")
@limit_option(50)
@common_options
@pass_settings
def list_jobs(
    settings: Settings,
    /,
    *,
    states: tuple[str, ...],
    kernel: str,
    queue: str,
    labels: dict[str, str],
    since: float | None,
    limit: int,
) -> None:
    """List jobs, newest first.

    \b
    Examples:
      tallymesh jobs list --state running --state pending
      tallymesh jobs list --label team=blue --since 2h -o jsonl
    """
    from datetime import UTC, datetime, timedelta

    from tallymesh.cli.job_text import job_table

    with settings.connect() as client:
        found = client.jobs(
            states=states,
            kernel=kernel,
            queue=queue,
            labels=labels,
            created_from=None if since is None else datetime.now(UTC) - timedelta(seconds=since),
            full=not settings.is_table,
            page_size=min(limit + 1, 1000),
        )
        write_listed(settings, "jobs", found, limit, job_table)


@jobs.command()
@click.argument("name")
@common_options
@pass_settings
def get(settings: Settings, name: str) -> None:
    """Show everything about one job.

    \b
    Example:
      tallymesh jobs get 1m80bxc6859yzg00 -o json | jq .progress
    """
    with settings.connect() as client:
        job = client.job(name).refresh()

    from tallymesh.cli.job_text import job_page

    write(settings, job, lambda: job_page(job))


@jobs.command()
@click.argument("name")
@common_options
@pass_settings
def watch(settings: Settings, name: str) -> Exit:
    """Watch a job to its end; its result goes to stdout, as if it had just been submitted.

    The exit code tells how the job ended: 0 succeeded, 1 failed, 3 cancelled.

    \b
    Example:
      tallymesh jobs watch 1m80bxc6859yzg00 -o jsonl
    """
    from tallymesh.cli.follow import follow

    with settings.connect() as client:
        return follow(settings, client.job(name))


@jobs.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--no-wait", is_flag=True, help="Do not wait until its chunks have stopped.")
@common_options
@pass_settings
def cancel(settings: Settings, names: tuple[str, ...], no_wait: bool) -> Exit:
    """Cancel jobs, wait until nothing of them computes any more, and tell how long that took.

    \b
    Example:
      tallymesh jobs cancel 1m80bxc6859yzg00
    """
    from tallymesh.cli.job_text import cancelled_text

    with settings.connect() as client, OneByOne(settings, "jobs", len(names)) as each:
        # All of them first, so that none goes on while another one stops.
        cancelled = [
            handle
            for handle in map(client.job, names)
            if each.make(lambda handle=handle: handle.cancel(wait=False))  # type: ignore[misc]
        ]
        for handle in cancelled:
            if not no_wait and not each.make(
                lambda handle=handle: handle.cancel(timeout=settings.timeout or DEFAULT_TIMEOUT)  # type: ignore[misc]
            ):
                continue
            each.write(handle.job, cancelled_text(handle.job))
    return each.exit


@jobs.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@common_options
@pass_settings
def replay(settings: Settings, names: tuple[str, ...]) -> Exit:
    """Run the chunks of failed jobs again that failed or were never done.

    What is counted stays counted.

    \b
    Example:
      tallymesh jobs replay 1m80bxc6859yzg00 && tallymesh jobs watch 1m80bxc6859yzg00
    """
    with settings.connect() as client, OneByOne(settings, "jobs", len(names)) as each:
        for handle in map(client.job, names):
            if each.make(handle.replay):
                job = handle.job
                each.write(job, f"{job.name} runs again, epoch {job.epoch}")
    return each.exit


@jobs.command()
@click.argument("name")
@common_options
@pass_settings
def why(settings: Settings, name: str) -> None:
    """Tell why a job does not run, runs slowly or has ended as it did, and what to do about it.

    \b
    Example:
      tallymesh jobs why 1m80bxc6859yzg00
    """
    from tallymesh.cli.why import explain

    with settings.connect() as client:
        handle = client.job(name)
        handle.refresh()
        sentences = list(explain(client, handle, settings))
    write_data(settings, {"name": handle.name, "why": sentences}, lambda: "\n".join(sentences))


@jobs.command()
@click.argument("name")
@limit_option(1000)
@common_options
@pass_settings
def chunks(settings: Settings, name: str, limit: int) -> None:
    """List a job's chunks: who computed each, which attempt, when; and why one was given up.

    \b
    Example:
      tallymesh jobs chunks 1m80bxc6859yzg00 -o jsonl | jq -r .worker | sort | uniq -c
    """
    from tallymesh.cli.job_text import chunk_table

    with settings.connect() as client:
        found = client.job(name).chunks(page_size=min(limit + 1, 1000))
        write_listed(settings, "chunks", found, limit, chunk_table)


@jobs.command()
@click.argument("name")
@click.option("--chunk", type=click.IntRange(0, 2**22), help="Only of this chunk.")
@common_options
@pass_settings
def logs(settings: Settings, name: str, chunk: int | None) -> None:
    """Show what a job's chunks have logged and printed, and the traceback of what they raised.

    \b
    Example:
      tallymesh jobs logs 1m80bxc6859yzg00 --chunk 7
    """
    with settings.connect() as client:
        listed = list(client.job(name).logs(chunk))

    from tallymesh.cli.job_text import log_text

    if settings.is_table and not listed:
        settings.note("nothing was logged")
        return
    write_all(settings, "chunk_logs", listed, lambda: "\n".join(map(log_text, listed)))
