"""One truth about the store: what calls are answered, GetHealth, and grpc.health of each role."""

import asyncio
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from tallymesh.v1 import abacus_service_pb2, job_service_pb2_grpc, mesh_service_pb2_grpc
from tallymesh.v1 import job_service_pb2 as pb
from tallymesh.v1 import mesh_service_pb2 as mesh
from tallymesh.v1.abacus_service_pb2_grpc import AbacusServiceStub
from tallymesh.v1.job_pb2 import Job
from tallymesh_abacus import app as abacus_app
from tallymesh_abacus.settings import AbacusSettings
from tallymesh_core.store.failures import StoreMismatch
from tallymesh_gateway import app as gateway_app
from tallymesh_gateway.settings import GatewaySettings
from tests.harness.polling import eventually
from tests.harness.valkey import ValkeyServer
from tests.integration.gateway.conftest import Worker, running_gateway
from tests.integration.gateway.test_gateway import create, facts, simulate

Status = mesh.GetHealthResponse.Status
SERVING = HealthCheckResponse.SERVING
NOT_SERVING = HealthCheckResponse.NOT_SERVING


async def told(channel: grpc.aio.Channel) -> int:
    """What grpc.health tells."""
    health: Any = HealthStub(channel)  # typed for blocking channels only
    answer = await health.Check(HealthCheckRequest(), wait_for_ready=True, timeout=10)
    return int(answer.status)


async def test_a_full_store_refuses_what_is_new_and_is_degraded(
    new_valkey: Callable[..., ValkeyServer], folder: Path
) -> None:
    server = new_valkey()
    stop = asyncio.Event()
    address = f"unix:{folder}/abacus.sock"
    settings = AbacusSettings.load(store_url=server.url, listen=address, node="abacus-1")
    serving = asyncio.create_task(abacus_app.serve(settings, stop))
    async with (
        running_gateway(server.url) as gateway,
        grpc.aio.insecure_channel(address) as channel,
    ):
        abacus = AbacusServiceStub(channel)
        await eventually(lambda: is_told(channel, SERVING))
        worker = Worker(gateway)
        job = await create(gateway, simulate())
        await worker.call(capacity=8)
        assert worker.held

        server.execute("CONFIG", "SET", "maxmemory", 1)
        add = abacus_service_pb2.AddNumberRequest(name="abaci/visitors", number=1)
        for refused in (create(gateway, simulate()), abacus.AddNumber(add)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await refused
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert facts(caught.value).reason == "STORE_FULL"
            assert "used memory > 'maxmemory'" in (caught.value.details() or "")

        async def is_degraded() -> bool:
            health = await gateway.mesh.GetHealth(mesh.GetHealthRequest())
            said = "the store is full" in " ".join(health.problems)
            assert said == (health.status == Status.STATUS_DEGRADED)
            assert list(health.problems) == list(health.store.problems)
            return said

        await eventually(is_degraded)
        assert {await told(gateway.channel), await told(channel)} == {SERVING}
        sum_ = await abacus.GetSum(abacus_service_pb2.GetSumRequest(name="abaci/visitors"))
        assert sum_.value == "0"
        await worker.finish()
        job = await gateway.jobs.GetJob(pb.GetJobRequest(name=job.name))
        assert job.state == Job.STATE_SUCCEEDED

        server.execute("CONFIG", "SET", "maxmemory", 0)
        await abacus.AddNumber(add)
        await create(gateway, simulate())
        await eventually(lambda: is_healthy(gateway.mesh))
        stop.set()
        await serving


async def is_told(channel: grpc.aio.Channel, status: int) -> bool:
    return await told(channel) == status


async def is_healthy(stub: Any) -> bool:
    health = await stub.GetHealth(mesh.GetHealthRequest())
    return bool(health.status == Status.STATUS_HEALTHY)


async def test_a_gateway_listens_before_it_has_found_its_store(folder: Path) -> None:
    with closing(ValkeyServer()) as server:
        address = f"unix:{folder}/gateway.sock"
        settings = GatewaySettings.load(
            store_url=server.url, listen=address, abacus=f"unix:{folder}/none.sock"
        )
        stop = asyncio.Event()
        serving = asyncio.create_task(gateway_app.serve(settings, stop))
        async with grpc.aio.insecure_channel(address) as channel:
            assert await told(channel) == NOT_SERVING
            stub = mesh_service_pb2_grpc.MeshServiceStub(channel)
            health = await stub.GetHealth(mesh.GetHealthRequest())
            assert health.status == Status.STATUS_UNHEALTHY
            assert list(health.problems) == ["the store has not answered yet"]
            jobs = job_service_pb2_grpc.JobServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await jobs.CreateJob(pb.CreateJobRequest(job=simulate()))
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert facts(caught.value).reason == "STORE_UNAVAILABLE"

            server.start()
            await eventually(lambda: is_told(channel, SERVING))
            await jobs.CreateJob(pb.CreateJobRequest(job=simulate()))

            server.kill()
            await eventually(lambda: is_told(channel, NOT_SERVING))
            health = await stub.GetHealth(mesh.GetHealthRequest())
            assert health.status == Status.STATUS_UNHEALTHY
            stop.set()
            await serving


async def test_a_store_that_takes_no_writes_serves_for_nobody(
    new_valkey: Callable[..., ValkeyServer],
) -> None:
    server = new_valkey()
    async with running_gateway(server.url) as gateway:
        server.execute("CONFIG", "SET", "min-replicas-to-write", 1)

        async def is_unhealthy() -> bool:
            health = await gateway.mesh.GetHealth(mesh.GetHealthRequest())
            return bool(
                health.status == Status.STATUS_UNHEALTHY
                and "NOREPLICAS" in " ".join(health.problems)
            )

        await eventually(is_unhealthy)
        await eventually(lambda: is_told(gateway.channel, NOT_SERVING))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await create(gateway, simulate())
        assert facts(caught.value).reason == "STORE_UNAVAILABLE"
        assert "NOREPLICAS" in (caught.value.details() or "")
        server.execute("CONFIG", "SET", "min-replicas-to-write", 0)
        await eventually(lambda: is_told(gateway.channel, SERVING))
        await create(gateway, simulate())


async def test_a_mesh_whose_store_was_emptied_says_so_and_goes_on(
    new_valkey: Callable[..., ValkeyServer],
) -> None:
    server = new_valkey()
    async with running_gateway(server.url) as gateway:
        worker = Worker(gateway)
        lost = await create(gateway, simulate())
        await worker.call(capacity=1)
        server.execute("FLUSHALL")

        async def is_noticed() -> bool:
            health = await gateway.mesh.GetHealth(mesh.GetHealthRequest())
            noticed = "has lost everything" in " ".join(health.problems)
            assert noticed == (health.status == Status.STATUS_DEGRADED)
            return noticed

        await eventually(is_noticed)
        assert await told(gateway.channel) == SERVING
        assert server.execute("HEXISTS", "tm:meta", "schema") == 1
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await gateway.jobs.GetJob(pb.GetJobRequest(name=lost.name))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        worker.held = []
        job = await create(gateway, simulate())

        async def is_done() -> bool:
            await worker.call(capacity=1)
            await worker.finish()
            found = await gateway.jobs.GetJob(pb.GetJobRequest(name=job.name))
            return bool(found.state == Job.STATE_SUCCEEDED)

        await eventually(is_done)


async def test_a_gateway_refuses_a_store_that_evicts(
    new_valkey: Callable[..., ValkeyServer], folder: Path
) -> None:
    server = new_valkey()
    server.execute("CONFIG", "SET", "maxmemory", "20mb")
    server.execute("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    given = {"store_url": server.url, "listen": f"unix:{folder}/gateway.sock"}
    with pytest.raises(StoreMismatch, match="maxmemory-policy noeviction"):
        await asyncio.wait_for(gateway_app.serve(GatewaySettings.load(**given)), 20)
