"""Clients that cost next to nothing, so that it is the servers who are measured.

Each has a connection of its own and makes one call after the other, with no library in between: a
usual HTTP or gRPC client in Python would take more of the processors than many a server.
"""

import asyncio
import itertools
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_SECONDS = 30.0


class CallFailed(Exception):
    """A call was not answered well."""


@dataclass(frozen=True, slots=True)
class Load:
    """What some clients have done.

    Attributes:
        latencies: Seconds that each call took.
        seconds: How long it all took.
        own_seconds: Processor time of the clients.
    """

    latencies: Sequence[float]
    seconds: float
    own_seconds: float

    @property
    def rate(self) -> float:
        """Calls a second."""
        return len(self.latencies) / self.seconds


class Connection(asyncio.Protocol, ABC):
    """A connection on which one call is made after the other."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport
        self._received = bytearray()
        self._answer: asyncio.Future[None] | None = None

    async def call(self, body: bytes) -> None:
        """Makes a call.

        Args:
            body: What is sent.

        Raises:
            CallFailed: The answer is an error, or the connection has ended.
        """
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(self._request(body))
        await self._answer

    def close(self) -> None:
        """Ends the connection."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Sends what comes before all calls."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Fails the call under way."""
        self._end(f"the connection has ended: {exc}")

    def data_received(self, data: bytes) -> None:
        """Takes in what the server says."""
        self._received += data
        self._read()

    def _end(self, failure: str = "") -> None:
        if self._answer is None or self._answer.done():
            return
        if failure:
            self._answer.set_exception(CallFailed(failure))
        else:
            self._answer.set_result(None)

    @abstractmethod
    def _request(self, body: bytes) -> bytes:
        """Returns what makes a call."""

    @abstractmethod
    def _read(self) -> None:
        """Takes what is whole out of `_received`, and ends the call when it is answered."""


class JsonPosts(Connection):
    """POSTs of JSON over HTTP/1.1."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            "Content-Length: "
        ).encode()

    def _request(self, body: bytes) -> bytes:
        return b"%s%d\r\n\r\n%s" % (self._head, len(body), body)

    def _read(self) -> None:
        head, found, rest = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(rest) < length:
            return
        self._received.clear()
        ok = head.startswith(b"HTTP/1.1 200 ")
        self._end("" if ok else head.decode(errors="replace"))


class GrpcCalls(Connection):
    """Unary gRPC calls over HTTP/2."""

    _DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
    _END_STREAM = _ACK = 1
    _END_HEADERS = 4

    def __init__(self, method: str) -> None:
        """Prepares.

        Args:
            method: As `/package.Service/Method`.
        """
        super().__init__()
        # The header block (HPACK), each field either whole from the static table or written out.
        self._headers = b"".join(
            (
                b"\x83\x86",  # :method POST, :scheme http
                b"\x04" + _text(method),  # :path
                b"\x01" + _text("localhost"),  # :authority
                b"\x0f\x10" + _text("application/grpc"),  # content-type
                b"\x00" + _text("te") + _text("trailers"),
            )
        )
        self._streams = itertools.count(1, 2)
        self._has_message = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Opens HTTP/2, with room for all answers that there may be."""
        super().connection_made(transport)
        room = (2**31 - 2**16).to_bytes(4, "big")
        self._transport.write(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + self._frame(self._SETTINGS, 0, 0, b"")
            + self._frame(self._WINDOW, 0, 0, room)
        )

    def _request(self, body: bytes) -> bytes:
        stream = next(self._streams)
        self._has_message = False
        return self._frame(self._HEADERS, self._END_HEADERS, stream, self._headers) + self._frame(
            self._DATA, self._END_STREAM, stream, struct.pack(">BI", 0, len(body)) + body
        )

    def _read(self) -> None:
        received = self._received
        while len(received) >= 9:
            end = 9 + int.from_bytes(received[:3], "big")
            if len(received) < end:
                return
            kind, flags, payload = received[3], received[4], bytes(received[9:end])
            del received[:end]
            self._take(kind, flags, payload)

    def _take(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == self._DATA and payload:
            self._has_message = True
        elif kind == self._HEADERS and flags & self._END_STREAM:
            # An error has no message; what its trailers say is not worth an HPACK decoder here.
            self._end("" if self._has_message else "answered by an error")
        elif kind in (self._SETTINGS, self._PING) and not flags & self._ACK:
            echo = payload if kind == self._PING else b""
            self._transport.write(self._frame(kind, self._ACK, 0, echo))
        elif kind in (self._RESET, self._GOAWAY):
            self._end("the server has ended the stream")

    @staticmethod
    def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        length = len(payload)
        return struct.pack(">BHBBI", length >> 16, length & 0xFFFF, kind, flags, stream) + payload


async def run_load(
    ports: Sequence[int],
    connection: Callable[[], Connection],
    clients: int,
    seconds: float,
    body: Callable[[], bytes],
) -> Load:
    """Has clients call for some seconds, each again when it has its answer.

    Args:
        ports: Of 127.0.0.1; the clients share them in turn.
        connection: Makes a client's connection.
        clients: How many.
        seconds: When it is over; calls under way are waited for.
        body: Makes what a call sends.

    Raises:
        CallFailed: A call was not answered well.
    """
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(connection, "127.0.0.1", port))[1]
        for port, _ in zip(itertools.cycle(ports), range(clients), strict=False)
    ]
    latencies: list[float] = []
    own, begun = time.process_time(), time.perf_counter()

    async def work(one: Connection) -> None:
        now = time.perf_counter()
        while now < begun + seconds:
            await one.call(body())
            latencies.append(-now + (now := time.perf_counter()))

    async with asyncio.timeout(seconds + _SECONDS), asyncio.TaskGroup() as tasks:
        for one in connections:
            tasks.create_task(work(one))
    took = Load(latencies, time.perf_counter() - begun, time.process_time() - own)
    for one in connections:
        one.close()
    return took


def _text(text: str) -> bytes:
    # Without Huffman's code; a length below 127 is one byte.
    return bytes((len(text),)) + text.encode()
