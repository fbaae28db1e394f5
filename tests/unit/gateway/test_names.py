"""Texts for people hold nothing that a terminal or a log would obey."""

import pytest

from tallymesh_core.domain.errors import InvalidField
from tallymesh_gateway import names

CONTROLS = ["\0", "\x07", "\n", "\r", "\t", "\x1b[31m", "\x7f", "\x85", "\x9b"]


@pytest.mark.parametrize("control", CONTROLS, ids=ascii)
def test_a_control_character_is_no_part_of_a_label(control: str) -> None:
    with pytest.raises(InvalidField) as refused:
        names.labels({"team": f"a{control}b"}, "job.labels")
    assert refused.value.field == "job.labels[team]"
    assert "at most 255 characters, none a control character" in str(refused.value)


@pytest.mark.parametrize("value", ["", "a b", "zażółć", "日本", "🐝", "=/;,", "x" * 255])
def test_all_else_may_stand_in_a_label(value: str) -> None:
    assert names.labels({"team": value}, "job.labels") == {"team": value}


def test_too_long_a_label_is_refused() -> None:
    with pytest.raises(InvalidField, match="at most 255 characters"):
        names.labels({"team": "x" * 256}, "job.labels")


@pytest.mark.parametrize("control", CONTROLS, ids=ascii)
def test_sentences_of_workers_are_cleaned(control: str) -> None:
    assert control not in names.without_controls(f"it{control}broke")
    assert names.without_controls("it broke").split() == ["it", "broke"]
