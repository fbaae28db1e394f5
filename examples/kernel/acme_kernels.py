"""The kernels of Acme."""

from typing import Any

from tallymesh_kernels import Chunk, Context, Invalid, kernel


def _validate(work: dict[str, Any]) -> None:
    last = work.get("last")
    if not isinstance(last, int) or last < 1:
        raise Invalid("last", last, "a whole number from 1 on")


def _plan(work: dict[str, Any]) -> int:
    return min(1 + work["last"] // 10_000, 1000)


@kernel("acme.collatz", plan=_plan, validate=_validate)
def collatz(work: dict[str, Any], chunk: Chunk, context: Context) -> int:
    """Steps to 1 of all Collatz sequences that start at 1 to `last`."""
    first, end = chunk.of(work["last"])
    steps = 0
    for start in range(first + 1, end + 1):
        if start % 1000 == 0:
            context.check()  # ends the chunk here if its job was cancelled
            context.progress((start - first) / (end - first))
        number = start
        while number != 1:
            number = 3 * number + 1 if number % 2 else number // 2
            steps += 1
    context.log(f"{end - first} sequences, {steps} steps")
    return steps
