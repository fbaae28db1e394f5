"""libprimecount, through its C API."""

from ctypes import c_int64
from functools import cache
from typing import ClassVar

from tallymesh_kernels.kernel import ChunkError
from tallymesh_kernels.shared_library import SharedLibrary


class PrimecountUnavailable(ChunkError):
    """There is no libprimecount here."""


class Primecount(SharedLibrary):
    """A loaded libprimecount.

    A call does not return before it is done: only a signal ends it.
    """

    name: ClassVar[str] = "primecount"

    def __init__(self, path: str, origin: str) -> None:
        """Loads the library, as SharedLibrary does."""
        super().__init__(path, origin)
        self._pi = self._library.primecount_pi
        self._nth_prime = self._library.primecount_nth_prime
        for function in (self._pi, self._nth_prime):
            function.argtypes = (c_int64,)
            function.restype = c_int64

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
def choose_primecount() -> tuple[Primecount, str]:
    """Loads the newest libprimecount that there is.

    Returns:
        The library, and why it is this one.

    Raises:
        PrimecountUnavailable: There is none.
    """
    if chosen := Primecount.newest():
        return chosen
    raise PrimecountUnavailable("there is no libprimecount in the system, nor its wheel")


def open_primecount() -> Primecount:
    """Loads the newest libprimecount that there is.

    Raises:
        PrimecountUnavailable: There is none.
    """
    return choose_primecount()[0]
