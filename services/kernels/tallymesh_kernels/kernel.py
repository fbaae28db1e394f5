"""What a kernel is, and what it may raise.

A kernel's light half (`validate`, `plan`, `merge`, `finish`, `amount`) runs in any process that
handles jobs, so it loads nothing heavy. What is heavy is loaded by the first `run`.
"""

from dataclasses import dataclass
from typing import Protocol, TypeVar

from google.protobuf.message import Message

from tallymesh.v1 import work_pb2

W_contra = TypeVar("W_contra", bound=Message, contravariant=True)
"""The kernel's own input message, such as CountPrimes."""

# What floating point may add to a whole.
_ROUNDING = 1e-6

P = TypeVar("P", int, work_pb2.Result)
"""What a chunk gives: a number for additive kernels, a partial Result for the others."""


class Invalid(ValueError):
    """A field of the work is missing, malformed or out of its bound.

    Attributes:
        field: Path of the field inside the kernel's message, such as `numbers[3]`.
        value: What it holds, as text; "" when it is missing.
        bound: What it should be, as the end of the sentence "it is not ...".
    """

    def __init__(self, field: str, value: object, bound: str) -> None:
        super().__init__(f"{field}: {str(value)!r} is not {bound}")
        self.field = field
        self.value = str(value)
        self.bound = bound


class ChunkError(Exception):
    """A chunk could not be computed: the message tells the user why. It may be tried again."""


class Cancelled(BaseException):
    """The chunk is not wanted any more.

    A BaseException, so that no kernel's `except Exception` can turn a cancel into a retry.
    """


class Context(Protocol):
    """What a chunk knows of its run."""

    @property
    def attempt(self) -> int:
        """Which attempt at the chunk this is."""

    def progress(self, fraction: float) -> None:
        """Tells how much of the chunk is done, 0 to 1."""

    def log(self, text: str) -> None:
        """Adds lines to the chunk's log, of which the last 16 KiB are kept."""

    def check(self) -> None:
        """Raises Cancelled when the chunk is to stop."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Which part of the work to compute.

    Attributes:
        index: The part, from 0.
        count: Into how many parts the work is cut.
    """

    index: int
    count: int

    def of(self, size: int) -> tuple[int, int]:
        """This chunk's half-open share of `size` things: contiguous, and even to within one."""
        return size * self.index // self.count, size * (self.index + 1) // self.count


def checked_fraction(fraction: float) -> float:
    """Returns how far a chunk is, within 0 to 1; errors of rounding are forgiven.

    Raises:
        ValueError: It is no such fraction: a percentage, or not a number.
    """
    if -_ROUNDING <= fraction <= 1 + _ROUNDING:
        return min(max(fraction, 0.0), 1.0)
    raise ValueError(f"progress takes a fraction from 0 to 1, not {fraction}")


class Kernel(Protocol[W_contra, P]):
    """A computation that can be cut into chunks.

    Attributes:
        name: As workers say it: its member of the `kernel` oneofs of Work and Result, such as
            "count_primes". Where a member has several kernels, as not every worker has all of them,
            the others' names go on after a dot, such as "count_primes.tuplets".
        additive: Chunks give integers, and their sum is what `finish` gets.
        max_chunks: Into how many chunks the work may be cut at most.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - see the class

    @property
    def additive(self) -> bool: ...  # noqa: D102 - see the class

    @property
    def max_chunks(self) -> int: ...  # noqa: D102 - see the class

    def validate(self, work: W_contra, /) -> None:
        """Raises Invalid if the work cannot be computed."""

    def plan(self, work: W_contra, /) -> int:
        """How many chunks to cut valid work into, 1 to `max_chunks`."""

    def run(self, work: W_contra, chunk: Chunk, context: Context, /) -> P:
        """Computes one chunk of valid work.

        Raises:
            Cancelled: `context` said that the chunk is to stop.
            ChunkError: It could not be computed.
        """

    def merge(self, a: P, b: P, /) -> P:
        """Joins what two chunks, or two runs of consecutive chunks, gave. Associative."""

    def finish(self, work: W_contra, total: P, /) -> work_pb2.Result:
        """Makes the job's result of what all chunks gave, merged."""

    def amount(self, result: work_pb2.Result, /) -> str:
        """What a result adds to an abacus, as a decimal."""
