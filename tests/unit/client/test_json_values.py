"""JSON goes through protobuf and comes back as it was."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from hypothesis import given
from hypothesis import strategies as st

from tallymesh.json_values import (
    MAX_DEPTH,
    MAX_EXACT,
    NotJson,
    from_struct,
    from_value,
    is_too_deep,
    to_struct,
    to_value,
)
from tallymesh.v1.dispatch_service_pb2 import ChunkResults, SynchronizeRequest
from tallymesh.v1.job_pb2 import Job
from tallymesh.v1.job_service_pb2 import CollectJobsResponse
from tallymesh.v1.work_pb2 import CustomResult, Result

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-MAX_EXACT, MAX_EXACT)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
JSON = st.recursive(
    SCALARS, lambda some: st.lists(some) | st.dictionaries(st.text(), some), max_leaves=20
)


@given(st.dictionaries(st.text(), JSON))
def test_an_object_comes_back(value: dict[str, Any]) -> None:
    assert from_struct(to_struct(value)) == value


def test_whole_numbers_come_back_as_ints() -> None:
    back = from_value(to_value([2**53, -1, 2.0, 0.5, 1e300]))
    assert [type(number) for number in back] == [int, int, int, float, float]


def test_tuples_and_numbers_of_numpy_are_taken() -> None:
    assert from_value(to_value((np.int64(3), np.float64(0.5)))) == [3, 0.5]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({1, 2}, "set, which is not JSON"),
        ({"a": [0, {"b": b"x"}]}, "bytes at a[1].b, which is not JSON"),
        ({"a": {1: 2}}, "the key 1 at a, which is not JSON: keys are strings"),
        ([float("nan")], "nan at [0], which is not JSON"),
        (2**53 + 1, "9007199254740993, more than JSON holds exactly: give a string"),
    ],
)
def test_what_is_not_json_is_named(value: Any, said: str) -> None:
    with pytest.raises(NotJson) as error:
        to_value(value)
    assert str(error.value) == said


def test_what_holds_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(NotJson, match=r"a list or object at .*, which is more than 30 deep within"):
        to_value(loop)


def nested(kinds: Sequence[bool], within: Any = 1) -> Any:
    """What stands in an object for each True, and in a list beside others for each False."""
    for is_object in kinds:
        within = {"a": 1, "b": within} if is_object else [1, within, 1]
    return within


@pytest.mark.parametrize("kinds", [[True], [False], [True, False]])
def test_as_deep_as_can_be_and_deeper(kinds: list[bool]) -> None:
    deepest = nested((kinds * MAX_DEPTH)[:MAX_DEPTH])
    value = to_value(deepest)
    assert from_value(value) == deepest
    assert not is_too_deep(value)
    # It fits into every message of the API, with room to spare.
    job = Job(result=Result(custom=CustomResult(json=value)))
    for message in (
        CollectJobsResponse(jobs=[job]),
        SynchronizeRequest(results=[ChunkResults(partials=[job.result])]),
    ):
        assert type(message).FromString(message.SerializeToString()) == message
    with pytest.raises(NotJson, match="more than 30 deep"):
        to_value([deepest])
    deeper = Value(list_value=ListValue(values=[value]))
    assert is_too_deep(deeper)
    assert is_too_deep(Struct(fields={"a": value}))


@given(st.lists(st.booleans(), max_size=31))
def test_what_is_too_deep_is_found_whatever_it_is_made_of(kinds: list[bool]) -> None:
    value = Value(number_value=1)
    for is_object in kinds:
        if is_object:
            value = Value(struct_value=Struct(fields={"a": value}))
        else:
            value = Value(list_value=ListValue(values=[Value(), value]))
    assert is_too_deep(value) == (len(kinds) > MAX_DEPTH)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("a\ud800", r"'a\\ud800', which is not Unicode text"),
        ({"k": ["\udfff"]}, r"'\\udfff' at k\[0\], which is not Unicode text"),
        ({"a": {"\ud800": 1}}, r"the key '\\ud800' at a, which is not Unicode text"),
        ([[1, float("inf")]], r"inf at \[0\]\[1\], which is not JSON"),
    ],
)
def test_what_no_message_can_hold_is_named_with_its_place(value: Any, sentence: str) -> None:
    with pytest.raises(NotJson, match=f"^{sentence}$"):
        to_value(value)
