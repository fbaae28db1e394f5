"""Commands that other distributions add, by the entry-point group `tallymesh.commands`."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

import click

from tallymesh.cli.exits import Exit

_GROUP = "tallymesh.commands"
#: The one name that stands for no command of its own: `tallymesh abacus` alone runs it.
_HIDDEN = "abacus_node"


def plugin_names() -> list[str]:
    """Returns the names of the commands that are installed."""
    return sorted(_command_name(found) for found in _plugins() if found.name != _HIDDEN)


def load_plugin(name: str) -> click.Command | None:
    """Returns an installed command, or None if there is none of that name.

    One that cannot be loaded becomes a command that says so, so that it takes no other with it.
    """
    found = next(
        (found for found in _plugins() if name in (_command_name(found), found.name)), None
    )
    if found is None:
        return None
    try:
        command = found.load()
    except Exception as error:
        return _broken(name, f"{type(error).__name__}: {error}")
    if not isinstance(command, click.Command):
        return _broken(name, f"{found.value} is no command")
    return command


def _plugins() -> list[EntryPoint]:
    return list(entry_points(group=_GROUP))


def _command_name(found: EntryPoint) -> str:
    return found.name.replace("_", "-")


def _broken(name: str, why: str) -> click.Command:
    @click.command(
        name,
        help=f"Cannot be loaded ({why}).",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def broken() -> Exit:
        click.echo(f"error: {name} cannot be loaded: {why}", err=True)
        return Exit.FAILED

    return broken
