"""libprimesieve, through its C API."""

from collections.abc import Iterator
from ctypes import CDLL, c_char_p, c_int, c_uint64
from ctypes.util import find_library
from importlib.metadata import PackageNotFoundError, files

from tallymesh_kernels.kernel import Chunk, ChunkError
from tallymesh_kernels.pulse import Pulse
from tallymesh_kernels.sieve_cost import seconds_per_number, setup_seconds

WHEEL = "passagemath-primesieve-primecount"

# A call does not return before it is done, so a chunk is counted in several: each long enough that
# setting it up again costs under 1 %, and where that allows, short enough to be cancelled at once.
CALL_SECONDS = 0.075
CALL_SETUPS = 100

_ERROR = (1 << 64) - 1


class Primesieve:
    """A loaded libprimesieve, counting with one thread: the worker's slots are the threads."""

    def __init__(self, path: str, origin: str) -> None:
        """Loads the library.

        Args:
            path: A file, or a name that the system's loader finds.
            origin: Where it comes from, as told to users.

        Raises:
            OSError: It cannot be loaded.
            AttributeError: It lacks what is needed: it is too old, or another library.
        """
        library = CDLL(path)
        self._count = library.primesieve_count_primes
        self._count.argtypes = (c_uint64, c_uint64)
        self._count.restype = c_uint64
        self._version = library.primesieve_version
        self._version.argtypes = ()
        self._version.restype = c_char_p
        set_threads = library.primesieve_set_num_threads
        set_threads.argtypes = (c_int,)
        set_threads.restype = None
        set_threads(1)
        self._origin = origin

    def describe(self) -> str:
        """Its version and origin."""
        return f"libprimesieve {self._version().decode()} ({self._origin})"

    def count(self, start: int, stop: int, pulse: Pulse) -> int:
        """How many primes there are from `start` to `stop`, both included.

        Raises:
            Cancelled: `pulse` said so.
            ChunkError: The library failed, for want of memory.
        """
        width = stop - start + 1
        call_seconds = max(CALL_SECONDS, CALL_SETUPS * setup_seconds(stop))
        calls = max(1, round(width * seconds_per_number(stop) / call_seconds))
        total = 0
        for call in range(calls):
            begin, end = Chunk(call, calls).of(width)
            pulse.at(begin)
            counted: int = self._count(start + begin, start + end - 1)
            if counted == _ERROR:
                raise ChunkError(f"libprimesieve failed from {start + begin} to {start + end - 1}")
            total += counted
        return total


def find_primesieve() -> Primesieve | None:
    """The system's libprimesieve, else the wheel's, else None."""
    for path, origin in _candidates():
        try:
            return Primesieve(path, origin)
        except (OSError, AttributeError):
            continue
    return None


def _candidates() -> Iterator[tuple[str, str]]:
    if name := find_library("primesieve"):
        yield name, "system"
    if path := wheel_library():
        yield path, "wheel"


def wheel_library() -> str | None:
    """The file of the wheel's libprimesieve, or None if the wheel is not installed."""
    try:
        contents = files(WHEEL) or ()
    except PackageNotFoundError:
        return None
    for file in contents:
        if file.name.startswith("libprimesieve") and ".so" in file.suffixes:
            return str(file.locate())
    return None
