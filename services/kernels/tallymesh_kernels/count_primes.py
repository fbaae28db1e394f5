"""Primes of a range, counted by sieve."""

from functools import cached_property

from tallymesh.v1.work_pb2 import CountPrimes, CountPrimesResult, Result
from tallymesh_kernels.kernel import Chunk, Context, Invalid
from tallymesh_kernels.pulse import Pulse
from tallymesh_kernels.sieve import Sieve, open_sieve
from tallymesh_kernels.sieve_cost import seconds_per_number, setup_seconds

MAX_NUMBER = (1 << 64) - 1

# Short enough that a bar moves and cores stay busy to the end, long enough that the mesh's own cost
# (a few milliseconds of processor time a chunk) hardly shows. Longer work affords longer chunks.
CHUNK_SECONDS, LONG_CHUNK_SECONDS = 0.05, 0.25
MANY_CHUNKS = 100
# Every chunk pays the set-up again; so much more sieving than set-up makes it worth another core.
CHUNK_SETUPS = 20
MAX_PLANNED_CHUNKS = 4096


class CountPrimesKernel:
    """Counts the primes of CountPrimes. A chunk gives the count of its part of the range."""

    name = "count_primes"
    additive = True
    max_chunks = 1 << 22

    def validate(self, work: CountPrimes) -> None:
        """Raises Invalid if the range ends before it starts, or the method is unknown.

        The bounds of 64 bits are the message's own.
        """
        if work.stop < work.start:
            bound = f"a number from {work.start} (start) to {MAX_NUMBER}"
            raise Invalid("stop", work.stop, bound)
        if work.method not in CountPrimes.Method.values():
            known = ", ".join(CountPrimes.Method.keys())
            raise Invalid("method", work.method, f"one of {known}")

    def plan(self, work: CountPrimes) -> int:
        """As many chunks as give each some 50 to 250 ms of sieving, and little set-up beside it."""
        seconds = _width(work) * seconds_per_number(work.stop)
        chunk_seconds = min(max(CHUNK_SECONDS, seconds / MANY_CHUNKS), LONG_CHUNK_SECONDS)
        chunk_seconds = max(chunk_seconds, CHUNK_SETUPS * setup_seconds(work.stop))
        return max(1, min(round(seconds / chunk_seconds), MAX_PLANNED_CHUNKS))

    def run(self, work: CountPrimes, chunk: Chunk, context: Context) -> int:
        """How many primes the chunk's part of the range holds."""
        begin, end = chunk.of(_width(work))
        pulse = Pulse(context, end - begin)
        if begin == end:
            return 0
        return self._sieve.count(work.start + begin, work.start + end - 1, pulse)

    def merge(self, a: int, b: int) -> int:
        """Counts of disjoint parts add up."""
        return a + b

    def finish(self, work: CountPrimes, total: int) -> Result:
        """The result holds the count and how it was made."""
        return Result(count_primes=CountPrimesResult(count=total, method=CountPrimes.METHOD_SIEVE))

    def amount(self, result: Result) -> str:
        """The count."""
        return str(result.count_primes.count)

    @cached_property
    def _sieve(self) -> Sieve:
        return open_sieve()


def _width(work: CountPrimes) -> int:
    return work.stop - work.start + 1
