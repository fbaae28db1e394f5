"""The gateway's process: the one place where it is wired together."""

import asyncio
import sys
from collections.abc import Sequence

from tallymesh.v1 import (
    abacus_service_pb2,
    dead_letter_service_pb2,
    dead_letter_service_pb2_grpc,
    dispatch_service_pb2_grpc,
    fleet_service_pb2,
    fleet_service_pb2_grpc,
    job_service_pb2,
    job_service_pb2_grpc,
    mesh_service_pb2,
    mesh_service_pb2_grpc,
)
from tallymesh.v1.dispatch_service_pb2 import DESCRIPTOR as DISPATCH
from tallymesh_core.rpc.channel import open_channel
from tallymesh_core.rpc.readiness import make_store, serve_with_store
from tallymesh_core.rpc.role import run_role
from tallymesh_core.rpc.server import create_server, stop_on_signals
from tallymesh_core.store.chunk_logs import ChunkLogStore
from tallymesh_core.store.events import tail
from tallymesh_core.store.failures import StoreMismatch
from tallymesh_core.store.inspection import Inspection
from tallymesh_core.store.jobs import JobStore
from tallymesh_core.store.leases import LeaseStore
from tallymesh_core.store.letters import LetterStore
from tallymesh_gateway.answers import Answers
from tallymesh_gateway.collecting import Collections
from tallymesh_gateway.computing import Computations
from tallymesh_gateway.contents import Contents
from tallymesh_gateway.dispatch import Dispatcher
from tallymesh_gateway.fleet import Fleet
from tallymesh_gateway.keeper import Keeper
from tallymesh_gateway.service_dead_letters import DeadLetterService
from tallymesh_gateway.service_fleet import FleetService
from tallymesh_gateway.services import DispatchService, JobService, MeshService
from tallymesh_gateway.settings import GatewaySettings
from tallymesh_gateway.submission import Acceptance
from tallymesh_gateway.watching import Watches
from tallymesh_kernels.loading import CannotLoad, load, sources

#: Full names of what a gateway serves.
SERVED = tuple(
    descriptor.full_name
    for file in (
        job_service_pb2.DESCRIPTOR,
        dead_letter_service_pb2.DESCRIPTOR,
        DISPATCH,
        fleet_service_pb2.DESCRIPTOR,
        mesh_service_pb2.DESCRIPTOR,
    )
    for descriptor in file.services_by_name.values()
)
#: What reflection tells of: all that the edge exposes, wherever it is served.
_REFLECTED = (
    *SERVED,
    *(s.full_name for s in abacus_service_pb2.DESCRIPTOR.services_by_name.values()),
)


async def serve(settings: GatewaySettings, stop: asyncio.Event | None = None) -> None:
    """Runs a gateway until `stop` is set, by default by SIGTERM or SIGINT.

    It listens from the start, telling NOT_SERVING while the store does not answer.

    Raises:
        CannotListen: An address cannot be listened on.
        StoreMismatch: The store cannot be used as configured.
        CannotLoad: A kernel of one's own cannot be had.
    """
    kernels = load(sources(settings.kernel_modules))
    if stop is None:
        stop = asyncio.Event()
        stop_on_signals(stop)
    store = make_store(settings)
    jobs, leases = JobStore(store, backlog_limit=settings.backlog_limit), LeaseStore(store)
    logs = ChunkLogStore(store)
    fleet = Fleet(leases)
    contents = Contents(jobs)
    answers = Answers(settings.node, kernels, fleet, contents)
    watches = Watches(jobs, answers, settings.node)
    collections = Collections(jobs, settings.node)
    computations = Computations(fleet, settings.node)
    dispatcher = Dispatcher(
        jobs, leases, watches, collections, settings.node, logs=logs, contents=contents
    )
    abacus = open_channel(settings.abacus)
    keeper = Keeper(jobs, leases, answers, abacus)

    server = create_server(settings.node)
    job_service_pb2_grpc.add_JobServiceServicer_to_server(
        JobService(
            jobs=jobs,
            logs=logs,
            watches=watches,
            collections=collections,
            computations=computations,
            dispatcher=dispatcher,
            keeper=keeper,
            replies=answers,
            acceptance=Acceptance(kernels, fleet, settings.node, round(settings.job_ttl * 1000)),
        ),
        server,
    )
    dead_letter_service_pb2_grpc.add_DeadLetterServiceServicer_to_server(
        DeadLetterService(LetterStore(store, jobs), kernels, settings.node), server
    )
    fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(
        FleetService(fleet, settings.node), server
    )
    dispatch_service_pb2_grpc.add_DispatchServiceServicer_to_server(
        DispatchService(dispatcher), server
    )
    mesh_service_pb2_grpc.add_MeshServiceServicer_to_server(
        MeshService(Inspection(store), jobs, fleet, settings.node), server
    )

    async def follow(shard: int) -> None:
        async for events in tail(store, shard):
            watches.notice(events)
            collections.notice(events)
            dispatcher.notice(events)
            keeper.notice(events)

    def close_streams() -> None:
        watches.close()
        collections.close()
        computations.stop()
        dispatcher.close()

    try:
        await serve_with_store(
            server,
            store,
            settings,
            services=SERVED,
            reflected=_REFLECTED,
            background=lambda: (keeper.run(), *map(follow, range(store.shards))),
            close=close_streams,
            stop=stop,
        )
    finally:
        await abacus.close()
        await computations.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a gateway with the settings of the environment; returns the exit code."""
    return run_role(
        "gateway",
        "The public API for jobs and the mesh, and the dispatcher of chunks to workers.",
        GatewaySettings,
        serve,
        arguments=arguments,
        refusals=(CannotLoad, StoreMismatch),
    )


if __name__ == "__main__":
    sys.exit(main())
