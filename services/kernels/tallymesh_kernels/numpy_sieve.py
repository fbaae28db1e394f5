"""A segmented sieve of Eratosthenes that needs NumPy only. Exact from 0 to 2^64 - 1.

Segments hold odd numbers only: index j of a segment stands for low + 2 j, low being odd. Single
numbers are kept as Python integers, which do not overflow; arrays of them are uint64 and hold
either primes up to 2^32 or offsets into a segment.
"""

from math import isqrt

import numpy as np
from numpy.typing import NDArray

from tallymesh.v1.work_pb2 import CountPrimes
from tallymesh_kernels.pulse import Pulse
from tallymesh_kernels.tuplets import PATTERNS, Kind, span

Flags = NDArray[np.bool_]
Primes = NDArray[np.uint64]

# Flags (one byte for each odd number) of a segment: about a second-level cache. Where there are
# many base primes segments grow, up to 64 MiB, so that each prime has something to strike out.
MIN_SEGMENT = 1 << 20
MAX_SEGMENT = 1 << 26

# Base primes up to here (2.4 MB of them) are kept. All up to 2^32 would take 1.6 GB, so higher ones
# are found anew, a block at a time, for every segment.
KEPT_PRIMES = 1 << 22
BLOCK = 1 << 22

# Primes up to a segment's size / DENSE are struck out one by one, larger ones all at once.
DENSE = 64

# Proving one number prime by itself takes about as long as sieving so many for base primes. Where
# the range is narrow and high, that is done to what is left after the primes up to PRESIEVE.
PROOF_COST = 2000
PRESIEVE = 1 << 16

# No composite below 3.18 * 10^23 is a strong probable prime to all of these bases
# (J. Sorenson and J. Webster, "Strong pseudoprimes to twelve prime bases", 2015).
WITNESSES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)


class NumpySieve:
    """Counts primes with NumPy, in at most some 150 MiB."""

    def describe(self) -> str:
        """NumPy's version."""
        return f"numpy {np.__version__}"

    def count(self, kind: Kind, start: int, stop: int, pulse: Pulse) -> int:
        """How many of a kind lie wholly between `start` and `stop`, both included.

        Raises:
            Cancelled: `pulse` said so.
        """
        root = isqrt(stop)
        narrow = root > PRESIEVE and (stop - start + 1) * PROOF_COST < root
        kept = base_primes(min(root, PRESIEVE if narrow else KEPT_PRIMES))
        segment = max(MIN_SEGMENT, min(4 * root, MAX_SEGMENT))
        total = 1 if kind == CountPrimes.KIND_PRIMES and start <= 2 <= stop else 0
        for low in range(max(start, 3) | 1, stop + 1, 2 * segment):
            done = low - start
            pulse.at(done)
            # So far that a segment holds all of a tuplet that begins in it, and too short a way
            # into the next one to hold a tuplet that begins there.
            size = min(segment + span(kind) // 2, (stop - low) // 2 + 1)
            flags = np.ones(size, np.bool_)
            strike(flags, low, kept)
            if narrow:
                for index in np.flatnonzero(flags).tolist():
                    pulse.at(done + 2 * index)
                    flags[index] = is_prime(low + 2 * index)
            else:
                for block in range(KEPT_PRIMES + 1, root + 1, BLOCK):
                    pulse.at(done + 2 * size * block / root)
                    strike(flags, low, _primes_between(block, min(block + BLOCK - 1, root), kept))
            total += count_tuplets(flags, kind)
        return total


def count_tuplets(flags: Flags, kind: Kind) -> int:
    """How many of a kind lie wholly among the flags of consecutive odd numbers."""
    begins = len(flags) - span(kind) // 2
    if begins <= 0:
        return 0
    total = 0
    for pattern in PATTERNS[kind]:
        tuplets = flags[:begins]
        for distance in pattern[1:]:
            tuplets = tuplets & flags[distance // 2 :][:begins]
        total += int(np.count_nonzero(tuplets))
    return total


def base_primes(limit: int) -> Primes:
    """All odd primes up to `limit`."""
    if limit < 3:
        return np.empty(0, np.uint64)
    return _primes_between(3, limit, base_primes(isqrt(limit)))


def strike(flags: Flags, low: int, primes: Primes) -> None:
    """Clears the flags of all multiples of the odd, ascending `primes`, from their squares on."""
    size = len(flags)
    primes = primes[: np.searchsorted(primes, np.uint64(isqrt(low + 2 * (size - 1))), "right")]
    # The way from `low` to the next multiple; an odd way leads to an even one: one prime further.
    ways = (primes - np.uint64(low) % primes) % primes
    firsts = (ways + primes * (ways & np.uint64(1))) // np.uint64(2)
    inside = np.searchsorted(primes, np.uint64(isqrt(low)), "right")
    firsts[inside:] = (primes[inside:] * primes[inside:] - np.uint64(low)) // np.uint64(2)

    dense = np.searchsorted(primes, np.uint64(size // DENSE), "right")
    for prime, first in zip(primes[:dense].tolist(), firsts[:dense].tolist(), strict=True):
        flags[first::prime] = False
    indices, steps = firsts[dense:], primes[dense:]
    while len(indices):
        hits = indices < size
        indices, steps = indices[hits], steps[hits]
        flags[indices] = False
        indices = indices + steps


def is_prime(number: int) -> bool:
    """Whether an odd number from 41 to 2^64 - 1 is prime, by Miller and Rabin's test."""
    twos = ((number - 1) & -(number - 1)).bit_length() - 1
    odd = (number - 1) >> twos
    for witness in WITNESSES:
        power = pow(witness, odd, number)
        if power in (1, number - 1):
            continue
        for _ in range(twos - 1):
            power = power * power % number
            if power == number - 1:
                break
        else:
            return False
    return True


def _primes_between(low: int, high: int, smaller: Primes) -> Primes:
    """The primes from `low`, which is odd, to `high`, given all odd ones up to its root."""
    flags = np.ones((high - low) // 2 + 1, np.bool_)
    strike(flags, low, smaller)
    return np.flatnonzero(flags).astype(np.uint64) * np.uint64(2) + np.uint64(low)
