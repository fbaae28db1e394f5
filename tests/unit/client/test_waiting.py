"""How long a client waits: by its own clock, whatever gRPC does and whoever is not there."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from typing import Any

import grpc
import pytest

from tallymesh import AsyncClient, Client, DeadlineExceeded, Limits, Unreachable
from tallymesh.aio.calls import AsyncCaller
from tallymesh.aio.calls import read_on as read_on_async
from tallymesh.calls import Caller
from tallymesh.v1.job_pb2 import JobEvent
from tallymesh.v1.mesh_service_pb2 import WhoAmIRequest
from tallymesh.watching import read_on
from tests.harness.polling import eventually_sync
from tests.harness.ports import free_port
from tests.unit.client.fake_mesh import FakeMesh, Silence, ended, succeeded_job


class Deaf:
    """A stream, or a call, that brings nothing and hears neither its deadline nor a cancel."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.cancelled = 0

    def __iter__(self) -> Iterator[JobEvent]:
        self.over.wait(60)
        return iter(())

    async def __aiter__(self) -> AsyncIterator[JobEvent]:
        await asyncio.sleep(60)
        yield JobEvent()

    def result(self, timeout: float) -> Any:
        if not self.over.wait(timeout):
            raise grpc.FutureTimeoutError
        raise AssertionError("it is deaf")

    def cancel(self) -> bool:
        self.cancelled += 1
        return True


@pytest.fixture
def deaf() -> Iterator[Deaf]:
    made = Deaf()
    yield made
    made.over.set()


def test_a_stream_that_hears_no_deadline_is_left(deaf: Deaf) -> None:
    caller = Caller("x:1", 10, ())
    with pytest.raises(DeadlineExceeded):
        list(read_on(caller, lambda _: deaf, lambda _: False, timeout=0.2))
    assert deaf.cancelled


def test_a_stream_that_is_silent_and_hears_no_cancel_is_left(deaf: Deaf) -> None:
    class Good(Deaf):
        def __iter__(self) -> Iterator[JobEvent]:
            return iter([ended(succeeded_job())])

    streams, caller = iter([deaf, Good()]), Caller("x:1", 10, ())
    events = read_on(
        caller, lambda _: next(streams), lambda _: True, limits=Limits(silence=0.1, first_delay=0)
    )
    assert list(events) == [ended(succeeded_job())]
    assert deaf.cancelled


async def test_a_stream_that_hears_no_deadline_is_left_async(deaf: Deaf) -> None:
    caller: Any = AsyncCaller("x:1", 10, ())
    opened: Any = lambda _: deaf  # noqa: E731
    with pytest.raises(DeadlineExceeded):
        async for _ in read_on_async(caller, opened, lambda _: False, timeout=0.2):
            pass
    assert deaf.cancelled


def test_a_call_that_hears_no_deadline_is_left(deaf: Deaf) -> None:
    class Method:
        def future(self, *_: object, **__: object) -> Deaf:
            return deaf

    method: Any = Method()
    with pytest.raises(DeadlineExceeded):
        Caller("x:1", 0.1, ()).unary(method, WhoAmIRequest())
    assert deaf.cancelled


async def test_a_call_that_hears_no_deadline_is_left_async() -> None:
    async def never(*_: object, **__: object) -> None:
        await asyncio.sleep(60)

    method: Any = never
    with pytest.raises(DeadlineExceeded):
        await AsyncCaller("x:1", 0.1, ()).unary(method, WhoAmIRequest())


def ask(address: str, face: type, way: str, timeout: float = 30.0) -> object:
    """Makes a call or opens a stream, by either face."""
    if face is Client:
        with Client(address, timeout=timeout) as client:
            return client.whoami() if way == "call" else client.job("abc1").result(timeout)

    async def waited() -> object:
        async with AsyncClient(address, timeout=timeout) as client:
            if way == "call":
                return await client.whoami()
            return await client.job("abc1").result(timeout)

    return asyncio.run(waited())


EVERY_WAY = [
    pytest.param(face, way, id=f"{face.__name__}-{way}")
    for face in (Client, AsyncClient)
    for way in ("call", "stream")
]


@pytest.mark.parametrize(("face", "way"), EVERY_WAY)
def test_a_mesh_that_was_never_there_is_told_long_before_the_timeout(face: type, way: str) -> None:
    address = f"127.0.0.1:{free_port()}"
    began = time.monotonic()
    with pytest.raises(Unreachable, match=f"cannot connect to {address}: ") as caught:
        ask(address, face, way)
    assert caught.value.code == "UNAVAILABLE"
    assert time.monotonic() - began < 15, "its timeout is 30 s"


@pytest.mark.parametrize(("face", "way"), EVERY_WAY)
def test_a_mesh_that_is_started_a_moment_later_is_found(face: type, way: str) -> None:
    port = free_port()
    got: list[object] = []
    asking = threading.Thread(target=lambda: got.append(ask(f"127.0.0.1:{port}", face, way)))
    asking.start()
    time.sleep(0.5)  # so long nobody listens there
    with closing(FakeMesh(port=port)) as mesh:
        mesh.streams.append([ended(succeeded_job())])
        asking.join(30)
    assert got


@pytest.mark.parametrize(("face", "way"), EVERY_WAY)
def test_a_mesh_that_took_the_connection_is_waited_for(
    face: type, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that one who was there is not told from one who never was by the time alone.
    monkeypatch.setattr("tallymesh.calls.ABSENCE_SECONDS", 0.0)
    monkeypatch.setattr("tallymesh.watching.ABSENCE_SECONDS", 0.0)
    port = free_port()
    got: list[object] = []
    asking = threading.Thread(target=lambda: got.append(ask(f"127.0.0.1:{port}", face, way)))
    with closing(FakeMesh(port=port)) as mesh:
        mesh.fail("WhoAmI", *[Silence()] * 9)
        asking.start()
        eventually_sync(lambda: mesh.calls, message="the call being there")
    with closing(FakeMesh(port=port)) as mesh:
        mesh.streams.append([ended(succeeded_job())])
        asking.join(30)
    assert got
