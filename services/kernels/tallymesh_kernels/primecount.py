"""libprimecount, through its C API."""

from ctypes import CDLL, c_int, c_int64
from functools import cache

from tallymesh_kernels.kernel import ChunkError
from tallymesh_kernels.shared_library import candidates


class PrimecountUnavailable(ChunkError):
    """There is no libprimecount here."""


class Primecount:
    """A loaded libprimecount, computing with one thread: the worker's slots are the threads.

    A call does not return before it is done: only a signal ends it.
    """

    def __init__(self, path: str) -> None:
        """Loads the library.

        Args:
            path: A file, or a name that the system's loader finds.

        Raises:
            OSError: It cannot be loaded.
            AttributeError: It lacks what is needed: it is too old, or another library.
        """
        library = CDLL(path)
        self._pi = library.primecount_pi
        self._nth_prime = library.primecount_nth_prime
        for function in (self._pi, self._nth_prime):
            function.argtypes = (c_int64,)
            function.restype = c_int64
        set_threads = library.primecount_set_num_threads
        set_threads.argtypes = (c_int,)
        set_threads.restype = None
        set_threads(1)

    def pi(self, number: int) -> int:
        """How many primes there are up to `number`, which is 0 to 2^63 - 1.

        Raises:
            ChunkError: The library failed, for want of memory.
        """
        counted: int = self._pi(number)
        if counted < 0:
            raise ChunkError(f"libprimecount failed to count the primes up to {number}")
        return counted

    def nth_prime(self, n: int) -> int:
        """The n-th prime, for n from 1 to pi(2^63 - 1).

        Raises:
            ChunkError: The library failed, for want of memory.
        """
        prime: int = self._nth_prime(n)
        if prime < 0:
            raise ChunkError(f"libprimecount failed to find prime number {n}")
        return prime


@cache
def open_primecount() -> Primecount:
    """Loads the system's libprimecount, else the wheel's.

    Raises:
        PrimecountUnavailable: There is neither.
    """
    for path, _ in candidates("primecount"):
        try:
            return Primecount(path)
        except (OSError, AttributeError):
            continue
    raise PrimecountUnavailable("there is no libprimecount in the system, nor its wheel")
