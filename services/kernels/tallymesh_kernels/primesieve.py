"""libprimesieve, through its C API."""

from ctypes import c_uint64
from typing import ClassVar

from tallymesh.v1.work_pb2 import CountPrimes
from tallymesh_kernels.kernel import Chunk, ChunkError
from tallymesh_kernels.prime_cost import seconds_per_number, setup_seconds
from tallymesh_kernels.pulse import Pulse
from tallymesh_kernels.shared_library import SharedLibrary
from tallymesh_kernels.tuplets import Kind, span

# A call does not return before it is done, so a chunk is counted in several: each long enough that
# setting it up again costs under 1 %, and where that allows, short enough to be cancelled at once.
CALL_SECONDS = 0.075
CALL_SETUPS = 100

_ERROR = (1 << 64) - 1

_FUNCTIONS: dict[Kind, str] = {
    CountPrimes.KIND_PRIMES: "primesieve_count_primes",
    CountPrimes.KIND_TWINS: "primesieve_count_twins",
    CountPrimes.KIND_TRIPLETS: "primesieve_count_triplets",
    CountPrimes.KIND_QUADRUPLETS: "primesieve_count_quadruplets",
    CountPrimes.KIND_QUINTUPLETS: "primesieve_count_quintuplets",
    CountPrimes.KIND_SEXTUPLETS: "primesieve_count_sextuplets",
}


class Primesieve(SharedLibrary):
    """A loaded libprimesieve."""

    name: ClassVar[str] = "primesieve"

    def __init__(self, path: str, origin: str) -> None:
        """Loads the library, as SharedLibrary does."""
        super().__init__(path, origin)
        self._functions = {kind: getattr(self._library, name) for kind, name in _FUNCTIONS.items()}
        for function in self._functions.values():
            function.argtypes = (c_uint64, c_uint64)
            function.restype = c_uint64

    def count(self, kind: Kind, start: int, stop: int, pulse: Pulse) -> int:
        """How many of a kind lie wholly between `start` and `stop`, both included.

        Raises:
            Cancelled: `pulse` said so.
            ChunkError: The library failed, for want of memory.
        """
        function, further = self._functions[kind], span(kind)
        width = stop - start + 1
        call_seconds = max(CALL_SECONDS, CALL_SETUPS * setup_seconds(stop))
        calls = max(1, round(width * seconds_per_number(stop) / call_seconds))
        total = 0
        for call in range(calls):
            begin, end = Chunk(call, calls).of(width)
            pulse.at(begin)
            # So far that a tuplet is counted by the call in which it begins, and too short a way
            # into the next call's numbers to hold one that begins there.
            first, last = start + begin, min(start + end - 1 + further, stop)
            counted: int = function(first, last)
            if counted == _ERROR:
                raise ChunkError(f"libprimesieve failed from {first} to {last}")
            total += counted
        return total
