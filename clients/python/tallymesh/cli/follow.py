"""Following a job to its end: progress, result, exit code, and what Ctrl-C does meanwhile."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from tallymesh.cli.exits import Exit
from tallymesh.cli.options import Settings
from tallymesh.cli.output import to_json, write

if TYPE_CHECKING:
    from tallymesh.errors import TallymeshError
    from tallymesh.jobs import JobHandle
    from tallymesh.works import AnyWork

_SECOND_CTRL_C_SECONDS = 2.0
_POSTING_SECONDS = 5.0
_POLL_SECONDS = 0.05


def submit(settings: Settings, work: AnyWork, options: dict[str, Any]) -> Exit:
    """Submits a job and follows it, unless told to detach, or to do without a job.

    Args:
        settings: Where the mesh is, and how to write.
        work: What to compute.
        options: What `job_options` took from the command line.

    Returns:
        How the command ends.
    """
    chosen = {name: value for name, value in options.items() if value is not None}
    if not settings.queued:
        from tallymesh.cli import at_once

        return at_once.run(settings, work, chosen.get("queue", ""))
    detach = chosen.pop("detach")
    with settings.connect() as client:
        handle = client.submit(work, **chosen)
        if detach:
            write(settings, handle.job, lambda: handle.name)
            settings.note(f"watch it with: {settings.command(f'jobs watch {handle.name}')}")
            return Exit.OK
        return follow(settings, handle)


def follow(settings: Settings, handle: JobHandle) -> Exit:
    """Shows a job's progress until it ends, then its result.

    Returns:
        How the job ended, or OK if the user detached from it.
    """
    from tallymesh.errors import Unreachable

    lost = False
    try:
        with settings.open_display() as display:

            def tell(error: TallymeshError) -> None:
                nonlocal lost
                if not lost:
                    display.notice(f"lost {handle.name} ({error.message}); reattaching")
                lost = True

            for event in handle.events(timeout=settings.timeout, on_cut=tell):
                if lost:
                    display.notice(f"back on {handle.name}")
                    lost = False
                if settings.output == "jsonl":
                    click.echo(to_json(event))
                display.show(handle.job)
    except KeyboardInterrupt:
        return _interrupted(settings, handle)
    except Unreachable:
        if lost:
            click.echo(
                f"watch it again with: {settings.command(f'jobs watch {handle.name}')}", err=True
            )
        raise
    return _conclude(settings, handle)


def _conclude(settings: Settings, handle: JobHandle) -> Exit:
    from tallymesh.cli.job_text import failure_text, result_text, summary
    from tallymesh.v1.job_pb2 import Job

    succeeded = handle.job.state == Job.STATE_SUCCEEDED
    if succeeded and settings.is_table:
        click.echo(result_text(handle.job.result))
    posting = _await_posting(handle) if succeeded and handle.job.abacus else ""
    if settings.output == "json":
        write(settings, handle.job, str)
    job = handle.job
    if job.state == Job.STATE_FAILED:
        click.echo(f"error: {job.name} failed: {failure_text(job.error)}", err=True)
        again = settings.command(f"jobs replay {handle.name}")
        click.echo(f"  run what failed again: {again}", err=True)
        return Exit.FAILED
    if job.state == Job.STATE_CANCELLED:
        click.echo(f"{job.name} was cancelled", err=True)
        return Exit.CANCELLED
    settings.note(summary(job, settings))
    if job.abacus_posting.error:
        click.echo(posting, err=True)
    elif posting:
        settings.note(posting)
    return Exit.OK


def _await_posting(handle: JobHandle) -> str:
    """Waits a little for the job's total to stand on its abacus, and tells how that went."""
    from tallymesh.wording import grouped

    deadline = time.monotonic() + _POSTING_SECONDS
    while True:
        posting = handle.job.abacus_posting
        if posting.error:
            return f"error: {handle.job.abacus} did not take the total: {posting.error}"
        if posting.HasField("post_time"):
            return f"{handle.job.abacus} is now {grouped(posting.sum)}"
        if time.monotonic() >= deadline:
            return f"{handle.job.abacus} has not taken the total yet; it will, once"
        time.sleep(_POLL_SECONDS)
        handle.refresh()


def _interrupted(settings: Settings, handle: JobHandle) -> Exit:
    from tallymesh.errors import JobEnded

    try:
        settings.note(
            f"\ndetaching from {handle.name}; press Ctrl-C again within"
            f" {_SECOND_CTRL_C_SECONDS:g} s to cancel the job"
        )
        time.sleep(_SECOND_CTRL_C_SECONDS)
    except KeyboardInterrupt:
        try:
            handle.cancel(wait=False)
        except JobEnded:
            handle.refresh()
        return _conclude(settings, handle)
    settings.note(f"{handle.name} goes on")
    settings.note(f"  watch it again: {settings.command(f'jobs watch {handle.name}')}")
    settings.note(f"  cancel it:      {settings.command(f'jobs cancel {handle.name}')}")
    return Exit.OK
