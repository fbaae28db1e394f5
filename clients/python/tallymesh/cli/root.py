"""The `tallymesh` command: its commands, loaded when used, and how every one of them ends."""
# ruff: noqa: D301 - \b is click's mark for lines to be left as they stand

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any

import click

from tallymesh.cli.exits import Exit, error_line, exit_code
from tallymesh.cli.options import Settings, common_options
from tallymesh.cli.output import ClosedOutput
from tallymesh.cli.plugins import load_plugin, plugin_names
from tallymesh.errors import TallymeshError

#: The client's own commands by name, in sections of the help: where each is defined.
_SECTIONS = {
    "Compute": {
        "primes": "compute:primes",
        "add": "compute:add",
        "nth-prime": "compute:nth_prime",
        "simulate": "compute:simulate",
        "run": "custom:run",
        "compute": "at_once:compute",
        "jobs": "jobs:jobs",
        "dlq": "dlq:dlq",
        "abacus": "abacus:abacus",
    },
    "Look": {
        "status": "mesh:status",
        "whoami": "mesh:whoami",
        "check-store": "mesh:check_store",
        "doctor": "doctor:doctor",
    },
    "Set up": {
        "config": "config:config",
        "completion": "completion:completion",
    },
    "Run a mesh": {
        "drain": "mesh:drain",
    },
}
_COMMANDS = {name: home for section in _SECTIONS.values() for name, home in section.items()}
#: Commands that come with the services.
_OF_SERVICES = ("up", "demo", "gateway", "worker", "node")


class Root(click.Group):
    """The group of all commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names of all commands."""
        return [*_COMMANDS, *(name for name in plugin_names() if name not in _COMMANDS)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Returns a command, loading the module that defines it."""
        home = _COMMANDS.get(cmd_name)
        # What gRPC writes besides, of handshakes and the like, errors tell too; in a service's log
        # its own errors have their place.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE" if home else "ERROR")
        if home:
            module, _, attribute = home.partition(":")
            loaded = getattr(importlib.import_module(f"tallymesh.cli.{module}"), attribute)
            assert isinstance(loaded, click.Command)
            return loaded
        command = load_plugin(cmd_name)
        if command is None and cmd_name in _OF_SERVICES:
            raise click.UsageError(
                f"{cmd_name} comes with the services: install the distribution `tallymesh`", ctx
            )
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command that was asked for, or says which one may have been meant."""
        close = get_close_matches(args[0], self.list_commands(ctx), 1)
        if close and self.get_command(ctx, args[0]) is None:
            raise click.UsageError(f"No such command {args[0]!r}. Did you mean {close[0]!r}?", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the commands in sections."""
        sections = {title: list(section) for title, section in _SECTIONS.items()}
        added = (name for name in self.list_commands(ctx) if name not in _COMMANDS)
        sections["Run a mesh"].extend(added)
        for title, names in sections.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            rows = [(name, found.get_short_help_str(70)) for name, found in commands if found]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Runs a command and ends the process, an error by one line and the code it stands for."""
        settings = Settings()
        # Closed by who called us, as by `>&-`: a result that cannot be written is an error, what
        # else there is to say goes nowhere. No file or connection is to take their places.
        if sys.stdout is None:
            os.open(os.devnull, os.O_RDONLY)
            sys.stdout = ClosedOutput()
        sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115

        def run() -> Any:
            for given in sys.argv[1:] if args is None else args:
                # How Python hands on bytes of the command line that are no UTF-8.
                if any("\ud800" <= character <= "\udfff" for character in given):
                    raise click.UsageError(f"{given!r} is not UTF-8")
            return super(Root, self).main(
                args, prog_name or "tallymesh", complete_var, standalone_mode=False,
                obj=settings, **extra,
            )  # fmt: skip

        sys.exit(_run(run, settings))

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command that was asked for."""
        try:
            answer = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever read our output has had enough, as `head` does. Nothing more can be written,
            # nor should Python try at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return Exit.OK
        return answer


def _run(run: Any, settings: Settings) -> int:
    try:
        answer = run()
    except click.ClickException as error:
        error.show()
        return Exit.USAGE if isinstance(error, click.UsageError) else Exit.FAILED
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return Exit.CANCELLED
    except TallymeshError as error:
        click.echo(error_line(error, settings), err=True)
        return exit_code(error)
    except Exception as error:
        if os.environ.get("TALLYMESH_DEBUG") == "1":
            raise
        click.echo(
            f"error: unexpected {type(error).__name__}: {error} (TALLYMESH_DEBUG=1 shows where)",
            err=True,
        )
        return Exit.FAILED
    return answer if isinstance(answer, int) else Exit.OK


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tallymesh-client", prog_name="tallymesh")
@partial(common_options, listed=True)
def root() -> None:
    """Submit computations to a Tallymesh, watch them, get exact totals.

    Data goes to stdout, progress to stderr. The mesh is looked for at --address, else
    TALLYMESH_ADDRESS, else where the profile in use says (tallymesh config), else at
    localhost:8080. Numbers may be written 10000, 10_000, 1e10, 10^10 or 2**40. The options below go
    before a command or after it.

    \b
    Exit codes:
      0 ok   1 failed   2 wrong use   3 cancelled   4 timeout   5 unreachable

    \b
    Examples:
      tallymesh up
      tallymesh primes 1e10
      tallymesh jobs list --state running
      tallymesh doctor
    """
