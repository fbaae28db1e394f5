"""Kernels of one's own, as a user writes them: the shared mesh has them."""

import itertools
from collections import Counter
from typing import Any

from google.protobuf.wrappers_pb2 import Int64Value, StringValue

from tallymesh_kernels import Chunk, Context, Invalid, MessageKernel, kernel


def _demand_a_number(work: dict[str, Any]) -> None:
    if not isinstance(work.get("n"), int):
        raise Invalid("n", work.get("n", ""), "a whole number")


@kernel("acme.squares", plan=lambda work: 1 + work["n"] // 100, validate=_demand_a_number)
def squares(work: dict[str, Any], chunk: Chunk, context: Context) -> int:
    """The sum of the squares below n."""
    first, last = chunk.of(work["n"])
    return sum(number * number for number in range(first, last))


def _add_counts(a: dict[str, int], b: dict[str, int]) -> dict[str, int]:
    return dict(Counter(a) + Counter(b))


def _most(work: dict[str, Any], counts: dict[str, int]) -> list[Any]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[: work["most"]]


@kernel("acme.words", merge=_add_counts, finish=_most)
def words(work: dict[str, Any], chunk: Chunk, context: Context) -> dict[str, int]:
    """The words that occur most often, and how often."""
    found = work["text"].split()
    first, last = chunk.of(len(found))
    return dict(Counter(found[first:last]))


@kernel("acme.echo")
def echo(work: dict[str, Any], chunk: Chunk, context: Context) -> Any:
    """What it is given."""
    return work.get("give")


_plans = itertools.count(1)


@kernel("acme.fickle", plan=lambda work: next(_plans))
def fickle(work: dict[str, Any], chunk: Chunk, context: Context) -> int:
    """Plans the same work in another way each time."""
    return 1


@kernel("acme.hungry", plan=lambda work: 1 << 30)
def hungry(work: dict[str, Any], chunk: Chunk, context: Context) -> int:
    """Plans more chunks than there may be."""
    return 1


@kernel("acme.planless", plan=lambda work: len(work["missing"]))
def planless(work: dict[str, Any], chunk: Chunk, context: Context) -> int:
    """Has a plan that fails."""
    return 1


class Spell(MessageKernel[StringValue, StringValue, Int64Value]):
    """How many letters a text has, told by its letters in order."""

    name = "acme.spell"
    work_type = StringValue
    partial_type = StringValue
    result_type = Int64Value

    def validate(self, work: StringValue) -> None:
        if not work.value:
            raise Invalid("value", "", "a text")

    def plan(self, work: StringValue) -> int:
        return len(work.value)

    def run(self, work: StringValue, chunk: Chunk, context: Context) -> StringValue:
        first, last = chunk.of(len(work.value))
        return StringValue(value=work.value[first:last])

    def merge(self, a: StringValue, b: StringValue) -> StringValue:
        return StringValue(value=a.value + b.value)

    def finish(self, work: StringValue, total: StringValue) -> Int64Value:
        assert total.value == work.value, "parts are merged in their order"
        return Int64Value(value=len(total.value))
