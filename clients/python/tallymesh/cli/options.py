"""The options that commands share, and the kinds of value that they take."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tallymesh.cli.profiles import BadProfile, Profiles, config_path
from tallymesh.quantities import exact_text, parse_integer

if TYPE_CHECKING:
    from tallymesh.client import Client
    from tallymesh.display import Display

Function = TypeVar("Function", bound=Callable[..., Any])
Value = TypeVar("Value")

#: How data may be written on stdout, the default first.
OUTPUTS = ("table", "json", "jsonl", "none")
#: How times may be written, the default first.
TIME_FORMATS = ("local", "relative", "iso")

#: Seconds that a call may take, unless told otherwise.
DEFAULT_TIMEOUT = 10.0
_DURATION = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*(ms|s|m|h|d)?", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_MAX_DAYS = 36_500


class Settings:
    """What the options say that every command takes; what they leave out, the profile says.

    Attributes:
        given: What options said, by name.
        queued: Work becomes a job; otherwise it is computed at once, without one.
    """

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}
        self.queued = True

    @cached_property
    def profiles(self) -> Profiles:
        """The profiles of the user's file."""
        try:
            return Profiles(config_path())
        except BadProfile as error:
            raise click.UsageError(str(error)) from error

    @property
    def profile(self) -> str:
        """The profile in use."""
        return str(self.given.get("profile") or self.profiles.chosen)

    @property
    def address(self) -> str | None:
        """Where the mesh is; None for what the client looks for by itself."""
        if "address" in self.given or os.environ.get("TALLYMESH_ADDRESS"):
            return self.given.get("address")
        return self._of_profile("address", str)

    @property
    def ca(self) -> str | None:
        """File of the authorities to trust, which also asks for TLS; or None."""
        return self.given.get("ca") or self._of_profile("ca", str)

    @property
    def token(self) -> str | None:
        """What proves who calls; or None. No option says it: others see a command line."""
        return os.environ.get("TALLYMESH_TOKEN") or self._of_profile("token", str)

    @property
    def output(self) -> str:
        """How data is written on stdout: one of OUTPUTS."""
        return self.given.get("output") or self._of_profile("output", output_form) or OUTPUTS[0]

    @property
    def time_format(self) -> str:
        """How times are written: one of TIME_FORMATS."""
        given = self.given.get("time_format")
        return given or self._of_profile("time-format", time_format) or TIME_FORMATS[0]

    @property
    def timeout(self) -> float | None:
        """Seconds that were given, or None."""
        given: float | None = self.given.get("timeout")
        return self._of_profile("timeout", waiting_time) if given is None else given

    @property
    def quiet(self) -> bool:
        """Whether stderr is for errors alone."""
        return bool(self.given.get("quiet"))

    @property
    def is_table(self) -> bool:
        """Whether data is written for people."""
        return self.output == "table"

    def note(self, line: str) -> None:
        """Says something beside the data, unless that is not wanted."""
        if not self.quiet:
            click.echo(line, err=True)

    def command(self, words: str) -> str:
        """Returns a command, to be told to a person, that reaches the same mesh."""
        address = self.given.get("address")
        return f"tallymesh --address {address} {words}" if address else f"tallymesh {words}"

    def open_display(self) -> Display:
        """Returns what shows progress."""
        from tallymesh.display import open_display

        return open_display(quiet=self.quiet, color=not self.given.get("no_color"))

    def connect(self) -> Client:
        """Returns a client of the mesh, after a look at the settings that are used later."""
        from tallymesh.channel import Tls
        from tallymesh.client import Client

        _ = self.output, self.time_format
        return Client(
            self.address,
            tls=Tls(self.ca) if self.ca else False,
            token=self.token,
            timeout=self.timeout or DEFAULT_TIMEOUT,
        )

    def _of_profile(self, key: str, parse: Callable[[str], Value]) -> Value | None:
        try:
            text = self.profiles.values(self.profile).get(key)
        except BadProfile as error:
            raise click.UsageError(str(error)) from error
        if text is None:
            return None
        try:
            return parse(text)
        except click.BadParameter as error:
            raise click.UsageError(
                f"profile {self.profile!r} in {self.profiles.path}: {key}: {error.message}"
            ) from error


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


def waiting_time(value: str | float) -> float:
    """Returns the seconds of a time that is not 0, as duration()."""
    seconds = duration(value)
    if not seconds:
        raise click.BadParameter(f"{value!r} is no time to wait: give more than 0")
    return seconds


def output_form(value: str) -> str:
    """Returns a form of output, or fails as a wrong use."""
    return _one_of(OUTPUTS, value)


def time_format(value: str) -> str:
    """Returns a format of times, or fails as a wrong use."""
    return _one_of(TIME_FORMATS, value)


def _one_of(known: tuple[str, ...], value: str) -> str:
    if value not in known:
        raise click.BadParameter(f"{value!r} is not one of {', '.join(known)}")
    return value


def _refuse_option(value: str) -> None:
    # Commands that take negative numbers let unknown options through to their arguments.
    if value.startswith("--"):
        raise click.NoSuchOption(value)


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is not None and parameter.name:
        context.ensure_object(Settings).given[parameter.name] = value


def _paint_nothing(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    # https://no-color.org: set to anything but nothing.
    if value or os.environ.get("NO_COLOR"):
        context.color = False
        context.ensure_object(Settings).given["no_color"] = True


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


def common_options(function: Function, *, listed: bool = False) -> Function:
    """Adds what every command takes, before it or after it.

    Args:
        function: The command.
        listed: Tell of all of them in its help, not only of those that are used most.
    """
    for option in (
        click.option(
            "--profile",
            metavar="NAME",
            callback=_remember,
            expose_value=False,
            hidden=not listed,
            help="Use this profile of `tallymesh config`.",
        ),
        click.option(
            "--time-format",
            type=click.Choice(TIME_FORMATS),
            callback=_remember,
            expose_value=False,
            hidden=not listed,
            help="How to write times in tables.",
        ),
        click.option(
            "--no-color",
            is_flag=True,
            callback=_paint_nothing,
            expose_value=False,
            hidden=not listed,
            help="No colours; as NO_COLOR does.",
        ),
        click.option(
            "-q",
            "--quiet",
            is_flag=True,
            default=None,
            callback=_remember,
            expose_value=False,
            hidden=not listed,
            help="Only errors on stderr: no progress, no summary.",
        ),
        click.option(
            "--timeout",
            type=waiting_time,
            callback=_remember,
            expose_value=False,
            help="Stop waiting after this long: 10, 1.5s, 2m. Jobs go on.",
        ),
        click.option(
            "-o",
            "--output",
            type=click.Choice(OUTPUTS),
            callback=_remember,
            expose_value=False,
            help="How to write data on stdout.",
        ),
        click.option(
            "--address",
            metavar="ADDRESS",
            callback=_remember,
            expose_value=False,
            help="Where the mesh is: host:port, https://host:port or unix:/path.",
        ),
        click.option(
            "--ca",
            metavar="FILE",
            type=click.Path(exists=True, dir_okay=False),
            callback=_remember,
            expose_value=False,
            hidden=not listed,
            help="Speak TLS, and trust the authorities in this file.",
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
