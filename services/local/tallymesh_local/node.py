"""A gateway and a worker in one process."""

import asyncio
import sys
import tempfile

from tallymesh_core.config.settings import BadSettings
from tallymesh_core.rpc.server import CannotListen, stop_on_signals
from tallymesh_core.store.failures import StoreMismatch
from tallymesh_core.telemetry.logging import configure
from tallymesh_gateway import app as gateway
from tallymesh_gateway.settings import GatewaySettings
from tallymesh_kernels.loading import CannotLoad
from tallymesh_local.addresses import reachable
from tallymesh_worker import app as worker
from tallymesh_worker.pool import CannotCompute
from tallymesh_worker.settings import WorkerSettings


def main() -> int:
    """Runs both by the settings in the environment, and returns the exit code.

    The gateway listens where TALLYMESH_LISTEN says. The worker takes its chunks from that gateway,
    and listens on a socket that only gateways of this machine reach.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="tallymesh-node-") as folder:
            gateway_settings = GatewaySettings.load()
            own = reachable(gateway_settings.listen_addresses[0])
            worker_settings = WorkerSettings.load(
                listen=f"unix:{folder}/worker.sock", advertise="", gateway=own
            )
            configure(gateway_settings.log_level, gateway_settings.log_format, worker_settings.node)
            asyncio.run(_serve(gateway_settings, worker_settings))
    except (BadSettings, CannotListen, CannotCompute, CannotLoad, StoreMismatch) as error:
        sys.stderr.write(f"tallymesh node: {error}\n")
        return 2
    return 0


async def _serve(gateway_settings: GatewaySettings, worker_settings: WorkerSettings) -> None:
    """Runs both until a signal comes, or one of them ends; the worker leaves before its gateway."""
    stop_worker, stop_gateway = asyncio.Event(), asyncio.Event()
    stop_on_signals(stop_worker)
    working = asyncio.create_task(worker.serve(worker_settings, stop_worker))
    serving = asyncio.create_task(gateway.serve(gateway_settings, stop_gateway))
    await asyncio.wait({working, serving}, return_when=asyncio.FIRST_COMPLETED)
    stop_worker.set()
    try:
        await working
    finally:
        stop_gateway.set()
        await serving
