"""C libraries that count primes, in the system or in their wheel: the newest is taken."""

import re
from collections.abc import Iterator
from ctypes import CDLL, c_char_p, c_int
from ctypes.util import find_library
from importlib.metadata import PackageNotFoundError, files
from typing import ClassVar, Self

WHEEL = "passagemath-primesieve-primecount"


class SharedLibrary:
    """A loaded library, computing with one thread: the worker's slots are the threads.

    Attributes:
        name: Its name, such as "primesieve"; its functions' names begin with it.
        version: Its version, as it reports it itself.
        origin: Where it comes from: "system" or "wheel".
    """

    name: ClassVar[str]

    def __init__(self, path: str, origin: str) -> None:
        """Loads the library.

        Args:
            path: A file, or a name that the system's loader finds.
            origin: Where it comes from, for users.

        Raises:
            OSError: It cannot be loaded.
            AttributeError: It lacks what is needed: it is too old, or another library.
        """
        self._library = CDLL(path)
        version = getattr(self._library, f"{self.name}_version")
        version.argtypes = ()
        version.restype = c_char_p
        set_threads = getattr(self._library, f"{self.name}_set_num_threads")
        set_threads.argtypes = (c_int,)
        set_threads.restype = None
        set_threads(1)
        self.version: str = version().decode()
        self.origin = origin

    def describe(self) -> str:
        """Returns its name, version and origin."""
        return f"lib{self.name} {self.version} ({self.origin})"

    @classmethod
    def newest(cls) -> tuple[Self, str] | None:
        """Loads the newest of those that there are; of equally new ones the system's.

        Returns:
            The library, and why it is this one; None if there is none.
        """
        found = []
        for path, origin in candidates(cls.name):
            try:
                found.append(cls(path, origin))
            except (OSError, AttributeError):
                continue
        if not found:
            return None
        best = max(found, key=lambda library: version_key(library.version))
        reasons = []
        for other in found:
            if other is not best:
                is_newer = version_key(best.version) > version_key(other.version)
                than = "newer than" if is_newer else "as new as"
                reasons.append(f"{than} {other.version} ({other.origin})")
        return best, ", ".join(reasons) or "the only one here"


def candidates(name: str) -> Iterator[tuple[str, str]]:
    """Yields what may be the library `name`, such as "primesieve", the system's first.

    Yields:
        A file, or a name that the system's loader finds, and where it comes from, for users.
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


def version_key(version: str) -> tuple[int, ...]:
    """Returns what orders versions: 12.13 comes after 12.9."""
    return tuple(int(number) for number in re.findall(r"\d+", version))
