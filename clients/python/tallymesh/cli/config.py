"""Commands about profiles: show, set, unset, list, use, delete."""
# ruff: noqa: D301 - \b is click's mark for lines to be left as they stand

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

from tallymesh.address import DEFAULT_ADDRESS, parse_address
from tallymesh.cli import text
from tallymesh.cli.options import (
    DEFAULT_TIMEOUT,
    Settings,
    common_options,
    output_form,
    pass_settings,
    time_format,
    waiting_time,
)
from tallymesh.cli.output import write_data
from tallymesh.cli.profiles import DEFAULT_PROFILE, BadProfile

P = ParamSpec("P")
Answer = TypeVar("Answer")


def _address(value: str) -> str:
    parse_address(value)
    return value


def _file(value: str) -> str:
    path = Path(value).absolute()
    if not path.is_file():
        raise click.BadParameter(f"{value!r} is not a file")
    return str(path)


def _shown(key: str, value: str) -> str:
    return "***" if key == "token" and value else value


#: What a profile may hold, and how its values are checked.
_KEYS: dict[str, Callable[[str], Any]] = {
    "address": _address,
    "ca": _file,
    "token": str,
    "output": output_form,
    "time-format": time_format,
    "timeout": waiting_time,
}


def _wrong_use(function: Callable[P, Answer]) -> Callable[P, Answer]:
    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> Answer:
        try:
            return function(*args, **kwargs)
        except BadProfile as error:
            raise click.UsageError(str(error)) from error

    return run


@click.group()
@common_options
def config() -> None:
    """Keep addresses and habits in profiles, and choose one.

    A profile may say address (https://host:port speaks TLS), ca (a file of authorities to trust),
    token, output, time-format and timeout. Options, TALLYMESH_ADDRESS and TALLYMESH_TOKEN go before
    it. The profile in use is that of --profile, else of TALLYMESH_PROFILE, else the one
    chosen by `use`, else "default". The file is ~/.config/tallymesh/config.ini (as
    XDG_CONFIG_HOME says), or TALLYMESH_CONFIG.

    \b
    Examples:
      tallymesh config set address mesh.example:8080 --profile work
      tallymesh config use work
      tallymesh config show
    """


@config.command()
@common_options
@pass_settings
@_wrong_use
def show(settings: Settings) -> None:
    """Show the settings in force, and where each comes from.

    \b
    Example:
      tallymesh config show --profile work
    """
    held = settings.profiles.values(settings.profile)
    of_profile = f"profile {settings.profile}"

    def source(key: str) -> str:
        if key.replace("-", "_") in settings.given:
            return "option"
        variable = f"TALLYMESH_{key.upper()}"
        if key in ("address", "token") and os.environ.get(variable):
            return variable
        return of_profile if key in held else "built in"

    environment = os.environ.get("TALLYMESH_ADDRESS")
    in_force = {
        "address": settings.address or environment or DEFAULT_ADDRESS,
        "ca": settings.ca or "-",
        "token": _shown("token", settings.token or "") or "-",
        "output": settings.output,
        "time-format": settings.time_format,
        "timeout": f"{settings.timeout or DEFAULT_TIMEOUT:g}s",
    }
    rows = [(key, value, source(key)) for key, value in in_force.items()]
    write_data(
        settings,
        {
            "profile": settings.profile,
            "path": str(settings.profiles.path),
            "settings": [dict(zip(("key", "value", "source"), row, strict=True)) for row in rows],
        },
        lambda: text.table(("SETTING", "VALUE", "FROM"), rows),
    )


@config.command("set")
@click.argument("key", type=click.Choice(tuple(_KEYS)))
@click.argument("value")
@common_options
@pass_settings
@_wrong_use
def put(settings: Settings, key: str, value: str) -> None:
    """Set KEY of the profile in use, or of --profile, which is made if it is not there.

    \b
    Examples:
      tallymesh config set output jsonl
      tallymesh config set address localhost:9090 --profile trial
    """
    if key == "ca":
        value = _file(value)  # wherever it is used from later
    _KEYS[key](value)
    settings.profiles.put(settings.profile, key, value)
    settings.note(f"profile {settings.profile}: {key} is {_shown(key, value)}")


@config.command()
@click.argument("key", type=click.Choice(tuple(_KEYS)))
@common_options
@pass_settings
@_wrong_use
def unset(settings: Settings, key: str) -> None:
    """Remove KEY from the profile in use, or from --profile.

    \b
    Example:
      tallymesh config unset output
    """
    if not settings.profiles.remove(settings.profile, key):
        raise BadProfile(f"profile {settings.profile!r} does not say {key}")
    settings.note(f"profile {settings.profile}: {key} is not set any more")


@config.command("list")
@common_options
@pass_settings
@_wrong_use
def list_profiles(settings: Settings) -> None:
    """List the profiles; a star stands at the one in use.

    \b
    Example:
      tallymesh config list -o json
    """
    profiles, chosen = settings.profiles, settings.profile
    names = sorted({*profiles.names(), DEFAULT_PROFILE})
    rows = [
        (
            "*" if name == chosen else "",
            name,
            ", ".join(f"{key}={_shown(key, value)}" for key, value in profiles.values(name).items())
            or "-",
        )
        for name in names
    ]
    write_data(
        settings,
        {
            "profiles": [
                {
                    "name": name,
                    "used": name == chosen,
                    "settings": {
                        key: _shown(key, value) for key, value in profiles.values(name).items()
                    },
                }
                for name in names
            ]
        },
        lambda: text.table(("", "PROFILE", "SAYS"), rows),
    )


@config.command()
@click.argument("name")
@common_options
@pass_settings
@_wrong_use
def use(settings: Settings, name: str) -> None:
    """Use the profile NAME from now on.

    \b
    Example:
      tallymesh config use work
    """
    settings.profiles.choose(name)
    if settings.profiles.chosen == name:
        settings.note(f"profile {name} is in use")
    else:
        settings.note(
            f"profile {name} will be in use where TALLYMESH_PROFILE is not set; here it says"
            f" {settings.profiles.chosen}"
        )


@config.command()
@click.argument("name")
@common_options
@pass_settings
@_wrong_use
def delete(settings: Settings, name: str) -> None:
    """Delete the profile NAME; where it was in use, "default" is from now on.

    \b
    Example:
      tallymesh config delete trial
    """
    was_chosen = settings.profiles.chosen_in_file == name
    if not settings.profiles.remove(name):
        raise BadProfile(f"no profile {name!r} in {settings.profiles.path}")
    if was_chosen:
        settings.profiles.choose(DEFAULT_PROFILE)
    settings.note(f"profile {name} is deleted")
