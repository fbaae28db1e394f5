"""What is given to the public face, and is none of what it takes, is refused by name."""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any, get_args, get_type_hints, is_typeddict

import numpy as np
import pytest

import tallymesh
from tallymesh import (
    Abacus,
    AsyncAbacus,
    AsyncClient,
    AsyncDeadLetters,
    AsyncJobHandle,
    Client,
    CountPrimes,
    DeadLetters,
    InvalidField,
    JobHandle,
    Limits,
    Tls,
    WrongType,
    custom,
)
from tests.unit.client.fake_mesh import FakeMesh

#: What an argument without a default is given while another one is wrong.
FITTING: dict[str, Any] = {
    "stop": 10,
    "n": 1,
    "work": CountPrimes(stop=1),
    "works": [],
    "jobs": [],
    "kernel": "k",
    "inputs": [],
    "name": "a",
    "amount": 1,
    "amounts": [1],
}
FACES: tuple[Any, ...] = (
    *(Client, JobHandle, Abacus, DeadLetters),
    *(AsyncClient, AsyncJobHandle, AsyncAbacus, AsyncDeadLetters),
)


def cases() -> Iterator[tuple[Any, str, str]]:
    """Every argument of everything public: its owner, the function, its name."""
    for kind in FACES:
        for name, member in vars(kind).items():
            if inspect.isfunction(member) and not name.startswith("_"):
                yield from of_function(kind, name, member)
    for kind in (Client, AsyncClient, Tls, Limits):
        yield from of_function(kind, "__init__", kind.__init__)
    yield from of_function(None, "custom", custom)


def of_function(kind: Any, name: str, function: Any) -> Iterator[tuple[Any, str, str]]:
    hints = get_type_hints(function)
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            (options,) = get_args(hints[parameter.name])
            assert is_typeddict(options)
            for option in options.__annotations__:
                yield kind, name, option
        elif parameter.name != "request" or name != "run":
            yield kind, name, parameter.name


def call(kind: Any, method: str, argument: str, value: object) -> None:
    """Calls it with one wrong argument, and takes what comes first of it."""

    def given(function: Any) -> tuple[list[Any], dict[str, Any]]:
        parameters = inspect.signature(function).parameters
        if argument == "numbers":
            return [value], {}
        needed = {
            one.name: FITTING[one.name]
            for one in parameters.values()
            if one.default is one.empty and one.name in FITTING
        }
        return [], {**needed, argument: value}

    async def run() -> None:
        args: list[Any]
        if kind is None:
            args, named = given(custom)
            custom(*args, **named)
            return
        if method == "__init__":
            args, named = given(kind.__init__)
            kind(*args, **named)
            return
        is_async = kind.__name__.startswith("Async")
        client: Any = AsyncClient("localhost:1") if is_async else Client("localhost:1")
        owners: dict[str, Callable[[], Any]] = {
            "Client": lambda: client,
            "JobHandle": lambda: client.job("a"),
            "Abacus": lambda: client.abacus("a"),
            "DeadLetters": lambda: client.dead_letters,
        }
        try:
            bound = getattr(owners[kind.__name__.removeprefix("Async")](), method)
            args, named = given(bound)
            answer = bound(*args, **named)
            if inspect.isawaitable(answer):
                await answer
            elif hasattr(answer, "__anext__"):
                await anext(answer)
            elif hasattr(answer, "__next__"):
                next(answer)
        finally:
            closed = client.close()
            if inspect.isawaitable(closed):
                await closed

    asyncio.run(run())


ALL = list(cases())


def test_all_are_found() -> None:
    assert len(ALL) > 200


@pytest.mark.parametrize(
    ("kind", "method", "argument"),
    ALL,
    ids=[f"{getattr(kind, '__name__', 'tallymesh')}.{rest[0]}.{rest[1]}" for kind, *rest in ALL],
)
def test_what_is_of_a_wrong_type_is_named(kind: Any, method: str, argument: str) -> None:
    with pytest.raises(WrongType) as caught:
        call(kind, method, argument, object())
    error = caught.value
    assert error.field.partition("[")[0] == argument
    assert f"{argument}" in str(error)
    assert "is of type object, not " in str(error)
    assert isinstance(error, TypeError)
    assert isinstance(error, InvalidField)


@pytest.mark.parametrize(
    ("make", "given", "said"),
    [
        (Client, {"address": 18080}, "address: 18080 is of type int, not a str, a list or None"),
        (Client, {"address": ["a:1", 2]}, "address[1]: 2 is of type int, not a str"),
        (Client, {"timeout": "x"}, "timeout: 'x' is of type str, not a number"),
        (Client, {"metadata": {"a": 1}}, "metadata['a']: 1 is of type int, not a str"),
        (Limits, {"silence": "1s"}, "silence: '1s' is of type str, not a number"),
        (custom, {"kernel": 1}, "kernel: 1 is of type int, not a str"),
    ],
    ids=lambda one: getattr(one, "__name__", str(one)),
)
def test_making_it_says_what_it_takes(
    make: Callable[..., object], given: dict[str, Any], said: str
) -> None:
    with pytest.raises(WrongType) as caught:
        make(**given)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"labels": "team=blue"},
            "labels: 'team=blue' is of type str, not a mapping of str to str or None",
        ),
        ({"labels": {"a": 1}}, "labels['a']: 1 is of type int, not a str"),
        ({"chunks": "5"}, "chunks: '5' is of type str, not an int or None"),
        ({"chunks": 1.5}, "chunks: 1.5 is of type float, not an int or None"),
        ({"queue": "a\ud800"}, "queue: \"'a\\\\ud800'\" is not text: half of a surrogate pair"),
        ({"request_id": 7}, "request_id: 7 is of type int, not a str or None"),
    ],
    ids=str,
)
def test_options_say_what_they_take(client: Client, given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidField) as caught:
        client.submit(CountPrimes(stop=10), **given)
    assert str(caught.value) == said


def test_what_is_in_a_list_is_named_by_its_index(client: Client) -> None:
    wrong: Any = ["a", 3]
    for ask, name in (
        (lambda: list(client.as_completed(wrong)), "jobs[1]"),
        (lambda: list(client.jobs(states=["running", 3])), "states[1]"),  # type: ignore[list-item]
        (lambda: list(client.dead_letters.list(names=wrong)), "names[1]"),
        (lambda: client.submit_many([CountPrimes(stop=1), 3]), "works[1]"),  # type: ignore[list-item]
        (lambda: client.abacus("a").add_many([1, 0.5]), "amounts[1]"),  # type: ignore[list-item]
    ):
        with pytest.raises(WrongType) as caught:
            ask()
        assert caught.value.field == name


@pytest.mark.parametrize("size", [0, -1, 2**40])
def test_a_page_has_bounds(client: Client, size: int) -> None:
    with pytest.raises(InvalidField, match=f"page_size: '{size}' is not in 1 to 2147483647"):
        client.jobs(page_size=size)


def test_none_is_as_left_out(mesh: FakeMesh, client: Client) -> None:
    options = tallymesh.works.JobOptions.__annotations__
    client.submit(CountPrimes(stop=10), **dict.fromkeys(options))
    client.submit(CountPrimes(stop=10))
    first, second = mesh.asked("CreateJob")
    assert first.job == second.job
    filters = tallymesh.job_filters.JobFilters.__annotations__
    assert list(client.jobs(**dict.fromkeys(filters))) == []  # type: ignore[arg-type]
    conditions = tallymesh.dead_letters.DeadLetterConditions.__annotations__
    assert list(client.dead_letters.list(**dict.fromkeys(conditions))) == []  # type: ignore[arg-type]


def test_numbers_of_numpy_and_spans_are_taken(mesh: FakeMesh, client: Client) -> None:
    client.submit(
        CountPrimes(stop=10),
        chunks=np.int64(3),  # type: ignore[arg-type]
        chunk_timeout=np.float64(0.5),
        job_timeout=timedelta(seconds=2),
        labels={"a": "ä"},
    )
    job = mesh.asked("CreateJob")[0].job
    assert (job.chunk_count, job.chunk_timeout.nanos) == (3, 500_000_000)
    assert client.abacus("a").add(Decimal("0.5")) == Decimal("0.5")
