"""What a worker counts primes with, in words for those who run it."""

from typing import Final

from tallymesh_kernels.sieve import SieveUnavailable, choose_sieve

#: No line is longer: the worker's contract bounds them.
MAX_CHARS: Final = 255


def describe_libraries() -> tuple[str, ...]:
    """Loads what primes are counted with here, and describes it.

    Returns:
        A line for the sieve and one for the formulas: what it is and why, or why there is none.
    """
    return _sieve()[:MAX_CHARS], _formulas()[:MAX_CHARS]


def _sieve() -> str:
    try:
        sieve, reason = choose_sieve()
    except SieveUnavailable as error:
        return str(error)
    return f"{sieve.describe()}: {reason}"


def _formulas() -> str:
    from tallymesh_kernels.primecount import PrimecountUnavailable, choose_primecount

    try:
        library, reason = choose_primecount()
    except PrimecountUnavailable as error:
        return str(error)
    return f"{library.describe()}: {reason}"
