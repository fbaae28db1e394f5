"""Loads the Lua scripts: one file a transition, found by content when run."""

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Self

_INCLUDE = re.compile(r"^--!include (\w+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """A script that the store runs as one step.

    Attributes:
        name: Its file's name, without the ending.
        source: Its text, with what it includes.
        sha: Content hash by which the server knows it.
    """

    name: str
    source: str
    sha: str

    @classmethod
    @cache
    def load(cls, name: str) -> Self:
        """Loads `lua/<name>.lua`; a line `--!include part` stands for `lua/<part>.lua`."""
        source = _read(name)
        return cls(name, source, hashlib.sha1(source.encode()).hexdigest())  # noqa: S324


def _read(name: str) -> str:
    text = resources.files("tallymesh_core.store").joinpath("lua", f"{name}.lua").read_text()
    return _INCLUDE.sub(lambda found: _read(found[1]), text)
