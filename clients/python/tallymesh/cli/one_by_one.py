"""The same thing done to several: what fails for one is told, and the others are done."""

from __future__ import annotations

from collections.abc import Callable

import click
from google.protobuf.message import Message

from tallymesh.cli.exits import Exit, error_line, exit_code
from tallymesh.cli.options import Settings
from tallymesh.cli.output import write, write_all
from tallymesh.errors import TallymeshError, Unreachable


class OneByOne:
    """Makes one attempt after the other, and writes what comes of each.

    As JSON it is one document: the message where one was asked for, a list where several were.

    Args:
        settings: Say in which form to write.
        key: Name of the list.
        count: How many are to be made.

    Attributes:
        exit: How the command is to end: as the first failure says.
    """

    def __init__(self, settings: Settings, key: str, count: int) -> None:
        self.exit = Exit.OK
        self._settings = settings
        self._key = key
        self._messages: list[Message] = []
        self._collects = count > 1 and settings.output == "json"

    def __enter__(self) -> OneByOne:
        return self

    def __exit__(self, *_: object) -> None:
        if self._collects:
            write_all(self._settings, self._key, self._messages, str)

    def make(self, attempt: Callable[[], object]) -> bool:
        """Makes an attempt and tells whether it went well; a mesh that is away ends the command."""
        try:
            attempt()
        except Unreachable:
            raise
        except TallymeshError as error:
            click.echo(error_line(error, self._settings), err=True)
            self.exit = self.exit or exit_code(error)
            return False
        return True

    def write(self, message: Message, text: str) -> None:
        """Writes what came of one."""
        if self._collects:
            self._messages.append(message)
        else:
            write(self._settings, message, lambda: text)
