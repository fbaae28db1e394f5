"""The command that computes at once, without a job: the commands that submit one, in its place."""
# ruff: noqa: D301 - \b is click's mark for lines to be left as they stand

from __future__ import annotations

import time
from importlib import import_module
from typing import TYPE_CHECKING

import click

from tallymesh.cli.exits import Exit
from tallymesh.cli.options import Settings, common_options, job_options, pass_settings
from tallymesh.cli.output import to_json

if TYPE_CHECKING:
    from tallymesh.v1.job_service_pb2 import ComputeResponse
    from tallymesh.works import AnyWork

#: Commands that submit a job and may do without one: where each is, and what its help shows.
_COMMANDS = {
    "primes": ("compute", "primes 1e9 --from 1e8"),
    "nth-prime": ("compute", "nth-prime 1e10"),
    "add": ("compute", "add 0.1 0.2"),
    "simulate": ("compute", "simulate --duration 10s --timeout 2s"),
    "run": ("custom", 'run acme.score --json \'{"first": 1, "last": 10}\''),
}


def _of_jobs() -> set[str]:
    """The names of the options that only a job has: all but its queue."""

    @job_options
    def anything() -> None: ...

    return {option.name for option in anything.__click_params__ if option.name} - {"queue"}  # type: ignore[attr-defined]


class _AtOnce(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        home, example = _COMMANDS[cmd_name]
        module = import_module(f"tallymesh.cli.{home}")
        queued: click.Command = getattr(module, cmd_name.replace("-", "_"))
        left_out = _of_jobs()
        summary = queued.get_short_help_str(80)
        return type(queued)(
            cmd_name,
            callback=queued.callback,
            params=[one for one in queued.params if one.name not in left_out],
            help=f"{summary}\n\nAt once and without a job.\n\n\b\nExample:\n  tallymesh compute"
            f" {example}",
        )


@click.group(cls=_AtOnce)
@common_options
@pass_settings
def compute(settings: Settings) -> None:
    """Compute at once, as one chunk on one worker, without a job.

    Nothing is queued or kept. Progress goes to stderr, the result to stdout. Ctrl-C and --timeout
    stop the computation. Where every worker is busy it fails at once: a job would wait.

    \b
    Examples:
      tallymesh compute primes 1e9
      tallymesh compute add 0.1 0.2
      tallymesh compute simulate --duration 10s --timeout 2s
    """
    settings.queued = False


def run(settings: Settings, work: AnyWork, queue: str) -> Exit:
    """Computes, shows how far it is, and writes the result.

    Args:
        settings: Where the mesh is, and how to write.
        work: What to compute.
        queue: The queue whose workers are asked; "" for the default.
    """
    from tallymesh.cli.job_text import method_text, result_text

    began = time.monotonic()
    last: ComputeResponse | None = None
    with settings.connect() as client:
        answers = client.computing(work, queue=queue, timeout=settings.timeout)
        with settings.open_display() as display:
            for last in answers:
                if settings.output == "jsonl":
                    click.echo(to_json(last))
                display.show_share(f"computing on {last.handled_by}", last.fraction)
    assert last is not None, "a stream that ends without a result raises"
    if settings.output == "json":
        click.echo(to_json(last, indent=2))
    elif settings.is_table:
        click.echo(result_text(last.result))
    took = time.monotonic() - began
    if method := method_text(last.result.count_primes):
        settings.note(f"method {method}")
    settings.note(f"computed by {last.handled_by} in {_duration(took)}, without a job")
    return Exit.OK


def _duration(seconds: float) -> str:
    from tallymesh.wording import duration

    return duration(seconds)
