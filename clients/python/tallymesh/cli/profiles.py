"""Profiles: settings of the command line that are kept in a file, by name."""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Callable
from pathlib import Path

#: The profile that is used where none is chosen.
DEFAULT_PROFILE = "default"
# The section that says which profile is chosen. No profile has its name, as that has a dot.
_CHOICE, _CHOSEN = "tallymesh.choice", "profile"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", re.ASCII)


class BadProfile(Exception):
    """The file, a name in it or a value is not usable; the message is one line for a person."""


def config_path() -> Path:
    """Returns where the file is: TALLYMESH_CONFIG, else among the user's configuration."""
    if given := os.environ.get("TALLYMESH_CONFIG"):
        return Path(given)
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "tallymesh" / "config.ini"


class Profiles:
    """The profiles of a file."""

    def __init__(self, path: Path) -> None:
        """Reads the file, if there is one.

        Raises:
            BadProfile: It cannot be read.
        """
        self.path = path
        self._file = configparser.ConfigParser(interpolation=None, default_section="")
        try:
            self._file.read_string(path.read_text(encoding="utf-8"), str(path))
        except FileNotFoundError:
            pass
        except (OSError, UnicodeDecodeError, configparser.Error) as error:
            why = " ".join(str(error).split())
            raise BadProfile(f"{path} cannot be read: {why}") from error

    @property
    def chosen(self) -> str:
        """The profile in use: that of TALLYMESH_PROFILE, else the one chosen in the file."""
        return os.environ.get("TALLYMESH_PROFILE") or self.chosen_in_file

    @property
    def chosen_in_file(self) -> str:
        """The profile that choose() has chosen."""
        return self._file.get(_CHOICE, _CHOSEN, fallback=DEFAULT_PROFILE)

    def names(self) -> list[str]:
        """Returns the names of all profiles."""
        return [name for name in self._file.sections() if name != _CHOICE]

    def values(self, profile: str) -> dict[str, str]:
        """Returns what a profile holds; nothing, if it is the default one and is not there.

        Raises:
            BadProfile: There is no such profile.
        """
        if self._file.has_section(profile) and profile != _CHOICE:
            return dict(self._file[profile])
        if profile == DEFAULT_PROFILE:
            return {}
        known = ", ".join(self.names()) or "none"
        raise BadProfile(f"no profile {profile!r} in {self.path}; there are: {known}")

    def put(self, profile: str, key: str, value: str) -> None:
        """Sets a value of a profile, which is made if it is not there.

        Raises:
            BadProfile: The name or the value cannot stand in the file, or that cannot be written.
        """
        if not _NAME.fullmatch(profile):
            raise BadProfile(
                f"profile: {profile!r} is not 1 to 63 characters of [A-Za-z0-9_-], starting with a"
                " letter or digit"
            )
        if not self._file.has_section(profile):
            self._file.add_section(profile)
        self._change(lambda: self._file.set(profile, key, value))

    def remove(self, profile: str, key: str | None = None) -> bool:
        """Removes a value of a profile, or the whole profile; tells whether it was there."""
        if key is None:
            was_there = profile != _CHOICE and self._file.has_section(profile)
            if was_there:
                self._change(lambda: self._file.remove_section(profile))
            return was_there
        was_there = self._file.has_option(profile, key)
        if was_there:
            self._change(lambda: self._file.remove_option(profile, key))
        return was_there

    def choose(self, profile: str) -> None:
        """Makes a profile the one in use.

        Raises:
            BadProfile: There is no such profile, or the file cannot be written.
        """
        self.values(profile)
        if not self._file.has_section(_CHOICE):
            self._file.add_section(_CHOICE)
        self._change(lambda: self._file.set(_CHOICE, _CHOSEN, profile))

    def _change(self, change: Callable[[], object]) -> None:
        change()
        # A reader finds the old file or the new one, never half of one.
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("w", encoding="utf-8") as file:
                self._file.write(file)
            draft.chmod(0o600)
            draft.replace(self.path)
        except OSError as error:
            raise BadProfile(f"{self.path} cannot be written: {error.strerror}") from error
