"""What can be no kernel is refused where it is marked as one, not by each chunk."""

import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tallymesh.v1.work_pb2 import CountPrimes
from tallymesh_kernels import Chunk, Context, MessageKernel, checked_fraction, kernel
from tallymesh_kernels.own import Messages


async def awaits(work: Any, chunk: Chunk, context: Context) -> int:
    return 1


def yields(work: Any, chunk: Chunk, context: Context) -> Iterator[int]:
    yield 1


async def does_both(work: Any, chunk: Chunk, context: Context) -> AsyncIterator[int]:
    yield 1


class Class:
    async def __call__(self, work: Any, chunk: Chunk, context: Context) -> int:
        return 1


@functools.wraps(awaits)
def wrapped(*arguments: Any) -> Any:
    return awaits(*arguments)


def works(work: Any, chunk: Chunk, context: Context) -> int:
    return 1


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (awaits, "kernel acme.x is an async function, which nobody awaits: use def"),
        (yields, "kernel acme.x is a generator function: return a value instead of yielding"),
        (does_both, "kernel acme.x is an async function, which nobody awaits: use def"),
        (wrapped, "kernel acme.x is an async function, which nobody awaits: use def"),
        (Class, "kernel acme.x is the class Class, not a function"),
        (Class(), "kernel acme.x is an async function, which nobody awaits: use def"),
        (functools.partial(awaits, {}), "kernel acme.x is an async function"),
        (7, "kernel acme.x is int, not a function"),
    ],
)
def test_what_gives_no_value_is_no_kernel(function: Any, sentence: str) -> None:
    with pytest.raises(TypeError, match=f"^{sentence}"):
        kernel("acme.x")(function)
    for role in ("validate", "merge"):
        with pytest.raises(TypeError, match=f"^the {role} of {sentence}"):
            kernel("acme.x", **{role: function})
    with pytest.raises(TypeError, match=f"^the finish of {sentence}"):
        kernel("acme.x", merge=max, finish=function)


def test_whatever_else_can_be_called_is_taken() -> None:
    for function in (works, functools.partial(works), lambda work, chunk, context: 1):
        assert kernel("acme.x", merge=max, plan=lambda work: 1)(function).name == "acme.x"


def test_a_kernel_over_messages_that_awaits_is_refused() -> None:
    class Awaits(MessageKernel[CountPrimes, CountPrimes, CountPrimes]):
        name = "acme.x"
        work_type = partial_type = result_type = CountPrimes

        async def run(  # type: ignore[override]
            self, work: Any, chunk: Chunk, context: Context
        ) -> Any:
            return work

        def merge(self, a: Any, b: Any) -> Any:
            return a

        def finish(self, work: Any, total: Any) -> Any:
            return total

    with pytest.raises(TypeError, match=r"run of kernel acme\.x is an async function"):
        Messages(Awaits())


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0, 1 + 1e-12, -1e-12])
def test_a_fraction_stays_within_its_bounds(fraction: float) -> None:
    assert checked_fraction(fraction) == pytest.approx(fraction)
    assert 0 <= checked_fraction(fraction) <= 1


@pytest.mark.parametrize("fraction", [1e308, 50, 1.01, -0.01, float("nan"), float("inf")])
def test_what_is_no_fraction_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="a fraction from 0 to 1, not"):
        checked_fraction(fraction)
