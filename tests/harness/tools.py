"""Programs that some tests need: without them a test skips on a desk and fails in CI."""

import os
import shutil
import sysconfig
from pathlib import Path
from typing import NoReturn

import pytest

#: Other names under which systems install the same program.
_ALIASES = {
    "chromium": ("chromium-browser", "google-chrome", "google-chrome-stable"),
    "redis-server": ("valkey-server",),
}


def require(tool: str) -> Path:
    """The path of `tool`, in this environment or on PATH, whether or not that is activated.

    Where it is missing the test skips, or fails if CI is set.
    """
    places = os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", "")))
    for name in (tool, *_ALIASES.get(tool, ())):
        if found := shutil.which(name, path=places):
            return Path(found)
    return missing(tool)


def missing(what: str) -> NoReturn:
    """Ends the test for the want of `what`: skipped locally, failed where CI is set."""
    reason = f"{what} is not installed"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
