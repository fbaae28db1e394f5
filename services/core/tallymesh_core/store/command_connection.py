"""Connections for what runs all the time: answers in the order of the commands."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import hiredis
from redis import exceptions
from redis.asyncio import Connection
from redis.asyncio.connection import DefaultParser

from tallymesh_core.store.failures import domain_error
from tallymesh_core.store.scripts import Script

Arguments = tuple[str | bytes | int | float, ...]


class CommandConnection(asyncio.Protocol):
    """A connection of the driver's, taken over once it is connected.

    The driver spends a task, a lock and several timers on each exchange; here it is a callback.
    Commands that are sent in one round of the event loop travel in one write.

    Attributes:
        is_open: Commands can be sent.
    """

    def __init__(self, connection: Connection, timeout: float) -> None:
        """Takes over a connected connection.

        Args:
            connection: What the driver has connected and authenticated.
            timeout: Seconds without an answer that is due, after which the connection is given up.
        """
        self.is_open = True
        self._connection = connection
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._parser = hiredis.Reader(
            protocolError=exceptions.InvalidResponse, replyError=DefaultParser.parse_error
        )
        #: What takes the answers that are due.
        self._pending: deque[Callable[[Any], None]] = deque()
        self._outgoing: list[bytes] = []
        self._can_write = True
        self._answered_at = 0.0
        self._watchdog: asyncio.TimerHandle | None = None
        writer = connection._writer
        assert writer is not None
        self._transport: asyncio.Transport = writer.transport  # type: ignore[assignment]
        self._before = self._transport.get_protocol()
        self._transport.set_protocol(self)

    @classmethod
    async def open(cls, connection: Connection, timeout: float) -> Self:
        """Connects, and takes the connection over.

        Raises:
            redis.RedisError, OSError: As the driver does.
        """
        await connection.connect()  # type: ignore[no-untyped-call]
        return cls(connection, timeout)

    def send(self, settle: Callable[[Any], None], *command: str | bytes | int | float) -> None:
        """Sends a command; commands of one round of the event loop run in the order of sending.

        Args:
            settle: Is called with the answer, or with the exception in its place.
            command: The command's words.
        """
        if not self.is_open:
            settle(exceptions.ConnectionError("the connection is closed"))
            return
        if not self._pending:
            self._answered_at = self._loop.time()
        if self._watchdog is None:
            self._watchdog = self._loop.call_later(self._timeout, self._watch)
        self._pending.append(settle)
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(hiredis.pack_command(command))  # type: ignore[arg-type]

    def call(self, *command: str | bytes | int | float) -> asyncio.Future[Any]:
        """Sends a command; returns its answer, or a domain error where none may come."""
        answer = self._loop.create_future()
        self.send(Settled(answer), *command)
        return answer

    def abort(self) -> None:
        """Cuts the connection; what is pending ends with StoreUnavailable."""
        self._lose(exceptions.ConnectionError("the connection was closed"))

    async def close(self) -> None:
        """Closes the connection, and waits until it is closed."""
        self.abort()
        await self._connection.disconnect()

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """Settles what has been answered."""
        self._parser.feed(data)
        self._answered_at = self._loop.time()
        try:
            while (answer := self._parser.gets()) is not False:
                self._pending.popleft()(answer)
        except (exceptions.InvalidResponse, IndexError) as error:
            self._lose(exceptions.ConnectionError(f"not an answer of the store: {error}"))

    def connection_lost(self, error: Exception | None) -> None:
        """Ends what is pending."""
        self._lose(error or exceptions.ConnectionError("the store closed the connection"))
        # The driver's own streams wait for this when they are closed.
        self._before.connection_lost(error)

    def pause_writing(self) -> None:
        """Holds back what is to be sent: the store reads no faster."""
        self._can_write = False

    def resume_writing(self) -> None:
        """Sends what was held back."""
        self._can_write = True
        self._flush()

    def _flush(self) -> None:
        if self._outgoing and self._can_write and self.is_open:
            data = b"".join(self._outgoing)
            self._outgoing.clear()
            self._transport.write(data)

    def _watch(self) -> None:
        self._watchdog = None
        if not self._pending:
            return
        left = self._answered_at + self._timeout - self._loop.time()
        if left > 0:
            self._watchdog = self._loop.call_later(left, self._watch)
        else:
            self._lose(exceptions.TimeoutError(f"no answer within {self._timeout:g} s"))

    def _lose(self, error: Exception) -> None:
        self.is_open = False
        if self._watchdog:
            self._watchdog.cancel()
            self._watchdog = None
        self._outgoing.clear()
        pending, self._pending = self._pending, deque()
        for settle in pending:
            settle(error)
        self._transport.abort()


class ScriptConnection(CommandConnection):
    """A connection on which scripts run, known to the server or not."""

    def __init__(self, connection: Connection, timeout: float) -> None:
        super().__init__(connection, timeout)
        self._loaded: set[Script] = set()

    def run(self, run: "Run") -> None:
        """Sends a run; it is settled with the script's answer."""
        script = run.script
        if script not in self._loaded:
            self._loaded.add(script)
            # One that cannot be loaded is unknown to its run, too.
            self.send(_ignore, "SCRIPT", "LOAD", script.source)

        def settle(answer: Any) -> None:
            if isinstance(answer, exceptions.NoScriptError):
                # The scripts were flushed. Each is loaded again from its next run on.
                self._loaded.clear()
                self.send(run.settle, "EVAL", script.source, 1, *run.arguments)
            else:
                run.settle(answer)

        self.send(settle, "EVALSHA", script.sha, 1, *run.arguments)


@dataclass(frozen=True, slots=True)
class Settled:
    """Settles a future by an answer of the store.

    Attributes:
        answer: The future.
    """

    answer: asyncio.Future[Any]

    def __call__(self, answer: Any) -> None:
        """Resolves the future, unless its caller has cancelled it."""
        if self.answer.done():
            return
        if not isinstance(answer, Exception):
            self.answer.set_result(answer)
        elif isinstance(answer, exceptions.MovedError):
            self.answer.set_exception(answer)
        else:
            self.answer.set_exception(domain_error(answer) or answer)


@dataclass(frozen=True, slots=True)
class Run:
    """A script to be run.

    Attributes:
        script: The script.
        arguments: Its key, and what else it is given.
        settle: Takes its answer.
    """

    script: Script
    arguments: Arguments
    settle: Settled


def _ignore(answer: Any) -> None:
    """Takes an answer that nobody waits for."""
