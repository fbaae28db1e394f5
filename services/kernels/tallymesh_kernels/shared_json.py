"""JSON that all chunks of a job share: it is read once, and cannot be changed."""

from collections.abc import Callable
from functools import cached_property
from typing import Any, NoReturn

from tallymesh.json_values import from_struct
from tallymesh.v1.work_pb2 import CustomWork


def _refuses(name: str) -> Callable[..., NoReturn]:
    def refuse(self: object, *arguments: object, **named: object) -> NoReturn:
        raise TypeError(
            "the work is shared by all chunks of its job, so it cannot be changed:"
            " change a copy (copy.deepcopy, or dict and list for one level)"
        )

    refuse.__name__ = name
    return refuse


class SharedDict(dict[str, Any]):
    """An object; copies of it are plain ones."""

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        return dict, (dict(self),)


class SharedList(list[Any]):
    """A list; copies of it are plain ones."""

    def __reduce__(self) -> tuple[type[list[Any]], tuple[list[Any]]]:
        return list, (list(self),)


for _name in (
    *("__setitem__", "__delitem__", "__ior__", "clear", "pop", "popitem", "setdefault", "update"),
):
    setattr(SharedDict, _name, _refuses(_name))
for _name in (
    *("__setitem__", "__delitem__", "__iadd__", "__imul__", "append", "clear", "extend", "insert"),
    *("pop", "remove", "reverse", "sort"),
):
    setattr(SharedList, _name, _refuses(_name))


def shared(value: Any) -> Any:
    """Returns the same JSON, which cannot be changed."""
    match value:
        case dict():
            return SharedDict((key, shared(item)) for key, item in value.items())
        case list():
            return SharedList(map(shared, value))
        case _:
            return value


class ReadWork:
    """The work of a kernel that is a function, read when it is first needed, and once.

    Attributes:
        work: The work as it was submitted.
    """

    def __init__(self, work: CustomWork) -> None:
        """Reads nothing yet."""
        self.work = work

    @cached_property
    def json(self) -> dict[str, Any]:
        """What the function is given."""
        given: dict[str, Any] = shared(from_struct(self.work.json))
        return given
