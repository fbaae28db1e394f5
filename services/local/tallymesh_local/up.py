"""`tallymesh up`: a mesh in the foreground, until Ctrl-C."""

import asyncio
import signal
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click

from tallymesh_local.console import Console
from tallymesh_local.mesh import Mesh
from tallymesh_local.plan import MeshOptions


async def keep_up(options: MeshOptions, state_file: Path | None) -> int:
    """Runs a mesh until a signal comes, and returns the exit code.

    Raises:
        CannotStart: The mesh does not come up.
    """
    console = Console()
    mesh = Mesh(options, console, state_file)
    await until_signal(_hold(mesh, options), mesh, console)
    return 0


async def until_signal(work: Coroutine[Any, Any, int], mesh: Mesh, console: Console) -> int | None:
    """Does the work, which uses the mesh, unless a signal ends it.

    Args:
        work: Cancelled by the first SIGINT, SIGTERM or SIGHUP.
        mesh: Killed at once by the second.
        console: Told of either.

    Returns:
        What the work returned, or None if a signal ended it.
    """
    task = asyncio.ensure_future(work)
    signalled = False

    def end() -> None:
        nonlocal signalled
        if signalled:
            console.say("killing what still runs")
            mesh.kill()
        else:
            console.say("stopping; once more kills at once")
            signalled = True
            task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end)
    try:
        return await task
    except asyncio.CancelledError:
        return None


async def _hold(mesh: Mesh, options: MeshOptions) -> int:
    begun = time.monotonic()
    async with mesh:
        click.echo(_banner(mesh, options, time.monotonic() - begun))
        await asyncio.Event().wait()
    return 0


def _banner(mesh: Mesh, options: MeshOptions, seconds: float) -> str:
    address = mesh.addresses[0]
    kept = f"data in {options.data}" if options.data else "data in memory only"
    where = "" if address == "127.0.0.1:8080" else f" --address {address}"
    lines = [
        "",
        f"The mesh is ready ({seconds:.1f} s): {_counted(options.workers, 'worker')} of "
        f"{_counted(options.slots_each, 'slot')}, {_counted(options.gateways, 'gateway')}, {kept}.",
    ]
    if options.edge:
        lines += [
            f"  page, REST, gRPC   http://{address}",
            "Try:",
            f"  tallymesh{where} primes 1e10",
            f"  curl http://{address}/v1/health",
            f"  grpcurl -plaintext {address} tallymesh.v1.MeshService/WhoAmI",
        ]
    else:
        lines += [
            f"  gRPC               {address}",
            f"  gRPC of the abacus {mesh.addresses[1]}",
            "Try:",
            f"  tallymesh{where} primes 1e10",
            f"  tallymesh --address {mesh.addresses[1]} abacus add beans 5",
            f"  grpcurl -plaintext {address} tallymesh.v1.MeshService/WhoAmI",
        ]
    return "\n".join([*lines, "Ctrl-C stops it.", ""])


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"
