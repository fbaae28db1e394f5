"""The gateway's service for the workers: convert, call the use case, convert."""

from typing import Any

import grpc.aio

from tallymesh.v1 import fleet_service_pb2 as pb
from tallymesh.v1 import fleet_service_pb2_grpc
from tallymesh_core.domain.errors import NotFound
from tallymesh_gateway import names
from tallymesh_gateway.fleet import Fleet

Context = grpc.aio.ServicerContext[Any, Any]


class FleetService(fleet_service_pb2_grpc.FleetServiceServicer):
    """tallymesh.v1.FleetService."""

    def __init__(self, fleet: Fleet, node: str) -> None:
        self._fleet = fleet
        self._node = node

    async def DrainWorker(
        self, request: pb.DrainWorkerRequest, context: Context
    ) -> pb.DrainWorkerResponse:
        """See the proto."""
        uids = await self._uids(request.name)
        await self._fleet.drain(uids)
        return pb.DrainWorkerResponse(uids=uids, answered_by=self._node)

    async def DeleteWorker(
        self, request: pb.DeleteWorkerRequest, context: Context
    ) -> pb.DeleteWorkerResponse:
        """See the proto."""
        uids = await self._uids(request.name)
        await self._fleet.give_up(uids)
        return pb.DeleteWorkerResponse(uids=uids, answered_by=self._node)

    async def _uids(self, name: str) -> list[str]:
        uids = await self._fleet.uids_of(names.worker(name, "name"))
        if not uids:
            raise NotFound(name)
        return uids
