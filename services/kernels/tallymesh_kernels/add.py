"""Exact sums of decimals."""

import re
from decimal import Context as Precision
from decimal import Decimal, Inexact, InvalidOperation

from tallymesh.v1.work_pb2 import Add, AddResult, Result
from tallymesh_kernels.kernel import Chunk, Context, Invalid

MAX_NUMBERS = 10_000
MAX_CHARACTERS = 64
MAX_EXPONENT = 1024

_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE]([+-]?[0-9]+))?")

# No sum of valid numbers has more than some 2,200 digits; one that had would raise, not round.
_EXACT = Precision(prec=4096, traps=[Inexact, InvalidOperation])


class AddKernel:
    """Adds the numbers of Add. A chunk gives the sum of its share of them."""

    name = "add"
    additive = False
    max_chunks = 65_536

    def validate(self, work: Add) -> None:
        """Raises Invalid unless there are numbers, and all are decimals of bearable size."""
        if not 1 <= len(work.numbers) <= MAX_NUMBERS:
            raise Invalid("numbers", len(work.numbers), f"1 to {MAX_NUMBERS:,} numbers")
        for position, number in enumerate(work.numbers):
            field = f"numbers[{position}]"
            if len(number) > MAX_CHARACTERS:
                raise Invalid(field, number, f"at most {MAX_CHARACTERS} characters long")
            match = _DECIMAL.fullmatch(number)
            if match is None:
                raise Invalid(field, number, 'a decimal such as "2", "-0.1" or "1e3"')
            if abs(int(match[1] or 0)) > MAX_EXPONENT:
                bound = f"a decimal with an exponent of -{MAX_EXPONENT} to {MAX_EXPONENT}"
                raise Invalid(field, number, bound)

    def plan(self, work: Add) -> int:
        """One chunk: even 10,000 numbers take milliseconds."""
        return 1

    def run(self, work: Add, chunk: Chunk, context: Context) -> Result:
        """The sum of the chunk's share; "0" if that is empty."""
        context.check()
        begin, end = chunk.of(len(work.numbers))
        total = Decimal(0)
        for number in work.numbers[begin:end]:
            total = _EXACT.add(total, Decimal(number))
        return _result(total)

    def merge(self, a: Result, b: Result) -> Result:
        """The sum of two sums."""
        return _result(_EXACT.add(Decimal(a.add.sum), Decimal(b.add.sum)))

    def finish(self, work: Add, total: Result) -> Result:
        """The merged sum is the result."""
        return total

    def amount(self, result: Result) -> str:
        """The sum."""
        return result.add.sum


def _result(total: Decimal) -> Result:
    plain = format(total, "f")
    if "." in plain:
        plain = plain.rstrip("0").rstrip(".")
    return Result(add=AddResult(sum=plain if total else "0"))
