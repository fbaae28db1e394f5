"""The command that submits a job to a kernel of one's own: run."""
# ruff: noqa: D301 - \b is click's mark for lines to be left as they stand

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from tallymesh.cli.exits import Exit
from tallymesh.cli.options import Settings, common_options, job_options, pass_settings


@click.command()
@click.argument("kernel")
@click.option(
    "--json", "object_text", metavar="OBJECT", help="The work, or @FILE that holds it; @- is stdin."
)
@click.option("--data", metavar="@FILE", help="The work as a serialized message; @- is stdin.")
@job_options
@common_options
@pass_settings
def run(
    settings: Settings,
    /,
    *,
    kernel: str,
    object_text: str | None,
    data: str | None,
    **options: Any,
) -> Exit:
    """Run KERNEL, one of your own that workers were given.

    The result goes to stdout: JSON, or a message in base64. --chunks must be given for a kernel
    that the gateway does not have.

    \b
    Examples:
      tallymesh run acme.score --json '{"first": 1, "last": 1000}'
      tallymesh run acme.score --json @work.json --chunks 16
      tallymesh run acme.spectrum --data @work.binpb --chunks 4
    """
    from tallymesh.cli.follow import submit
    from tallymesh.json_values import NotJson
    from tallymesh.works import custom

    if object_text is not None and data is not None:
        raise click.UsageError("--json and --data exclude each other")
    if data is not None:
        return submit(settings, custom(kernel, _data(data)), options)
    try:
        work = custom(kernel, _object(object_text or "{}"))
    except NotJson as error:
        raise click.BadParameter(str(error), param_hint="--json") from None
    return submit(settings, work, options)


def _object(text: str) -> dict[str, Any]:
    if text.startswith("@"):
        text = _read(text, "--json").decode(errors="replace")
    try:
        given = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"is not JSON: {error}", param_hint="--json") from None
    except RecursionError:
        raise click.BadParameter("is nested too deeply", param_hint="--json") from None
    if not isinstance(given, dict):
        raise click.BadParameter("is not a JSON object", param_hint="--json")
    return given


def _data(text: str) -> bytes:
    if not text.startswith("@"):
        raise click.BadParameter(f"{text!r} is not @ and a file", param_hint="--data")
    return _read(text, "--data")


def _read(text: str, option: str) -> bytes:
    name = text.removeprefix("@")
    try:
        if name == "-":
            return sys.stdin.buffer.read()
        return Path(name).read_bytes()
    except OSError as error:
        said = f"{name} cannot be read: {error.strerror}"
        raise click.BadParameter(said, param_hint=option) from None
