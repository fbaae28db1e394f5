"""Primes of a range and their tuplets, counted by sieve or by combinatorial formulas."""

from functools import cached_property

from tallymesh.v1.work_pb2 import CountPrimes, CountPrimesResult, Result
from tallymesh_kernels.kernel import Chunk, Context, Invalid
from tallymesh_kernels.prime_cost import seconds_per_number, setup_seconds
from tallymesh_kernels.pulse import Pulse
from tallymesh_kernels.sieve import Sieve, open_sieve
from tallymesh_kernels.tuplets import Kind, span

MAX_NUMBER = (1 << 64) - 1
# What libprimecount takes.
MAX_COMBINATORIAL = (1 << 63) - 1

# Three kernels for one message. Workers that were written before there were tuplets and methods do
# not know these fields, and would count primes by sieve: they serve the first alone.
PRIMES = "count_primes"
TUPLETS = "count_primes.tuplets"
COMBINATORIAL = "count_primes.combinatorial"

# Short enough that a bar moves and cores stay busy to the end, long enough that the mesh's own cost
# (a few milliseconds of processor time a chunk) hardly shows. Longer work affords longer chunks.
CHUNK_SECONDS, LONG_CHUNK_SECONDS = 0.05, 0.25
MANY_CHUNKS = 100
# Every chunk pays the set-up again; so much more sieving than set-up makes it worth another core.
CHUNK_SETUPS = 20
MAX_PLANNED_CHUNKS = 4096


def kernel_of(work: CountPrimes) -> str:
    """The name of the kernel that counts what the work says, in the way that it says."""
    if work.method == CountPrimes.METHOD_COMBINATORIAL:
        return COMBINATORIAL
    return PRIMES if kind_of(work) == CountPrimes.KIND_PRIMES else TUPLETS


def kind_of(work: CountPrimes) -> Kind:
    """What the work counts."""
    return work.kind or CountPrimes.KIND_PRIMES


class _Counting:
    """What the kernels have in common."""

    additive = True

    def validate(self, work: CountPrimes) -> None:
        """Raises Invalid if the range ends before it starts, or cannot be counted so.

        The bounds of 64 bits are the message's own.
        """
        if work.stop < work.start:
            bound = f"a number from {work.start} (start) to {MAX_NUMBER}"
            raise Invalid("stop", work.stop, bound)
        if work.method not in CountPrimes.Method.values():
            known = ", ".join(CountPrimes.Method.keys())
            raise Invalid("method", work.method, f"one of {known}")
        if work.kind not in CountPrimes.Kind.values():
            known = ", ".join(CountPrimes.Kind.keys())
            raise Invalid("kind", work.kind, f"one of {known}")
        if work.method == CountPrimes.METHOD_COMBINATORIAL:
            if kind_of(work) != CountPrimes.KIND_PRIMES:
                kind = CountPrimes.Kind.Name(work.kind)
                raise Invalid("kind", kind, "KIND_PRIMES, all that METHOD_COMBINATORIAL counts")
            if work.stop > MAX_COMBINATORIAL:
                bound = f"a number up to {MAX_COMBINATORIAL}, where METHOD_COMBINATORIAL ends"
                raise Invalid("stop", work.stop, bound)

    def merge(self, a: int, b: int) -> int:
        """Counts of disjoint parts add up."""
        return a + b

    def finish(self, work: CountPrimes, total: int) -> Result:
        """The result holds the count, what was counted, how it was, and why so."""
        return Result(
            count_primes=CountPrimesResult(
                count=total,
                method=work.method or CountPrimes.METHOD_SIEVE,
                kind=kind_of(work),
                method_reason=work.method_reason or ("asked for" if work.method else ""),
            )
        )

    def amount(self, result: Result) -> str:
        """The count."""
        return str(result.count_primes.count)


class SieveKernel(_Counting):
    """Sieves. A chunk gives the count of what begins in its part of the range."""

    max_chunks = 1 << 22

    def __init__(self, name: str) -> None:
        """Serves PRIMES or TUPLETS."""
        self.name = name

    def plan(self, work: CountPrimes) -> int:
        """As many chunks as give each some 50 to 250 ms of sieving, and little set-up beside it."""
        seconds = width(work) * seconds_per_number(work.stop)
        chunk_seconds = min(max(CHUNK_SECONDS, seconds / MANY_CHUNKS), LONG_CHUNK_SECONDS)
        chunk_seconds = max(chunk_seconds, CHUNK_SETUPS * setup_seconds(work.stop))
        return max(1, min(round(seconds / chunk_seconds), MAX_PLANNED_CHUNKS))

    def run(self, work: CountPrimes, chunk: Chunk, context: Context) -> int:
        """How many begin in the chunk's part of the range, and end in the whole of it."""
        begin, end = chunk.of(width(work))
        pulse = Pulse(context, end - begin)
        if begin == end:
            return 0
        kind = kind_of(work)
        # So far that it holds all of a tuplet that begins in the part, and too short a way beyond
        # it to hold one that begins there.
        last = min(work.start + end - 1 + span(kind), work.stop)
        return self._sieve.count(kind, work.start + begin, last, pulse)

    @cached_property
    def _sieve(self) -> Sieve:
        return open_sieve()


class CombinatorialKernel(_Counting):
    """Takes the primes below the range from those up to its end, both counted by formulas."""

    name = COMBINATORIAL
    max_chunks = 1

    def plan(self, work: CountPrimes) -> int:
        """One chunk: the formulas count from 0."""
        return 1

    def run(self, work: CountPrimes, chunk: Chunk, context: Context) -> int:
        """How many primes the range holds."""
        from tallymesh_kernels.primecount import open_primecount

        library = open_primecount()
        context.check()
        total = library.pi(work.stop)
        if work.start < 2:
            return total
        context.check()
        return total - library.pi(work.start - 1)


def width(work: CountPrimes) -> int:
    """How many numbers the range holds."""
    return work.stop - work.start + 1
