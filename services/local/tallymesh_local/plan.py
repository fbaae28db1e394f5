"""What a local mesh consists of: each process's program, and the sockets that join them.

Inside, everything listens on unix sockets in a private folder; only the edge is on the network.
"""

import os
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from tallymesh_edge import EdgeConfig, render
from tallymesh_local.addresses import join
from tallymesh_local.binaries import find_envoy, find_valkey
from tallymesh_local.process import Program

#: What the store's server calls warnings: that it was told to end, and a setting of the kernel that
#: matters to servers with far more data.
_STORE_NOISE = re.compile("overcommit_memory|scheduling shutdown|ready to exit")
_EDGE_NOISE = re.compile("caught ENVOY_SIGTERM")

Durability = Literal["everysec", "fsync"]


def usable_cores() -> int:
    """Returns how many processors this process may use."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshOptions:
    """What may differ between one local mesh and another.

    Attributes:
        workers: How many worker processes, at least 1.
        slots: How many chunks each worker computes at a time; None shares the cores among them.
        gateways: How many gateways, at least 1.
        abaci: How many abacus nodes, at least 1.
        host: IP address that the public port listens on.
        port: The public port.
        data: Folder that keeps the store's data; None keeps it in memory only.
        durability: `fsync` writes to disk before anything is acknowledged.
        edge: Put Envoy before the mesh; otherwise the first gateway has the public port itself,
            and the first abacus node the one after it.
        log_level: Least severe record that the processes log.
        drain_grace: Seconds that a worker gets to finish its chunks when the mesh stops.
        origins: Further origins whose pages may call the mesh.
        kernels: Modules with kernels of one's own; none leaves it to TALLYMESH_KERNELS.
    """

    workers: int = 2
    slots: int | None = None
    gateways: int = 1
    abaci: int = 1
    host: str = "127.0.0.1"
    port: int = 8080
    data: Path | None = None
    durability: Durability = "everysec"
    edge: bool = True
    log_level: str = "info"
    drain_grace: float = 3.0
    origins: Sequence[str] = ()
    kernels: Sequence[str] = ()

    @property
    def slots_each(self) -> int:
        """How many chunks each worker computes at a time."""
        return self.slots or max(1, usable_cores() // self.workers)


class Plan:
    """The programs of one mesh, by role, wired through the sockets of one folder."""

    def __init__(self, options: MeshOptions, directory: Path) -> None:
        """Plans a mesh.

        Args:
            options: What is asked for.
            directory: A private folder for the mesh's sockets and Envoy's configuration.

        Raises:
            CannotStart: A program is not installed.
        """
        self._options = options
        self._directory = directory
        self.store_socket = directory / "valkey.sock"
        self.gateway_addresses = [
            self._socket(f"gateway-{number}") for number in range(1, options.gateways + 1)
        ]
        self.abacus_addresses = [
            self._socket(f"abacus-{number}") for number in range(1, options.abaci + 1)
        ]
        self.store = self._plan_store()
        self.services = [*self._plan_abaci(), *self._plan_gateways()]
        self.workers = self._plan_workers()
        self.edge = [self._plan_edge()] if options.edge else []

    def _socket(self, name: str) -> str:
        return f"unix:{self._directory}/{name}.sock"

    def _plan_store(self) -> Program:
        options = self._options
        kept = (
            ("--dir", str(options.data.absolute()), "--appendonly", "yes") if options.data else ()
        )
        return Program(
            name="valkey",
            launcher="tallymesh_local.leash",
            command=(
                str(find_valkey()),
                *("--port", "0", "--unixsocket", str(self.store_socket)),
                *("--unixsocketperm", "700", "--save", "", "--maxmemory-policy", "noeviction"),
                *("--loglevel", "notice" if options.log_level == "debug" else "warning"),
                *("--appendfsync", "always" if options.durability == "fsync" else "everysec"),
                *(kept or ("--dir", str(self._directory), "--appendonly", "no")),
            ),
            # It may still write what it holds before it ends.
            last_will=signal.SIGTERM,
            noise=_STORE_NOISE,
        )

    def _plan_gateways(self) -> list[Program]:
        options = self._options
        programs = []
        for number, address in enumerate(self.gateway_addresses, start=1):
            public = [] if options.edge or number > 1 else [join(options.host, options.port)]
            programs.append(
                self._role(
                    "gateway",
                    number,
                    TALLYMESH_LISTEN=",".join((address, *public)),
                    # Any node will do: it is only for the totals of jobs, which can wait.
                    TALLYMESH_ABACUS=self.abacus_addresses[(number - 1) % options.abaci],
                    **self._store_settings(),
                    **self._kernel_settings(),
                )
            )
        return programs

    def _plan_abaci(self) -> list[Program]:
        options = self._options
        programs = []
        for number, address in enumerate(self.abacus_addresses, start=1):
            public = [] if options.edge or number > 1 else [join(options.host, options.port + 1)]
            programs.append(
                self._role(
                    "abacus",
                    number,
                    TALLYMESH_LISTEN=",".join((address, *public)),
                    **self._store_settings(),
                )
            )
        return programs

    def _plan_workers(self) -> list[Program]:
        return [
            self._role(
                "worker",
                number,
                TALLYMESH_LISTEN=self._socket(f"worker-{number}"),
                TALLYMESH_GATEWAY=",".join(self.gateway_addresses),
                TALLYMESH_SLOTS=str(self._options.slots_each),
                **self._kernel_settings(),
            )
            for number in range(1, self._options.workers + 1)
        ]

    def _plan_edge(self) -> Program:
        options = self._options
        config = EdgeConfig(
            gateways=self.gateway_addresses,
            abaci=self.abacus_addresses,
            host=options.host,
            port=options.port,
            names=["*" if ip_address(options.host).is_unspecified else options.host],
            origins=options.origins,
            admin_socket=self._directory / "envoy-admin.sock",
            access_log=Path("/dev/stdout") if options.log_level == "debug" else None,
        )
        path = self._directory / "envoy.yaml"
        path.write_text(render(config))
        return Program(
            name="edge",
            launcher="tallymesh_local.leash",
            command=(
                str(find_envoy()),
                *("-c", str(path), "--disable-hot-restart"),
                *("--concurrency", str(min(2, usable_cores()))),
                # The file server is "work in progress" for Envoy, which says so at every start.
                *("--log-level", "warning", "--component-log-level", "misc:error"),
            ),
            noise=_EDGE_NOISE,
        )

    def _store_settings(self) -> dict[str, str]:
        return {
            "TALLYMESH_STORE_URL": f"unix://{self.store_socket}",
            "TALLYMESH_DURABILITY": self._options.durability,
        }

    def _kernel_settings(self) -> dict[str, str]:
        kernels = self._options.kernels
        return {"TALLYMESH_KERNELS": ",".join(kernels)} if kernels else {}

    def _role(self, role: str, number: int, **settings: str) -> Program:
        return Program(
            name=f"{role}-{number}",
            launcher="tallymesh_local.role",
            command=(role,),
            environment={
                "TALLYMESH_NODE": f"{role}-{number}",
                "TALLYMESH_LOG_LEVEL": self._options.log_level,
                "TALLYMESH_DRAIN_GRACE": str(self._options.drain_grace),
                **settings,
            },
            has_uid=role == "worker",
        )


def addresses(options: MeshOptions) -> Sequence[str]:
    """Returns the network addresses that a mesh listens on: gateway or edge first, then abacus."""
    ports = (options.port,) if options.edge else (options.port, options.port + 1)
    return tuple(join(options.host, port) for port in ports)
