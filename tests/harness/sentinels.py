"""A primary, its replica, and the sentinels that put one in the place of the other, for tests."""

import shutil
import tempfile
from pathlib import Path

from tests.harness.polling import eventually_sync
from tests.harness.ports import free_port
from tests.harness.processes import Process
from tests.harness.valkey import ValkeyServer, find_server

SERVICE = "tally"
_SENTINELS = 3
_PASSWORD = "of the sentinels"


class SentinelStore:
    """A store that sentinels look after."""

    def __init__(self, *, down_after: float = 1.0) -> None:
        """Prepares the servers, without starting them.

        Args:
            down_after: Seconds of silence after which a server counts as gone.
        """
        self._directory = Path(tempfile.mkdtemp(prefix="tm-sentinel-"))
        self._down_after = down_after
        self._sentinels: list[Process] = []
        self.ports = [free_port() for _ in range(_SENTINELS)]
        self.servers = [ValkeyServer(port=free_port()) for _ in range(2)]
        places = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        password = _PASSWORD.replace(" ", "%20")
        self.url = f"redis+sentinel://{places}/{SERVICE}?sentinel_password={password}"

    @property
    def primary(self) -> ValkeyServer:
        """The server that takes writes at present."""
        return next(
            server for server in self.servers if server.alive and _fact(server, "role") == "master"
        )

    @property
    def replicated(self) -> bool:
        """Whether the replica has all that the primary has."""
        offsets = {_fact(server, "master_repl_offset") for server in self.servers}
        return len(offsets) == 1

    def start(self) -> None:
        """Starts everything, and returns once the sentinels know of each other and the replica."""
        primary, replica = self.servers
        primary.start()
        replica.start()
        replica.execute("REPLICAOF", "127.0.0.1", primary.port)
        for port in self.ports:
            self._start_sentinel(port, primary.port)
        eventually_sync(self._complete, timeout=30, interval=0.05, message="sentinels in touch")

    def close(self) -> None:
        """Ends everything and removes its data."""
        for sentinel in self._sentinels:
            sentinel.close()
        for server in self.servers:
            server.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _start_sentinel(self, port: int, primary: int) -> None:
        settings = self._directory / f"{port}.conf"
        settings.write_text(
            f"port {port}\n"
            "bind 127.0.0.1\n"
            f"dir {self._directory}\n"
            f'requirepass "{_PASSWORD}"\n'
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} {round(self._down_after * 1000)}\n"
            f"sentinel failover-timeout {SERVICE} 5000\n"
        )
        self._sentinels.append(Process([find_server(), settings, "--sentinel"]))

    def _complete(self) -> bool:
        linked = _fact(self.servers[1], "master_link_status") == "up"
        # Each writes what it learns into its settings.
        known = [(self._directory / f"{port}.conf").read_text() for port in self.ports]
        return linked and all(
            text.count("known-sentinel") == _SENTINELS - 1 and "known-replica" in text
            for text in known
        )


def _fact(server: ValkeyServer, name: str) -> str:
    """What a server tells of its replication by a name."""
    told = str(server.execute("INFO", "replication")).splitlines()
    return dict(line.split(":", 1) for line in told if ":" in line)[name]
