"""What is given to the public face, looked at by its annotations before anything else is done."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from datetime import datetime, timedelta
from numbers import Real
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    Unpack,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from tallymesh.errors import InvalidField, WrongType

Kind = TypeVar("Kind", bound=type)
Function = TypeVar("Function", bound=Callable[..., Any])
Item = TypeVar("Item")


@dataclass(frozen=True)
class Within:
    """The bounds of a whole number, as `Annotated[int, Within(1, 9)]`."""

    low: int
    high: int


#: How many to ask for in one call. The mesh knows the bound of each list; this is what can be sent.
PageSize = Annotated[int, Within(1, 2**31 - 1)]
#: Which chunk of a job; the last step of a job of n chunks is chunk n.
ChunkIndex = Annotated[int, Within(0, 2**22)]


def checked(kind: Kind) -> Kind:
    """Has the public methods of a class look at what they are given, and a dataclass at its fields.

    Raises:
        WrongType: From each of them, for the first argument that is not as annotated.
        InvalidField: The same, for a number out of its bounds, and for text that is no UTF-8.
    """
    for name, member in list(vars(kind).items()):
        made = name == "__init__" and is_dataclass(kind)
        if inspect.isfunction(member) and (made or not name.startswith("_")):
            setattr(kind, name, checking(member))
    return kind


def checking(function: Function) -> Function:
    """Has one function look at what it is given, as checked()."""
    # Annotations are read when they are first needed: importing the library is to stay cheap.
    arguments = functools.cache(lambda: _Arguments(function))
    call: Any
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            arguments().check(args, kwargs)
            return await function(*args, **kwargs)

    else:

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            arguments().check(args, kwargs)
            return function(*args, **kwargs)

    found: Function = call
    return found


def each(argument: str, given: Iterable[Item], kind: Any) -> Iterator[Item]:
    """Yields items as they come, each looked at.

    Args:
        argument: Name of the whole, for the error.
        given: The items.
        kind: Annotation of an item.

    Raises:
        WrongType: An item is not as annotated; the error has its index.
    """
    check = _check_of(kind)
    for index, item in enumerate(given):
        check(f"{argument}[{index}]", item)
        yield item


_Check = Callable[[str, Any], None]


class _Arguments:
    """The checks of a function's arguments, by place and by name."""

    def __init__(self, function: Callable[..., Any]) -> None:
        hints = get_type_hints(function, include_extras=True)
        self._placed: list[tuple[str, _Check]] = []
        self._named: dict[str, _Check] = {}
        self._rest: tuple[str, _Check] | None = None
        for name, parameter in inspect.signature(function).parameters.items():
            hint = hints.get(name, Any)
            if parameter.kind is parameter.VAR_KEYWORD:
                (options,) = get_args(hint) if get_origin(hint) is Unpack else (Any,)
                if is_typeddict(options):
                    for key, of_key in get_type_hints(options, include_extras=True).items():
                        self._named[key] = _check_of(of_key)
                continue
            check = _check_of(hint)
            if parameter.kind is parameter.VAR_POSITIONAL:
                self._rest = name, check
            elif parameter.kind is not parameter.KEYWORD_ONLY:
                self._placed.append((name, check))
            self._named.setdefault(name, check)

    def check(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Looks at what one call is given; what is missing, or too much, is for Python to say."""
        for (name, check), value in zip(self._placed, args, strict=False):
            check(name, value)
        if self._rest is not None:
            name, check = self._rest
            for index, value in enumerate(args[len(self._placed) :]):
                check(f"{name}[{index}]", value)
        for name, value in kwargs.items():
            if (named := self._named.get(name)) is not None:
                named(name, value)


def _check_of(hint: Any) -> _Check:
    """Returns what looks at a value that is annotated so."""
    words, is_one, look = _words(hint), _test_of(hint), _look_of(hint)

    def check(name: str, value: Any) -> None:
        if not is_one(value):
            raise WrongType.of(name, value, words)
        look(name, value)

    return check


def _is_int(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, float)


def _is_bool(value: Any) -> bool:
    # NumPy has one of its own.
    return isinstance(value, int) or type(value).__name__ in ("bool", "bool_")


def _is_many(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes)


_TESTS: dict[Any, Callable[[Any], bool]] = {
    Any: lambda value: True,
    int: _is_int,
    float: lambda value: isinstance(value, Real),
    bool: _is_bool,
    Iterable: _is_many,
    Sequence: lambda value: _is_many(value) and isinstance(value, Sequence),
    Callable: callable,
    Literal: lambda value: isinstance(value, str),
}


def _test_of(hint: Any) -> Callable[[Any], bool]:
    """Returns what tells whether a value is of the type."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _test_of(args[0])
    if origin in (Union, UnionType):
        tests = [_test_of(one) for one in args]
        return lambda value: any(test(value) for test in tests)
    kind = origin or hint
    return _TESTS.get(kind) or (lambda value: isinstance(value, kind))


def _look_of(hint: Any) -> _Check:
    """Returns what looks into a value that is of the right type."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        (bounds,) = (one for one in args if isinstance(one, Within))
        return functools.partial(_demand_within, bounds)
    if origin in (Union, UnionType):
        looks = [(_test_of(one), _look_of(one)) for one in args]

        def look(name: str, value: Any) -> None:
            next(look for test, look in looks if test(value))(name, value)

        return look
    if hint is str:
        return _demand_text
    if origin is Sequence:
        of_item = _check_of(args[0])

        def look_at_each(name: str, value: Any) -> None:
            for index, item in enumerate(value):
                of_item(f"{name}[{index}]", item)

        return look_at_each
    if origin is Mapping and Any not in args:
        of_key, of_value = map(_check_of, args)

        def look_into(name: str, value: Any) -> None:
            for key, item in value.items():
                of_key(name, key)
                of_value(f"{name}[{key!r}]", item)

        return look_into
    return lambda name, value: None


def _demand_within(bounds: Within, name: str, value: Any) -> None:
    if value is not None and not bounds.low <= value <= bounds.high:
        raise InvalidField.of(name, value, f"in {bounds.low} to {bounds.high}")


def _demand_text(name: str, value: str) -> None:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InvalidField.of(name, ascii(value), "text: half of a surrogate pair") from error


_WORDS: dict[Any, str] = {
    NoneType: "None",
    int: "an int",
    float: "a number",
    bool: "a bool",
    str: "a str",
    bytes: "bytes",
    datetime: "a datetime",
    timedelta: "a timedelta",
    Callable: "a function",
}


def _words(hint: Any) -> str:
    """Returns how to say what is taken."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _words(args[0])
    if origin in (Union, UnionType):
        *most, last = [_words(one) for one in args]
        return f"{', '.join(most)} or {last}"
    if origin is Literal:
        return "a str"
    if origin is Mapping:
        of = "" if Any in args else f" of {' to '.join(_words(one).split()[-1] for one in args)}"
        return f"a mapping{of}"
    if origin in (Iterable, Sequence):
        return "a list"
    return _WORDS.get(origin or hint, f"a {getattr(hint, '__name__', hint)}")
