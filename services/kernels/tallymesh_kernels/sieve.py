"""The sieves there are, and which of them to use."""

import os
from typing import Protocol

from tallymesh_kernels.kernel import ChunkError
from tallymesh_kernels.pulse import Pulse
from tallymesh_kernels.tuplets import Kind

CHOICE_VARIABLE = "TALLYMESH_SIEVE"
CHOICES = ("auto", "libprimesieve", "numpy")


class SieveUnavailable(ChunkError):
    """The sieve that was chosen does not exist here."""


class Sieve(Protocol):
    """Counts primes and their tuplets."""

    def describe(self) -> str:
        """Its name, version and origin, such as "libprimesieve 12.9 (wheel)"."""

    def count(self, kind: Kind, start: int, stop: int, pulse: Pulse) -> int:
        """How many of a kind lie wholly between `start` and `stop`, which are 0 to 2^64 - 1.

        Args:
            kind: What to count.
            start: First number.
            stop: Last number, at least `start`.
            pulse: Is told how many numbers of the range are done.

        Raises:
            Cancelled: `pulse` said so.
        """


def choose_sieve() -> tuple[Sieve, str]:
    """Loads the sieve that TALLYMESH_SIEVE chooses.

    "auto", the default, takes the newest libprimesieve where there is one, and otherwise NumPy.

    Returns:
        The sieve, and why it is this one.

    Raises:
        SieveUnavailable: The choice is unknown, or libprimesieve is chosen and there is none.
    """
    choice = os.environ.get(CHOICE_VARIABLE, "auto")
    if choice not in CHOICES:
        raise SieveUnavailable(f"{CHOICE_VARIABLE}: {choice!r} is not one of {', '.join(CHOICES)}")
    if choice != "numpy":
        from tallymesh_kernels.primesieve import Primesieve

        if chosen := Primesieve.newest():
            return chosen
        if choice == "libprimesieve":
            raise SieveUnavailable(
                f"{CHOICE_VARIABLE}: there is no libprimesieve in the system, nor its wheel"
            )
    from tallymesh_kernels.numpy_sieve import NumpySieve

    reason = f"{CHOICE_VARIABLE} says so" if choice == "numpy" else "there is no libprimesieve"
    return NumpySieve(), reason


def open_sieve() -> Sieve:
    """Loads the sieve that TALLYMESH_SIEVE chooses, as for `choose_sieve`."""
    return choose_sieve()[0]


def describe_sieve() -> str:
    """The sieve that chunks in this environment are computed with.

    Raises:
        SieveUnavailable: There is none, as for `choose_sieve`.
    """
    return open_sieve().describe()
