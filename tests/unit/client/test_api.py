"""The published library: what it offers is what is listed here, and both faces offer the same."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tallymesh

#: The listing. Changed on purpose: `python -m tests.unit.client.test_api` writes it anew.
LISTING = Path(__file__).with_name("api.txt")
PAIRS = [
    (tallymesh.Client, tallymesh.AsyncClient),
    (tallymesh.JobHandle, tallymesh.AsyncJobHandle),
    (tallymesh.Abacus, tallymesh.AsyncAbacus),
    (tallymesh.DeadLetters, tallymesh.AsyncDeadLetters),
]


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """The public members of a class that are its own, and how it is made."""
    for name, member in vars(kind).items():
        if name == "__init__" or not name.startswith("_"):
            yield name, member


def signature(function: Any) -> str:
    """Names, kinds and defaults of the parameters."""
    given = inspect.signature(function).parameters.values()
    return f"({', '.join(str(one.replace(annotation=one.empty)) for one in given)})"


def listing() -> str:
    lines = []
    for name in sorted(tallymesh.__all__):
        thing = getattr(tallymesh, name)
        lines.append(name)
        if (
            inspect.isclass(thing)
            and thing.__module__.startswith("tallymesh.")
            and (".v1." not in thing.__module__)
        ):
            for member, value in sorted(members(thing)):
                shown = signature(value) if inspect.isfunction(value) else ""
                lines.append(f"  {member}{shown}")
        elif inspect.isfunction(thing):
            lines[-1] += signature(thing)
    return "\n".join(lines) + "\n"


def test_what_is_published_is_what_is_listed() -> None:
    assert listing() == LISTING.read_text()


@pytest.mark.parametrize(("blocking", "awaited"), PAIRS, ids=lambda kind: kind.__name__)
def test_both_faces_offer_the_same(blocking: type, awaited: type) -> None:
    one, other = dict(members(blocking)), dict(members(awaited))
    assert one.keys() == other.keys()
    for name, member in one.items():
        if inspect.isfunction(member) and name != "__init__":
            assert signature(member) == signature(other[name]), name


def test_everything_says_what_it_is_for() -> None:
    silent = [
        f"{kind.__name__}.{name}"
        for pair in PAIRS
        for kind in pair
        for name, member in members(kind)
        if not inspect.getdoc(member) and name != "__init__"
    ]
    assert silent == []


if __name__ == "__main__":
    LISTING.write_text(listing())
