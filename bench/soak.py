"""What is left of a million chunks of finished, expired jobs, and what one costs until then."""

from collections.abc import Sequence
from dataclasses import dataclass

import grpc
from google.protobuf.duration_pb2 import Duration
from redis import Redis

from bench.figures import TIMES, Bound, Figure
from bench.mesh import BenchMesh
from tallymesh import Client, Job, Simulate, Work
from tests.harness.mixture import run_jobs, run_mixture
from tests.harness.polling import eventually_sync

_SECONDS = 120.0
_EVENTS = "{tm0}:events"
_MIB = 2**20
#: Chunks of the largest job of a mixture.
_LARGE = 10_000
_SHORT = Duration(seconds=2)
#: Long enough to look at what the job has left.
_TTL = Duration(seconds=5)
_REQUESTS = 1_000
_FLAT = Bound(1.1)


@dataclass(frozen=True, slots=True)
class _State:
    """What is used when all jobs have expired.

    Attributes:
        keys: Keys in the store.
        store: Bytes of the store, without its log of events.
        events: Bytes of that log, which is cut to about the last 8,192 entries.
        gateway: Bytes resident in the gateway.
        worker: Bytes resident in the worker and its compute processes.
    """

    keys: int
    store: int
    events: int
    gateway: int
    worker: int


def measure(mesh: BenchMesh, quick: bool) -> Sequence[Figure]:
    chunks, warm_up, rounds = (100_000, 2, 4) if quick else (1_000_000, 10, 30)
    with (
        Client(mesh.gateway) as client,
        grpc.insecure_channel(mesh.gateway) as channel,
        Redis.from_url(mesh.store_url) as store,
    ):
        counted = sum(run_mixture(channel, _LARGE, _SHORT) for _ in range(warm_up))
        before = _state(mesh, client, store)
        run_jobs(channel, [Job(work=Work(simulate=Simulate()), chunk_count=chunks, ttl=_TTL)])
        cost = (_store_bytes(store)[0] - before.store) / chunks
        counted += chunks + sum(run_mixture(channel, _LARGE, _SHORT) for _ in range(rounds))
        after = _state(mesh, client, store)
        handles = client.submit_many([Simulate()] * _REQUESTS, chunks=1, ttl=_SHORT.ToTimedelta())
        assert len(list(client.as_completed(handles, timeout=_SECONDS))) == _REQUESTS
        remembered = _state(mesh, client, store).store - after.store
    since = f"after {counted / 1e6:.2g} million chunks / after warm-up"

    def flat(what: str, now: int, then: int) -> Figure:
        return Figure(name=f"{what}, {since}", value=now / then, unit=TIMES, bound=_FLAT)

    return [
        Figure(
            name=f"Valkey, for each chunk of a finished job of {chunks:,}",
            value=cost,
            unit="bytes",
            bound=Bound(64),
        ),
        Figure(
            name="Valkey, more than after warm-up",
            value=after.keys - before.keys,
            unit="keys",
            bound=Bound(0),
        ),
        Figure(name="Valkey", value=after.keys, unit="keys"),
        flat("memory of Valkey", after.store, before.store),
        Figure(name="memory of Valkey", value=after.store / _MIB, unit="MiB"),
        Figure(name="its log of events", value=after.events / _MIB, unit="MiB"),
        flat("memory of the gateway", after.gateway, before.gateway),
        Figure(name="memory of the gateway", value=after.gateway / _MIB, unit="MiB"),
        flat("memory of the worker", after.worker, before.worker),
        Figure(name="memory of the worker", value=after.worker / _MIB, unit="MiB"),
        Figure(
            name="Valkey, for each request id remembered",
            value=remembered / _REQUESTS,
            unit="bytes",
        ),
    ]


def _state(mesh: BenchMesh, client: Client, store: Redis) -> _State:
    """Waits until no job is left, and looks."""
    eventually_sync(
        lambda: not any(True for _ in client.jobs()),
        timeout=_SECONDS,
        message="all jobs having expired",
    )
    used, events = _store_bytes(store)
    return _State(
        keys=store.dbsize(),
        store=used,
        events=events,
        gateway=mesh.resident_bytes("gateway-1"),
        worker=mesh.resident_bytes("worker-1"),
    )


def _store_bytes(store: Redis) -> tuple[int, int]:
    """What the store uses without its log of events, and what that uses."""
    # What was unlinked is freed in the background.
    eventually_sync(
        lambda: not store.info("memory")["lazyfree_pending_objects"], message="memory being freed"
    )
    events = store.memory_usage(_EVENTS, samples=0) or 0
    return store.info("memory")["used_memory"] - events, events
