"""Where the C libraries are that count primes: in the system, or in their wheel."""

from collections.abc import Iterator
from ctypes.util import find_library
from importlib.metadata import PackageNotFoundError, files

WHEEL = "passagemath-primesieve-primecount"


def candidates(name: str) -> Iterator[tuple[str, str]]:
    """Yields what may be the library `name`, such as "primesieve", the best first.

    Yields:
        A file, or a name that the system's loader finds, and where it comes from, as told to users.
    """
    if found := find_library(name):
        yield found, "system"
    if path := wheel_library(name):
        yield path, "wheel"


def wheel_library(name: str) -> str | None:
    """The file of the wheel's library, or None if the wheel is not installed."""
    try:
        contents = files(WHEEL) or ()
    except PackageNotFoundError:
        return None
    for file in contents:
        if file.name.startswith(f"lib{name}") and ".so" in file.suffixes:
            return str(file.locate())
    return None
