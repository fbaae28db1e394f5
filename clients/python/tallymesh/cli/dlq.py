"""Commands about dead letters: list, show, replay, delete."""
# ruff: noqa: D301 - \b is click's mark for lines to be left as they stand

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tallymesh.cli import text
from tallymesh.cli.options import Settings, common_options, limit_option, pass_settings
from tallymesh.cli.output import write, write_listed
from tallymesh.wording import counted

if TYPE_CHECKING:
    from tallymesh.v1.dead_letter_service_pb2 import DeadLetter, DeadLetterGroup

Function = TypeVar("Function", bound=Callable[..., Any])

_LIMIT = 50
_MESSAGE_WIDTH = 80


def _conditions(function: Function) -> Function:
    for option in (
        click.option(
            "--reason", metavar="REASON", help="Only of this reason, such as chunk_failed."
        ),
        click.option("--kernel", metavar="NAME", help="Only of this kernel, such as simulate."),
        click.option("--job", metavar="NAME", help="Only of this job."),
    ):
        function = option(function)
    return function


def _changing(function: Function) -> Function:
    for option in (
        click.option("--dry-run", is_flag=True, help="Only count; change nothing."),
        _conditions,
        click.option("--group", metavar="GROUP", help="Only of this kind of error."),
        click.argument("names", nargs=-1, metavar="[LETTER]..."),
    ):
        function = option(function)
    return function


@click.group()
@common_options
def dlq() -> None:
    """Look at dead letters, replay them, delete them.

    A chunk that has failed as often as it may, or has lost its worker too often, is a dead letter
    until it is replayed or deleted, or its job expires.

    \b
    Examples:
      tallymesh dlq list
      tallymesh dlq show 5f0c9a1d2b3e
      tallymesh dlq replay --group 5f0c9a1d2b3e --dry-run
      tallymesh dlq delete jobs/1m80bxc6859yzg00/chunks/7
    """


@dlq.command("list")
@limit_option(_LIMIT)
@common_options
@pass_settings
def list_groups(settings: Settings, limit: int) -> None:
    """List the kinds of error with their counts, the one seen last first.

    \b
    Example:
      tallymesh dlq list -o jsonl | jq -r '.name + " " + .count'
    """
    with settings.connect() as client:
        found = client.dead_letters.groups(page_size=min(limit + 1, 1000))
        write_listed(settings, "groups", found, limit, _group_table)


@dlq.command()
@click.argument("group", required=False)
@_conditions
@limit_option(_LIMIT)
@common_options
@pass_settings
def show(settings: Settings, /, *, limit: int, **conditions: str | None) -> None:
    """Show dead letters, all or those of a GROUP, the newest first.

    \b
    Examples:
      tallymesh dlq show 5f0c9a1d2b3e
      tallymesh dlq show --job 1m80bxc6859yzg00 -o json
    """
    chosen: Any = {name: value for name, value in conditions.items() if value is not None}
    with settings.connect() as client:
        found = client.dead_letters.list(page_size=min(limit + 1, 1000), **chosen)
        write_listed(settings, "dead_letters", found, limit, _letter_table)


@dlq.command()
@_changing
@common_options
@pass_settings
def replay(settings: Settings, /, *, dry_run: bool, **conditions: Any) -> None:
    """Run dead letters again: those to which all conditions apply.

    Their attempts begin anew. A failed job is replayed for it. Letters of jobs that have succeeded
    or were cancelled stay.

    \b
    Examples:
      tallymesh dlq replay --group 5f0c9a1d2b3e
      tallymesh dlq replay --kernel simulate --reason chunk_crashed --dry-run
      tallymesh dlq replay jobs/1m80bxc6859yzg00/chunks/7
    """
    chosen = _demand_some(conditions)
    with settings.connect() as client:
        answer = client.dead_letters.replay(validate_only=dry_run, **chosen)

    def line() -> str:
        verb = "would run" if dry_run else "run" if answer.replayed != 1 else "runs"
        said = f"{counted(answer.replayed, 'dead letter')} {verb} again"
        if answer.skipped:
            said += f", {answer.skipped:,} of jobs that have ended otherwise stay"
        return "\n".join([said, *(f"  {job}" for job in answer.jobs)])

    write(settings, answer, line)


@dlq.command()
@_changing
@common_options
@pass_settings
def delete(settings: Settings, /, *, dry_run: bool, **conditions: Any) -> None:
    """Forget dead letters: those to which all conditions apply.

    Their jobs stay as they are.

    \b
    Examples:
      tallymesh dlq delete --group 5f0c9a1d2b3e
      tallymesh dlq delete --job 1m80bxc6859yzg00 --dry-run
    """
    chosen = _demand_some(conditions)
    with settings.connect() as client:
        answer = client.dead_letters.delete(validate_only=dry_run, **chosen)

    verb = "would be deleted" if dry_run else "deleted"
    write(settings, answer, lambda: f"{counted(answer.deleted, 'dead letter')} {verb}")


def _demand_some(conditions: dict[str, Any]) -> dict[str, Any]:
    chosen = {name: value for name, value in conditions.items() if value}
    if not chosen:
        raise click.UsageError(
            "say which: name letters, or give --group, --job, --kernel or --reason"
        )
    return chosen


def _group_table(groups: Sequence[DeadLetterGroup]) -> str:
    from tallymesh.works import reason_name

    rows = [
        (
            group.name.removeprefix("deadLetterGroups/"),
            text.number(group.count),
            group.kernel,
            reason_name(group.reason),
            text.clock(group.first_fail_time),
            text.clock(group.last_fail_time),
            text.shortened(group.message, _MESSAGE_WIDTH),
        )
        for group in groups
    ]
    headers = ("GROUP", "COUNT", "KERNEL", "REASON", "FIRST", "LAST", "MESSAGE")
    return text.table(headers, rows, right="COUNT")


def _letter_table(letters: Sequence[DeadLetter]) -> str:
    from tallymesh.works import reason_name

    rows = [
        (
            letter.name,
            reason_name(letter.reason),
            letter.worker or "-",
            str(letter.failed_attempts),
            str(letter.lost_leases),
            str(letter.replays),
            text.clock(letter.fail_time),
            text.shortened(letter.message, _MESSAGE_WIDTH),
        )
        for letter in letters
    ]
    headers = ("LETTER", "REASON", "WORKER", "FAILED", "LOST", "REPLAYS", "AT", "MESSAGE")
    return text.table(headers, rows, right="FAILED LOST REPLAYS")
