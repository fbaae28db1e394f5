"""Data on stdout, in the form asked for."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from tallymesh.cli.options import Settings

if TYPE_CHECKING:
    from google.protobuf.message import Message


class ClosedOutput(io.TextIOBase):
    """Stands for a stdout that is closed: who has something to write on it fails."""

    encoding = "utf-8"

    def writable(self) -> bool:
        """Tells that it may be tried."""
        return True

    def write(self, text: str, /) -> int:
        """Ends the command: what is lost is not to look as if all were well."""
        raise click.ClickException("cannot write on stdout: it is closed")


def to_json(message: Message, *, indent: int | None = None) -> str:
    """Returns the message as proto JSON with the field names of the protos."""
    from google.protobuf import json_format

    return json_format.MessageToJson(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        indent=indent,
    )


def write(settings: Settings, message: Message, text: Callable[[], str]) -> None:
    """Writes one message.

    Args:
        settings: Say in which form.
        message: What to write.
        text: Makes the text for people.
    """
    if settings.is_table:
        click.echo(text())
    elif settings.output != "none":
        click.echo(to_json(message, indent=2 if settings.output == "json" else None))


def write_line(settings: Settings, message: Message, text: Callable[[], str]) -> None:
    """Writes one of a stream of messages: as JSON always on one line."""
    if settings.is_table:
        click.echo(text())
    elif settings.output != "none":
        click.echo(to_json(message))


def write_listed(
    settings: Settings,
    key: str,
    found: Iterable[Message],
    limit: int,
    text: Callable[[list[Any]], str],
) -> None:
    """Writes the first of what is found, and says where that is not all.

    Args:
        settings: Say in which form.
        key: Name of the list.
        found: All there is.
        limit: How many to write.
        text: Makes the text for people of a list.
    """
    listed = list(islice(found, limit + 1))
    is_cut = len(listed) > limit
    del listed[limit:]
    write_all(settings, key, listed, lambda: text(listed), is_cut=is_cut)
    if is_cut and settings.output in ("table", "jsonl"):
        settings.note(f"there are more than these {limit:,}; --limit says how many to list")


def write_all(
    settings: Settings,
    key: str,
    messages: Iterable[Message],
    text: Callable[[], str],
    *,
    is_cut: bool | None = None,
) -> None:
    """Writes a list of messages: as one object under `key`, or each on a line of its own.

    Args:
        settings: Say in which form.
        key: Name of the list.
        messages: What to write.
        text: Makes the text for people.
        is_cut: Whether there are more; None where there cannot be.
    """
    if settings.is_table:
        click.echo(text())
    elif settings.output == "jsonl":
        for message in messages:
            click.echo(to_json(message))
    elif settings.output == "json":
        listed = ",\n".join(to_json(message, indent=2) for message in messages)
        cut = "" if is_cut is None else f', "truncated": {"true" if is_cut else "false"}'
        click.echo(f'{{"{key}": [{listed}]{cut}}}')


def write_data(settings: Settings, data: Mapping[str, object], text: Callable[[], str]) -> None:
    """Writes what is no message of the mesh.

    Args:
        settings: Say in which form.
        data: What to write, as JSON has it.
        text: Makes the text for people.
    """
    import json

    if settings.is_table:
        click.echo(text())
    elif settings.output != "none":
        click.echo(json.dumps(data, indent=2 if settings.output == "json" else None))
