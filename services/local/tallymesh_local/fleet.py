"""Telling the mesh what has become of its workers."""

from collections.abc import Sequence

import grpc
import grpc.aio

from tallymesh.v1 import fleet_service_pb2, fleet_service_pb2_grpc

_TIMEOUT_SECONDS = 1.0


async def give_up_worker(gateways: Sequence[str], uid: str) -> None:
    """Has what a dead worker held given to others at once.

    Where no gateway answers, the mesh finds out by itself, 5 s after the worker's last call.

    Args:
        gateways: Addresses of gateways; the first that answers will do.
        uid: The worker's.
    """
    request = fleet_service_pb2.DeleteWorkerRequest(name=f"workers/{uid}")
    for address in gateways:
        async with grpc.aio.insecure_channel(address) as channel:
            try:
                await fleet_service_pb2_grpc.FleetServiceStub(channel).DeleteWorker(
                    request, timeout=_TIMEOUT_SECONDS
                )
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    continue
            return
