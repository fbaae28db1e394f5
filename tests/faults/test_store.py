"""The store dies, freezes, fails over, or forgets: work goes on by itself, and no answer is wrong.

Without an edge or a client that would hide an error by asking again.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import cast

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc_status import rpc_status
from redis.crc import key_slot

from tallymesh import Client, Job, Simulate
from tallymesh.jobs import JobHandle
from tallymesh.v1.abacus_service_pb2 import AddNumberRequest, GetSumRequest
from tallymesh.v1.abacus_service_pb2_grpc import AbacusServiceStub
from tallymesh.v1.job_service_pb2 import GetJobRequest
from tallymesh.v1.job_service_pb2_grpc import JobServiceStub
from tests.faults.test_kill import await_share
from tests.harness.polling import eventually_sync
from tests.harness.processes import Processes
from tests.harness.roles import Roles, start_roles
from tests.harness.sentinels import SentinelStore
from tests.harness.valkey import ValkeyServer
from tests.harness.valkey_cluster import ValkeyCluster

NewValkey = Callable[..., ValkeyServer]
Start = Callable[[str], Roles]

CHUNKS = 100
WORK = Simulate(duration=Duration(nanos=50_000_000))
SUM = "abaci/probed"


@pytest.fixture
def start(processes: Processes, folder: Path) -> Start:
    return lambda url: start_roles(processes, folder, url)


class Probe(threading.Thread):
    """Reads a job and adds to a sum all the time, each add under one id until it is acknowledged.

    Attributes:
        refused: How many calls were answered UNAVAILABLE.
        acknowledged: How many adds were acknowledged.
        wrong: What should never have been answered.
    """

    def __init__(self, roles: Roles, job: str) -> None:
        super().__init__(daemon=True)
        self.refused = self.acknowledged = 0
        self.wrong: list[str] = []
        self._roles, self._job = roles, job
        self._ended = threading.Event()

    def run(self) -> None:
        gateway, abacus = (
            grpc.insecure_channel(address) for address in (self._roles.gateway, self._roles.abacus)
        )
        with gateway, abacus:
            jobs, sums = JobServiceStub(gateway), AbacusServiceStub(abacus)
            while not self._ended.wait(0.02):
                add = AddNumberRequest(name=SUM, number=1, request_id=str(self.acknowledged))
                self.acknowledged += self._call(partial(sums.AddNumber, add, timeout=20))
                self._call(partial(jobs.GetJob, GetJobRequest(name=self._job), timeout=20))

    def end(self) -> None:
        self._ended.set()
        self.join()

    def _call(self, call: Callable[[], object]) -> bool:
        try:
            call()
        except grpc.RpcError as error:
            self._judge(error)
            return False
        return True

    def _judge(self, error: grpc.RpcError) -> None:
        status = rpc_status.from_call(cast(grpc.Call, error))
        info, retry = ErrorInfo(), RetryInfo()
        told = status and any(one.Unpack(info) for one in status.details)
        again = status and any(one.Unpack(retry) for one in status.details)
        if told and info.reason == "STORE_UNAVAILABLE" and again and retry.retry_delay.seconds:
            self.refused += 1
        else:
            self.wrong.append(str(error))


@contextmanager
def working(roles: Roles) -> Iterator[tuple[JobHandle, Probe]]:
    """A job that is under way and probed; after the body it ends, exact, with nobody given up."""
    with Client(roles.gateway) as client:
        job = client.submit(WORK, chunks=CHUNKS)
        probe = Probe(roles, job.name)
        probe.start()
        try:
            await_share(job, 0.1)
            yield job, probe
            assert job.result(timeout=60) == CHUNKS
        finally:
            probe.end()
        done = job.refresh()
    assert done.state == Job.STATE_SUCCEEDED
    assert sum(done.handled_by.values()) == done.progress.chunks_done == CHUNKS
    assert (done.lost_leases, done.failed_attempts) == (0, 0)
    assert probe.wrong == []
    for name, process in roles.processes.items():
        assert "Traceback" not in process.output(), name


def assert_sum(roles: Roles, probe: Probe) -> None:
    """What was acknowledged counted once; the last add may have counted unacknowledged."""
    with grpc.insecure_channel(roles.abacus) as channel:
        total = AbacusServiceStub(channel).GetSum(GetSumRequest(name=SUM), timeout=10)
    assert total.number - probe.acknowledged in (0, 1)


@pytest.mark.parametrize(
    ("hurt", "heal"),
    [
        pytest.param(ValkeyServer.kill, ValkeyServer.restart, id="killed"),
        pytest.param(ValkeyServer.pause, ValkeyServer.resume, id="frozen"),
    ],
)
def test_nobody_is_ready_while_the_store_is_away(
    start: Start,
    new_valkey: NewValkey,
    hurt: Callable[[ValkeyServer], None],
    heal: Callable[[ValkeyServer], None],
) -> None:
    server = new_valkey(fsync=True)
    roles = start(server.url)
    with working(roles) as (_, probe):
        hurt(server)
        eventually_sync(lambda: not roles.ready, message="nobody being ready")
        refused = probe.refused
        eventually_sync(lambda: probe.refused > refused, message="calls being refused")
        heal(server)
        eventually_sync(lambda: len(roles.ready) == 2, message="both being ready again")
    assert_sum(roles, probe)


def test_the_store_forgets_its_clients_and_scripts(start: Start, new_valkey: NewValkey) -> None:
    server = new_valkey()
    roles = start(server.url)
    with working(roles) as (job, probe):
        for share in range(2, 9):
            await_share(job, share / 10)
            server.execute("CLIENT", "KILL", "TYPE", "normal")
            server.execute("SCRIPT", "FLUSH")
    assert_sum(roles, probe)


def test_sentinels_put_the_replica_in_the_primarys_place(start: Start) -> None:
    with closing(SentinelStore()) as store:
        store.start()
        roles = start(store.url)
        with working(roles) as (_, probe):
            lost = store.primary
            lost.kill()
            eventually_sync(lambda: not roles.ready, message="nobody being ready")
            eventually_sync(lambda: len(roles.ready) == 2, timeout=30, message="the failover")
            assert store.primary is not lost
        assert probe.refused


def test_a_replica_takes_the_place_of_a_node_of_a_cluster(start: Start) -> None:
    with closing(ValkeyCluster(replicas=True, timeout=1.0)) as cluster:
        cluster.start()
        roles = start(cluster.url)
        with working(roles) as (_, probe):
            lost = cluster.node_of(key_slot(b"{tm0}:"))
            lost.kill()
            eventually_sync(lambda: not roles.ready, message="nobody being ready")
            eventually_sync(lambda: len(roles.ready) == 2, timeout=30, message="the failover")
            assert cluster.node_of(key_slot(b"{tm0}:")) is not lost
        assert probe.refused
