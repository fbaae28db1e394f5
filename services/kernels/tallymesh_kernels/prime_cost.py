"""What libprimesieve and libprimecount take to count primes, on one core.

Fitted to measurements from 0 to 2^64 on a current server core. They need to be right to a factor of
two only: they choose how to count and how finely to cut, never what is counted.
"""

import math


def setup_seconds(stop: int) -> float:
    """Time of any sieve up to `stop`, however narrow: the sieving primes up to its root."""
    return 0.3e-9 * math.sqrt(stop)


def seconds_per_number(stop: int) -> float:
    """Time to sieve one more number just below `stop`."""
    return 0.09e-9 * max(1.0, math.pow(stop / 1e9, 0.1))


def pi_seconds(number: int) -> float:
    """Time to count the primes up to `number` by combinatorial formulas."""
    return 0.23 * math.pow(number / 1e14, 0.6)
