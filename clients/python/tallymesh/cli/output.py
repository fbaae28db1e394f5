"""Data on stdout, in the form asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import click

from tallymesh.cli.options import Settings

if TYPE_CHECKING:
    from google.protobuf.message import Message


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


def write_all(
    settings: Settings,
    key: str,
    messages: Iterable[Message],
    text: Callable[[], str],
) -> None:
    """Writes a list of messages: as one object under `key`, or each on a line of its own.

    Args:
        settings: Say in which form.
        key: Name of the list.
        messages: What to write.
        text: Makes the text for people.
    """
    if settings.is_table:
        click.echo(text())
    elif settings.output == "jsonl":
        for message in messages:
            click.echo(to_json(message))
    elif settings.output == "json":
        listed = ",\n".join(to_json(message, indent=2) for message in messages)
        click.echo(f'{{"{key}": [{listed}]}}')


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
