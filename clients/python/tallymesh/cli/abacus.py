"""Commands about abaci: add, get, watch, reset. Alone, `tallymesh abacus` starts the service."""
# ruff: noqa: D301 - \b is click's mark for lines to be left as they stand

from __future__ import annotations

import sys

import click

from tallymesh.cli.exits import Exit
from tallymesh.cli.options import Settings, TakesNumbers, common_options, number, pass_settings
from tallymesh.cli.output import to_json, write
from tallymesh.cli.plugins import load_plugin


@click.group(invoke_without_command=True)
@common_options
@click.pass_context
def abacus(context: click.Context) -> object:
    """Add to a shared exact sum, read it, watch it.

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
@click.argument("amount", type=number)
@click.option("--request-id", help="Under one id an amount counts once; default a new one.")
@_expecting
@common_options
@pass_settings
def add(
    settings: Settings, name: str, amount: str, request_id: str | None, expected_etag: str
) -> None:
    """Add AMOUNT, which may be negative, and print the sum just after."""
    with settings.connect() as client:
        answer = client.abacus(name).post(
            amount, request_id=request_id, expected_etag=expected_etag
        )
    write(settings, answer, lambda: answer.sum.value)
    if answer.repeated:
        click.echo("this request was counted before; the answer is the first one", err=True)


@abacus.command()
@click.argument("name")
@common_options
@pass_settings
def get(settings: Settings, name: str) -> None:
    """Print the sum; 0 for an abacus never used."""
    with settings.connect() as client:
        current = client.abacus(name).read()
    write(settings, current, lambda: current.value)


@abacus.command()
@click.argument("name")
@common_options
@pass_settings
def watch(settings: Settings, name: str) -> Exit:
    """Print the sum, and again whenever it changes, until Ctrl-C."""
    from tallymesh.cli import text

    with settings.connect() as client:
        try:
            for current in client.abacus(name).watch(timeout=settings.timeout):
                if settings.output != "text":
                    click.echo(to_json(current))
                elif sys.stdout.isatty():
                    adds = text.counted(current.add_count, "add")
                    click.echo(f"{current.value}  ({adds}, {text.clock(current.update_time)})")
                else:
                    click.echo(current.value)
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
    """Set the sum to 0 and print what it was."""
    with settings.connect() as client:
        answer = client.abacus(name).clear(request_id=request_id, expected_etag=expected_etag)
    write(settings, answer, lambda: answer.previous.value)
