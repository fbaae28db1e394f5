"""The options that commands share, and the kinds of value that they take."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from tallymesh.quantities import exact_text, parse_integer

if TYPE_CHECKING:
    from tallymesh.client import Client

Function = TypeVar("Function", bound=Callable[..., Any])

#: Seconds that a call may take, unless told otherwise.
DEFAULT_TIMEOUT = 10.0
_DURATION = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*(ms|s|m|h|d)?", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_MAX_DAYS = 36_500


@dataclass
class Settings:
    """What the options say that every command takes.

    Attributes:
        address: Where the mesh is; None for the default.
        output: How data is written on stdout.
        timeout: Seconds that were given, or None.
    """

    address: str | None = None
    output: Literal["text", "json", "jsonl"] = "text"
    timeout: float | None = None

    def connect(self) -> Client:
        """Returns a client of the mesh."""
        from tallymesh.client import Client

        return Client(self.address, timeout=self.timeout or DEFAULT_TIMEOUT)


pass_settings = click.make_pass_decorator(Settings, ensure=True)


def integer(value: str | int) -> int:
    """Returns a whole number as people write it, or fails as a wrong use."""
    if isinstance(value, int):
        return value
    _refuse_option(value)
    try:
        return parse_integer(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def number(value: str) -> str:
    """Returns a decimal number in the form that the mesh takes, or fails as a wrong use."""
    _refuse_option(value)
    try:
        return exact_text(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def duration(value: str | float) -> float:
    """Returns the seconds of a time such as "10", "1.5s", "50ms", "2m", "1h" or "7d"."""
    if isinstance(value, float):
        return value
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise click.BadParameter(f"{value!r} is not a time such as 10, 1.5s, 50ms, 2m, 1h or 7d")
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds > _MAX_DAYS * _SECONDS["d"]:
        raise click.BadParameter(f"{value!r} is more than {_MAX_DAYS:,}d")
    return seconds


def _refuse_option(value: str) -> None:
    # Commands that take negative numbers let unknown options through to their arguments.
    if value.startswith("--"):
        raise click.NoSuchOption(value)


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is not None:
        setattr(context.ensure_object(Settings), parameter.name, value)


def _parse_labels(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    labels = {}
    for value in values:
        key, separator, text = value.partition("=")
        if not separator:
            raise click.BadParameter(f"{value!r} is not key=value", context, parameter)
        labels[key] = text
    return labels


def _demand_positive(context: click.Context, parameter: click.Parameter, value: int) -> int:
    if value < 1:
        raise click.BadParameter(f"{value} is not at least 1", context, parameter)
    return value


def common_options(function: Function) -> Function:
    """Adds what every command takes, before it or after it."""
    for option in (
        click.option(
            "--timeout",
            type=duration,
            callback=_remember,
            expose_value=False,
            help="Stop waiting after this long: 10, 1.5s, 2m. Jobs go on.",
        ),
        click.option(
            "-o",
            "--output",
            type=click.Choice(["text", "json", "jsonl"]),
            callback=_remember,
            expose_value=False,
            help="How to write data on stdout.",
        ),
        click.option(
            "--address",
            metavar="ADDRESS",
            callback=_remember,
            expose_value=False,
            help="Where the mesh is: host:port or unix:/path.",
        ),
    ):
        function = option(function)
    return function


class TakesNumbers(click.Command):
    """A command whose arguments may be negative numbers, which look like options."""

    ignore_unknown_options = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses the command line, refusing options that are neither known nor numbers."""
        known = [name for option in self.get_params(ctx) for name in option.opts]
        for given in args:
            if given == "--":
                break
            name = given.partition("=")[0]
            if name.startswith("--") and name not in known:
                close = get_close_matches(name, known)
                raise click.NoSuchOption(name, possibilities=close, ctx=ctx)
        return super().parse_args(ctx, args)


label_option = click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="KEY=VALUE",
    callback=_parse_labels,
    help="A free mark; may be repeated.",
)


def limit_option(default: int) -> Callable[[Function], Function]:
    """Adds how many to list at most."""
    return click.option(
        "--limit",
        type=integer,
        default=default,
        callback=_demand_positive,
        help=f"At most so many; default {default}.",
    )


def job_options(function: Function) -> Function:
    """Adds what every command takes that submits a job: as of JobOptions, and `detach`."""
    for option in (
        click.option("--detach", is_flag=True, help="Submit, print the job's name and end."),
        click.option("--ttl", type=duration, help="Keep the ended job so long: 1h, 30d."),
        click.option(
            "--job-timeout", type=duration, help="Fail the job if it takes longer: 10m, 2h."
        ),
        click.option(
            "--chunk-timeout", type=duration, help="Stop tries that take longer: 500ms, 2s."
        ),
        click.option(
            "--tolerate-failures", type=integer, help="Chunks that may be given up; default 0."
        ),
        click.option("--max-attempts", type=integer, help="Tries a chunk gets, 1 to 100."),
        click.option("--abacus", metavar="NAME", help="Add the total to this abacus, once."),
        label_option,
        click.option("--priority", type=integer, help="Share in the queue, 0 to 9."),
        click.option("--queue", metavar="NAME", help="The queue to wait in."),
        click.option("--chunks", type=integer, help="Chunks to cut it into; default: a plan."),
    ):
        function = option(function)
    return function
