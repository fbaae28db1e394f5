"""Watchers of a job, in a process of their own so that nothing else of the bench delays them."""

import asyncio
import contextlib
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import grpc.aio

from tallymesh.v1.job_pb2 import JobEvent
from tallymesh.v1.job_service_pb2 import WatchJobRequest

_METHOD = "/tallymesh.v1.JobService/WatchJob"
#: As many clients' streams as one channel carries.
_A_CHANNEL = 100
_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Seen:
    """A message as it reached a watcher.

    Attributes:
        at: When, in seconds since the epoch.
        done: How many chunks were done by what it tells.
    """

    at: float
    done: int


class Watchers:
    """Some watchers; each watches one job after the other, all the same."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def attach(self, job: str) -> float:
        """Begins to watch a job; returns when the last of them had its first message."""
        self._connection.send(job)
        return float(self._next())

    def collect(self) -> list[list[Seen]]:
        """Waits for the end of the job; returns what each of them saw."""
        return [[Seen(*one) for one in seen] for seen in self._next()]

    def _next(self) -> Any:
        if not self._connection.poll(_SECONDS):
            raise TimeoutError("the watchers do not answer")
        return self._connection.recv()


@contextmanager
def running_watchers(address: str, count: int) -> Iterator[Watchers]:
    """Starts watchers that reach the mesh at an address, and ends them."""
    spawning = multiprocessing.get_context("spawn")
    ours, theirs = spawning.Pipe()
    process = spawning.Process(target=_run, args=(theirs, address, count), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Watchers(ours)
    finally:
        ours.close()
        process.join(_SECONDS)


def _run(connection: Connection, address: str, count: int) -> None:
    with asyncio.Runner() as runner, contextlib.suppress(EOFError):
        channels = runner.run(_open_channels(address, -(-count // _A_CHANNEL)))
        while True:
            runner.run(_watch(connection, channels, count, connection.recv()))


async def _open_channels(address: str, count: int) -> Sequence[grpc.aio.Channel]:
    # Otherwise they would all share one connection.
    options = (("grpc.use_local_subchannel_pool", 1),)
    channels = [grpc.aio.insecure_channel(address, options) for _ in range(count)]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    return channels


async def _watch(
    connection: Connection, channels: Sequence[grpc.aio.Channel], count: int, job: str
) -> None:
    request = WatchJobRequest(name=job).SerializeToString()
    left = count

    async def watch(channel: grpc.aio.Channel) -> list[tuple[float, bytes]]:
        nonlocal left
        received: list[tuple[float, bytes]] = []
        # Bytes, to be read when it is over: a thousand clients would not share one interpreter.
        method: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(_METHOD)
        async for message in method(request, timeout=_SECONDS):
            received.append((time.time(), message))
            if len(received) == 1:
                left -= 1
                if not left:
                    connection.send(time.time())
        return received

    watched = await asyncio.gather(*(watch(channels[at % len(channels)]) for at in range(count)))
    connection.send([[(at, _done(message)) for at, message in seen] for seen in watched])


def _done(message: bytes) -> int:
    event = JobEvent.FromString(message)
    # Of these at most one is set, and the others are empty.
    return max(one.progress.chunks_done for one in (event.snapshot, event.delta, event.ended))
