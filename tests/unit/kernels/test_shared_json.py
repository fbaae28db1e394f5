"""What the chunks of a job share is read once, and no chunk can spoil it for another."""

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tallymesh.json_values import to_struct
from tallymesh.v1.work_pb2 import CustomWork
from tallymesh_kernels import Chunk, kernel
from tallymesh_kernels.shared_json import ReadWork, SharedDict, SharedList, shared
from tallymesh_kernels.testing import Recorder

PLAIN: dict[str, Any] = {"a": [1, {"b": [2, 3]}, "x"], "c": {"d": None}}


def mutations(kind: type) -> list[str]:
    """The methods of a kind that change it: all but those that a frozen one of the sort has."""
    kept = {*dir(tuple), *dir(frozenset), "get", "items", "keys", "values", "fromkeys", "__or__"}
    return [name for name in dir(kind) if name not in kept and not name.startswith(("__r", "__cl"))]


@pytest.mark.parametrize("name", mutations(dict))
def test_no_object_can_be_changed(name: str) -> None:
    with pytest.raises(TypeError, match="shared by all chunks"):
        getattr(shared(PLAIN)["c"], name)("d", 1)


@pytest.mark.parametrize("name", mutations(list))
def test_no_list_can_be_changed(name: str) -> None:
    with pytest.raises(TypeError, match="shared by all chunks"):
        getattr(shared(PLAIN)["a"][1]["b"], name)(0, 1)


def test_it_is_what_it_was() -> None:
    made = shared(PLAIN)
    assert made == PLAIN
    assert isinstance(made, dict)
    assert isinstance(made["a"], list)
    assert json.dumps(made) == json.dumps(PLAIN)
    assert np.array(made["a"][1]["b"]).sum() == 5
    assert [*made["a"]][1:] == PLAIN["a"][1:]


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))], ids=["deep", "pickle"]
)
def test_copies_are_plain(copied: Callable[[Any], Any]) -> None:
    made = copied(shared(PLAIN))
    assert made == PLAIN
    assert (type(made), type(made["a"]), type(made["a"][1]["b"])) == (dict, list, list)
    made["a"][1]["b"].append(4)
    assert (type(copy.copy(shared(PLAIN))), type(copy.copy(shared(PLAIN)["a"]))) == (dict, list)


def test_a_work_is_read_once_for_all_that_a_kernel_does() -> None:
    given: list[dict[str, Any]] = []

    def take(work: dict[str, Any]) -> int:
        given.append(work)
        return 3

    def validate(work: dict[str, Any]) -> None:
        take(work)

    @kernel("acme.x", plan=take, validate=validate, merge=max, finish=lambda work, _: take(work))
    def compute(work: dict[str, Any], chunk: Chunk, context: Any) -> int:
        return take(work)

    read = compute.read(CustomWork(kernel="acme.x", json=to_struct(PLAIN)))
    assert compute.read(read) is read
    compute.validate(read)
    assert compute.plan(read) == 3
    unsummed = compute.unsummed()
    for index in range(3):
        partial = unsummed.run(read, Chunk(index, 3), Recorder())
    unsummed.finish(read, partial)
    assert len(given) == 6
    assert all(one is read.json for one in given)


def test_nothing_is_read_that_nobody_needs() -> None:
    read = ReadWork(CustomWork(kernel="acme.x", json=to_struct(PLAIN)))

    @kernel("acme.x", plan=2)
    def compute(work: dict[str, Any], chunk: Chunk, context: Any) -> int:
        return 1

    compute.validate(read)
    compute.plan(read)
    assert "json" not in vars(read)


def test_kinds() -> None:
    assert (type(shared({})), type(shared([]))) == (SharedDict, SharedList)
