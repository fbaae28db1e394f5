"""What the library gives goes between processes: errors, results, settings. Connections do not."""

import asyncio
import concurrent.futures
import copy
import importlib
import inspect
import multiprocessing
import pickle
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import tallymesh
from tallymesh import (
    AsyncClient,
    Client,
    InvalidField,
    JobFailed,
    Limits,
    TallymeshError,
    Tls,
    WaitTimeout,
)
from tallymesh.testing import RunningMesh
from tests.unit.client.fake_mesh import FakeMesh, ended, failed_job, running_job, succeeded_job

#: How each argument of an error is made, by its name.
ARGUMENTS: dict[str, Any] = {
    "message": "a sentence",
    "job": running_job(state_reason="queue heavy is paused"),
    "reason": "CHUNK_FAILED",
    "timeout": 1.5,
    "missing": 3,
    "code": "UNAVAILABLE",
    "request_id": "r-1",
    "retry_after": 0.25,
    "metadata": {"field": "job.queue", "value": "x", "bound": "short"},
}
WAYS: dict[str, Callable[[Any], Any]] = {
    **{
        f"pickle {protocol}": lambda one, protocol=protocol: pickle.loads(  # type: ignore[misc]
            pickle.dumps(one, protocol)
        )
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def modules() -> Iterator[Any]:
    """Every module of the library, but those that protoc has made."""
    for found in pkgutil.walk_packages(tallymesh.__path__, "tallymesh."):
        if ".v1" not in found.name and not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def exceptions() -> list[type[Exception]]:
    """Every exception that the library defines for its users."""
    kinds = {
        kind
        for module in modules()
        for kind in vars(module).values()
        if inspect.isclass(kind)
        and issubclass(kind, Exception)
        and kind.__module__.startswith("tallymesh.")
        and not kind.__name__.startswith("_")
    }
    return sorted(kinds, key=lambda kind: kind.__name__)


def make(kind: type[Exception]) -> Exception:
    """An exception of the kind, with something in everything that it takes."""
    if kind.__init__ is Exception.__init__ or not inspect.isfunction(kind.__init__):
        return kind("a sentence")
    return kind(**{name: ARGUMENTS[name] for name in inspect.signature(kind).parameters})


def facts(error: Exception) -> Any:
    return type(error), str(error), error.args, vars(error)


def test_all_kinds_are_found() -> None:
    assert len(exceptions()) > 25
    assert {JobFailed, WaitTimeout, TallymeshError} <= set(exceptions())


@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
@pytest.mark.parametrize("kind", exceptions(), ids=lambda kind: str(kind.__name__))
def test_every_error_comes_back_as_it_was(kind: type[Exception], way: Callable[[Any], Any]) -> None:
    error = make(kind)
    again = way(error)
    assert again is not error
    assert facts(again) == facts(error)
    if isinstance(error, TallymeshError):
        assert again == error
        assert hash(again) == hash(error)


def test_errors_that_differ_are_not_equal() -> None:
    assert TallymeshError("a") == TallymeshError("a")
    assert TallymeshError("a") != TallymeshError("b")
    assert TallymeshError("a") != TallymeshError("a", reason="NOT_FOUND")
    assert TallymeshError("a") != InvalidField("a")
    assert InvalidField.of("a", 1, "short") == InvalidField.of("a", 1, "short")
    assert TallymeshError("a") != "a"


@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
@pytest.mark.parametrize(
    "value",
    [
        Limits(silence=3),
        Tls(ca=Path("/ca.pem"), name="mesh"),
        RunningMesh("localhost:1"),
        succeeded_job(),
        ended(failed_job()),
        tallymesh.custom("acme.score", {"a": [1, None]}),
        Decimal("0.1"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_plain_comes_back_as_it_was(value: Any, way: Callable[[Any], Any]) -> None:
    assert way(value) == value


@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
def test_what_holds_a_connection_refuses_in_words(way: Callable[[Any], Any]) -> None:
    def refuse(client: Any) -> None:
        for one in (client, client.job("a"), client.abacus("a"), client.dead_letters):
            name = type(one).__name__
            with pytest.raises(TypeError, match=f"^{name} belongs to the process .*: (pass|take) "):
                way(one)

    async def refuse_async() -> None:
        async with AsyncClient("localhost:1") as client:
            refuse(client)

    with Client("localhost:1") as client:
        refuse(client)
    asyncio.run(refuse_async())


def wait_for(address: str, name: str, timeout: float | None) -> Any:
    """What runs in another process."""
    with Client(address) as client:
        return client.job(name).result(timeout)


def test_a_pool_of_processes_is_told_and_goes_on() -> None:
    spawn = multiprocessing.get_context("spawn")
    with (
        closing(FakeMesh()) as mesh,
        concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool,
    ):
        mesh.streams.extend([[ended(failed_job())], [ended(succeeded_job())]])
        with pytest.raises(JobFailed, match="no such luck") as failed:
            pool.submit(wait_for, mesh.address, "abc1", None).result(60)
        assert failed.value.reason == "CHUNK_FAILED"
        assert failed.value.job == failed_job()
        assert pool.submit(wait_for, mesh.address, "abc1", None).result(60) == 455_052_511
        with pytest.raises(WaitTimeout, match=r"did not end within 0\.1 s"):
            pool.submit(wait_for, mesh.address, "abc1", 0.1).result(60)
        assert pool.submit(int, "3").result(60) == 3


def test_a_map_over_processes_ends() -> None:
    spawn = multiprocessing.get_context("spawn")
    with closing(FakeMesh()) as mesh, spawn.Pool(1) as pool:
        mesh.streams.append([ended(failed_job())])
        waiting = pool.starmap_async(wait_for, [(mesh.address, "abc1", None)])
        with pytest.raises(JobFailed):
            waiting.get(60)
