"""Commands about abaci. Alone, `tallymesh abacus` starts the service."""
# ruff: noqa: D301 - \b is click's mark for lines to be left as they stand

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, cast

import click

from tallymesh.cli import text
from tallymesh.cli.exits import Exit
from tallymesh.cli.number_lines import arriving_numbers
from tallymesh.cli.options import (
    Settings,
    TakesNumbers,
    common_options,
    limit_option,
    number,
    pass_settings,
)
from tallymesh.cli.output import write, write_line, write_listed
from tallymesh.cli.plugins import load_plugin
from tallymesh.wording import counted

if TYPE_CHECKING:
    from io import BufferedReader

    from tallymesh.abacus import Abacus
    from tallymesh.v1.abacus_service_pb2 import AddNumbersResponse, LedgerEntry, Sum

_LIMIT = 50
_NUMBER_WIDTH = 40


@click.group(invoke_without_command=True)
@common_options
@click.pass_context
def abacus(context: click.Context) -> object:
    """Add to shared exact sums, read them, watch them.

    Without a command this starts the abacus service itself, where the distribution `tallymesh` is
    installed. An abacus's NAME may be given with or without its "abaci/".

    \b
    Examples:
      tallymesh abacus add beans 5
      tallymesh abacus add beans -0.5
      tallymesh abacus get beans
    """
    if context.invoked_subcommand is not None:
        return None
    service = load_plugin("abacus_node")
    if service is None:
        click.echo(context.get_help())
        return Exit.USAGE
    with service.make_context("abacus", [], parent=context) as inner:
        return service.invoke(inner)


_expecting = click.option(
    "--expected-etag",
    default="",
    help="Do it only while the sum has this etag (`get -o json` tells it).",
)


@abacus.command(cls=TakesNumbers)
@click.argument("name")
@click.argument("amounts", type=number, nargs=-1, metavar="[AMOUNT]...")
@click.option("--stdin", "from_stdin", is_flag=True, help="Add the numbers on stdin, one a line.")
@click.option("--request-id", help="Under one id the same amounts count once; default a new one.")
@_expecting
@common_options
@pass_settings
def add(
    settings: Settings,
    /,
    *,
    name: str,
    amounts: Sequence[str],
    from_stdin: bool,
    request_id: str | None,
    expected_etag: str,
) -> None:
    """Add AMOUNTs, which may be negative, and print the sum just after.

    Several are one change. What comes on stdin is added as it comes; with --request-id in one
    stream, so that the whole of it may be sent again after a failure.

    \b
    Examples:
      tallymesh abacus add beans 42 0.1 -7
      seq 1 1000000 | tallymesh abacus add beans --stdin
    """
    if bool(amounts) == from_stdin:
        raise click.UsageError("give amounts, or --stdin")
    if expected_etag and len(amounts) != 1:
        raise click.UsageError("--expected-etag goes with one amount")
    with settings.connect() as client:
        target = client.abacus(name)
        if len(amounts) == 1:
            single = target.post(amounts[0], request_id=request_id, expected_etag=expected_etag)
            write(settings, single, lambda: single.sum.value)
            is_repeat = single.repeated
        else:
            many = (
                _add_stdin(target, request_id)
                if from_stdin
                else target.post_many(amounts, stream_id=request_id)
            )
            write(settings, many, lambda: many.sum.value)
            is_repeat = many.repeated_count > 0
    if is_repeat:
        settings.note("this request was counted before, and is not counted again")


@abacus.command()
@click.argument("name")
@common_options
@pass_settings
def get(settings: Settings, name: str) -> None:
    """Print the sum; 0 for an abacus never used.

    \b
    Example:
      tallymesh abacus get beans -o json | jq -r .etag
    """
    with settings.connect() as client:
        current = client.abacus(name).read()
    write(settings, current, lambda: current.value)


@abacus.command()
@click.argument("name")
@common_options
@pass_settings
def watch(settings: Settings, name: str) -> Exit:
    """Print the sum, and again whenever it changes, until Ctrl-C.

    \b
    Example:
      tallymesh abacus watch beans | while read -r sum; do echo "now $sum"; done
    """
    with settings.connect() as client:
        try:
            for current in client.abacus(name).watch(timeout=settings.timeout):
                write_line(settings, current, lambda current=current: _sum_line(current))  # type: ignore[misc]
        except KeyboardInterrupt:
            pass
    return Exit.OK


@abacus.command()
@click.argument("name")
@click.option("--request-id", help="Under one id a reset is done once; default a new one.")
@_expecting
@common_options
@pass_settings
def reset(settings: Settings, name: str, request_id: str | None, expected_etag: str) -> None:
    """Set the sum to 0 and print what it was.

    \b
    Example:
      tallymesh abacus reset beans
    """
    with settings.connect() as client:
        answer = client.abacus(name).clear(request_id=request_id, expected_etag=expected_etag)
    write(settings, answer, lambda: answer.previous.value)


@abacus.command("list")
@limit_option(_LIMIT)
@common_options
@pass_settings
def list_abaci(settings: Settings, limit: int) -> None:
    """List abaci by name, with their sums.

    \b
    Example:
      tallymesh abacus list -o jsonl | jq -r '.name + " " + .value'
    """
    with settings.connect() as client:
        found = client.abaci(page_size=min(limit + 1, 500))
        write_listed(settings, "abaci", found, limit, _sum_table)


@abacus.command()
@click.argument("name")
@limit_option(_LIMIT)
@common_options
@pass_settings
def entries(settings: Settings, name: str, limit: int) -> None:
    """List the changes of an abacus, the newest first: who, when, how much.

    \b
    Example:
      tallymesh abacus entries beans --limit 10
    """
    with settings.connect() as client:
        found = client.abacus(name).entries(page_size=min(limit + 1, 500))
        write_listed(settings, "entries", found, limit, _entry_table)


@abacus.command()
@click.argument("name")
@click.option("--request-id", help="Under one id it is deleted once; default a new one.")
@_expecting
@common_options
@pass_settings
def delete(settings: Settings, name: str, request_id: str | None, expected_etag: str) -> None:
    """Delete an abacus with its ledger, and print what its sum was.

    \b
    Example:
      tallymesh abacus delete beans
    """
    with settings.connect() as client:
        previous = client.abacus(name).delete(request_id=request_id, expected_etag=expected_etag)
    write(settings, previous, lambda: previous.value)


def _add_stdin(target: Abacus, request_id: str | None) -> AddNumbersResponse:
    from tallymesh.many_numbers import joined

    refused: click.UsageError | None = None

    def arriving() -> Iterator[list[int | str]]:
        nonlocal refused
        try:
            yield from arriving_numbers(cast("BufferedReader", sys.stdin.buffer))
        except click.UsageError as error:
            refused = error

    whole: AddNumbersResponse | None = None
    if request_id:
        whole = target.post_many(chain.from_iterable(arriving()), stream_id=request_id)
    else:
        for numbers in arriving():
            whole = joined(whole, target.post_many(numbers))
    if refused is None:
        return whole or target.post_many(())
    if whole is None or not whole.accepted_count + whole.repeated_count:
        raise refused
    before = counted(whole.accepted_count + whole.repeated_count, "number")
    raise click.ClickException(
        f"{refused.message}; added before it: {before}, for a sum of {whole.sum.value}"
    )


def _sum_line(current: Sum) -> str:
    if not sys.stdout.isatty():
        return current.value
    adds = counted(current.add_count, "add")
    return f"{current.value}  ({adds}, {text.clock(current.update_time)})"


def _sum_table(sums: Sequence[Sum]) -> str:
    rows = [
        (
            one.name.removeprefix("abaci/"),
            text.shortened(one.value, _NUMBER_WIDTH),
            text.number(one.add_count),
            text.clock(one.update_time),
        )
        for one in sums
    ]
    return text.table(("NAME", "SUM", "ADDS", "CHANGED"), rows, right="SUM ADDS")


def _entry_table(listed: Sequence[LedgerEntry]) -> str:
    rows = [
        (
            text.clock(entry.create_time),
            entry.Kind.Name(entry.kind).removeprefix("KIND_").lower(),
            text.shortened(entry.amount, _NUMBER_WIDTH),
            text.number(entry.add_count),
            entry.principal,
            entry.initiated_by,
            entry.request_id or entry.job or entry.stream_id or "-",
        )
        for entry in listed
    ]
    headers = ("AT", "KIND", "AMOUNT", "ADDS", "BY", "NODE", "ID")
    return text.table(headers, rows, right="AMOUNT ADDS")
