"""JSON goes through protobuf and comes back as it was."""

from typing import Any

import numpy as np
import pytest
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from hypothesis import given
from hypothesis import strategies as st

from tallymesh import CustomWork, InvalidField, Job, JobEvent, Work, custom
from tallymesh.json_values import (
    MAX_EXACT,
    MAX_JSON_DEPTH,
    NotJson,
    TooDeep,
    from_struct,
    from_value,
    is_too_deep,
    to_struct,
    to_value,
)
from tallymesh.v1.dispatch_service_pb2 import (
    Assignment,
    ChunkResults,
    JobWork,
    SynchronizeRequest,
    SynchronizeResponse,
)
from tallymesh.v1.job_service_pb2 import (
    BatchCreateJobsRequest,
    CollectJobsResponse,
    ComputeResponse,
    CreateJobRequest,
    ListJobsResponse,
    RunJobRequest,
)
from tallymesh.v1.work_pb2 import CustomResult, Result
from tallymesh.works import make_job

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
    with pytest.raises(TooDeep, match="nested more than 32 deep, or in itself"):
        to_value(loop)
    with pytest.raises(NotJson, match=r"^list, which is not a JSON object"):
        to_struct([])  # type: ignore[arg-type]


def nested(kind: type, depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value} if kind is dict else [value]
    return value


@pytest.mark.parametrize("kind", [dict, list])
def test_what_is_taken_is_not_too_deep_for_any_message_around_it(kind: type) -> None:
    work = Work(custom=CustomWork(kernel="k", json=to_struct({"a": nested(kind, 31)})))
    result = Result(custom=CustomResult(json=to_value(nested(kind, 32))))
    request, job = Job(work=work), Job(work=work, result=result)
    for message in (
        BatchCreateJobsRequest(requests=[CreateJobRequest(job=request)]),
        RunJobRequest(job=request),
        JobEvent(ended=job),
        ListJobsResponse(jobs=[job]),
        CollectJobsResponse(jobs=[job]),
        ComputeResponse(result=result),
        SynchronizeRequest(results=[ChunkResults(partials=[result])]),
        SynchronizeResponse(
            works=[JobWork(work=work)], assignments=[Assignment(partials=[result])]
        ),
    ):
        assert type(message).FromString(message.SerializeToString()) == message


@pytest.mark.parametrize("kind", [dict, list])
def test_what_is_too_deep_names_field_and_bound(kind: type) -> None:
    with pytest.raises(
        InvalidField, match=r"job\.work\.custom\.json: .* at most 32 deep"
    ) as caught:
        custom("k", {"a": nested(kind, 32)})
    assert caught.value.bound == "nested at most 32 deep"
    with pytest.raises(TooDeep):
        to_value(nested(kind, 100_000))


def test_a_message_that_protobuf_cannot_read_again_is_refused() -> None:
    work = CustomWork(kernel="k")
    inner = work.json
    for _ in range(60):
        inner = inner.fields["a"].struct_value
    with pytest.raises(
        InvalidField, match=r"^job\.work: 'CustomWork' is not nested at most 32 deep"
    ):
        make_job(work, {})


@given(st.lists(st.booleans(), max_size=33))
def test_what_is_too_deep_is_found_whatever_it_is_made_of(kinds: list[bool]) -> None:
    value = Value(number_value=1)
    for is_object in kinds:
        if is_object:
            value = Value(struct_value=Struct(fields={"a": value}))
        else:
            value = Value(list_value=ListValue(values=[Value(), value]))
    assert is_too_deep(value) == (len(kinds) > MAX_JSON_DEPTH)


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
