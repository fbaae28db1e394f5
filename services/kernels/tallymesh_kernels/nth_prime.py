"""The n-th prime."""

from tallymesh.v1.work_pb2 import NthPrime, NthPrimeResult, Result
from tallymesh_kernels.kernel import Chunk, Context, Invalid

# pi(2^63 - 1): the prime after that many is more than libprimecount's numbers hold.
MAX_N = 216_289_611_853_439_384


class NthPrimeKernel:
    """Finds the prime of NthPrime. Its one chunk gives it."""

    name = "nth_prime"
    additive = True
    max_chunks = 1

    def validate(self, work: NthPrime) -> None:
        """Raises Invalid if there is no such prime, or it is too large."""
        if not 1 <= work.n <= MAX_N:
            raise Invalid("n", work.n, f"a number from 1 to {MAX_N}")

    def plan(self, work: NthPrime) -> int:
        """One chunk."""
        return 1

    def run(self, work: NthPrime, chunk: Chunk, context: Context) -> int:
        """The n-th prime."""
        from tallymesh_kernels.primecount import open_primecount

        library = open_primecount()
        context.check()
        return library.nth_prime(work.n)

    def merge(self, a: int, b: int) -> int:
        """Does not matter: there is one chunk."""
        return a + b

    def finish(self, work: NthPrime, total: int) -> Result:
        """The prime is the result."""
        return Result(nth_prime=NthPrimeResult(prime=total))

    def amount(self, result: Result) -> str:
        """The prime."""
        return str(result.nth_prime.prime)
