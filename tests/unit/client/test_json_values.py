"""JSON goes through protobuf and comes back as it was."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallymesh.json_values import MAX_EXACT, NotJson, from_struct, from_value, to_struct, to_value

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
    with pytest.raises(NotJson, match="nested too deeply"):
        to_value(loop)
    with pytest.raises(NotJson, match=r"^list, which is not a JSON object"):
        to_struct([])  # type: ignore[arg-type]
