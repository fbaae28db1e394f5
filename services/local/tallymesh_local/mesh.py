"""A whole mesh on this machine: started in order, kept running, ended in order."""

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from tallymesh_local import probes
from tallymesh_local.addresses import demand_free, demand_loopback, reachable
from tallymesh_local.console import Console
from tallymesh_local.errors import CannotStart
from tallymesh_local.fleet import give_up_worker
from tallymesh_local.plan import MeshOptions, Plan, addresses
from tallymesh_local.process import Program, Supervised
from tallymesh_local.rundir import data_directory, run_directory

#: How long the mesh may take to be ready; a large store may have to be read from disk first.
_START_SECONDS = 60.0
_POLL_SECONDS = 0.03
#: What a process gets to end beyond the time that it is given for its work.
_STOP_SECONDS = 2.0


class Mesh:
    """A mesh on this machine, for use as `async with Mesh(options) as mesh`.

    On entering it is ready to take jobs. On leaving it has ended, with every process of its own.
    """

    def __init__(
        self, options: MeshOptions, console: Console | None = None, state_file: Path | None = None
    ) -> None:
        """Prepares a mesh, without starting anything.

        Args:
            options: What the mesh consists of.
            console: Shows what the mesh's processes say. Default: one on standard error.
            state_file: Where to write, once the mesh is ready and whenever a process was replaced,
                a JSON object with `address`, `pid` (of this process) and `processes` (the pid of
                each, by name). Removed when the mesh stops.
        """
        self._options = options
        self._console = console or Console()
        self._state_file = state_file
        self._resources = ExitStack()
        self._processes: dict[str, Supervised] = {}
        self._stages: list[list[Supervised]] = []
        self._gateways: Sequence[str] = ()
        self._ready = False

    @property
    def addresses(self) -> Sequence[str]:
        """The network addresses: gateway or edge first, then, without an edge, the abacus."""
        return addresses(self._options)

    async def __aenter__(self) -> Self:
        """Starts the mesh and waits until it is ready.

        Raises:
            CannotStart: It does not come up; nothing of it is left running.
        """
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stops the mesh."""
        await self.stop()

    async def stop(self) -> None:
        """Ends every process in order: edge and workers, gateways and abacus, the store."""
        self._ready = False
        grace = self._options.drain_grace + _STOP_SECONDS
        while self._stages:
            await asyncio.gather(*(process.stop(grace) for process in self._stages.pop()))
        if self._state_file is not None:
            self._state_file.unlink(missing_ok=True)
        self._resources.close()

    def kill(self) -> None:
        """Ends every process at once, without regard to its work; `stop` has still to be called."""
        for process in self._processes.values():
            process.kill()

    async def _start(self) -> None:
        options = self._options
        demand_loopback(options.host)
        for address in self.addresses:
            demand_free(address)
        if options.data is not None:
            self._resources.enter_context(data_directory(options.data))
        plan = Plan(options, self._resources.enter_context(run_directory()))
        self._gateways = plan.gateway_addresses

        # Each stage looks for the one before; they stop in the reverse order.
        self._begin([plan.store])
        await self._until(partial(probes.store_answers, plan.store_socket))
        self._begin(plan.services)
        for address in plan.gateway_addresses:
            await self._until(partial(probes.serves, address, "tallymesh.v1.JobService"))
        for address in plan.abacus_addresses:
            await self._until(partial(probes.serves, address, "tallymesh.v1.AbacusService"))
        self._begin([*plan.workers, *plan.edge])
        gateway = plan.gateway_addresses[0]
        await self._until(partial(probes.has_workers, gateway, options.workers))
        if options.edge:
            edge = reachable(self.addresses[0])
            for path in ("/v1/health", "/v1/abaci/ready"):
                await self._until(partial(probes.answers_http, edge, path))
        self._ready = True
        self._write_state()

    def _begin(self, programs: Sequence[Program]) -> None:
        stage = [
            Supervised(program, self._console, self._write_state, self._mourn)
            for program in programs
        ]
        self._stages.append(stage)
        for process in stage:
            self._processes[process.name] = process
            process.start()

    async def _mourn(self, uid: str) -> None:
        await give_up_worker(self._gateways, uid)

    async def _until(self, check: Callable[[], Awaitable[bool]]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not await check():
            for process in self._processes.values():
                if process.last_end:
                    said = self._console.tail(process.name)
                    raise CannotStart(f"{process.name} {process.last_end} at its start\n{said}")
            if time.monotonic() > deadline:
                raise CannotStart(f"the mesh is not ready after {_START_SECONDS:g} s")
            await asyncio.sleep(_POLL_SECONDS)

    def _write_state(self) -> None:
        if self._state_file is None or not self._ready:
            return
        state = {
            "address": self.addresses[0],
            "pid": os.getpid(),
            "processes": {name: process.pid for name, process in self._processes.items()},
        }
        # Whoever reads it sees the state before or the state after, never half of one.
        fresh = self._state_file.with_name(f"{self._state_file.name}.new")
        fresh.write_text(json.dumps(state, indent=2))
        fresh.replace(self._state_file)
