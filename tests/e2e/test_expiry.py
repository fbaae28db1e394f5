"""Jobs that have expired leave nothing behind, however they ended."""

from pathlib import Path

import grpc
from google.protobuf.duration_pb2 import Duration
from redis import Redis

from tallymesh import Client
from tests.harness.local_mesh import start_mesh
from tests.harness.mixture import run_mixture
from tests.harness.polling import eventually_sync
from tests.harness.processes import Processes

TTL = Duration(seconds=1)
EVENTS = b"{tm0}:events"


def test_what_has_expired_leaves_no_key_and_no_memory(processes: Processes, folder: Path) -> None:
    mesh = start_mesh(processes, folder, "--no-edge", "--workers", "1", "--slots", "2")
    (socket,) = folder.glob("tallymesh-up-*/valkey.sock")
    with (
        Client(mesh.address) as client,
        grpc.insecure_channel(mesh.address) as channel,
        Redis.from_url(f"unix://{socket}") as store,
    ):

        def await_expiry() -> None:
            eventually_sync(
                lambda: not any(True for _ in client.jobs()),
                timeout=30,
                message="all jobs being gone",
            )

        def keys() -> set[bytes]:
            return set(store.scan_iter())

        def used_bytes() -> int:
            # The log of events is cut to its last entries, which come slowly.
            return int(store.info("memory")["used_memory"] - store.memory_usage(EVENTS, samples=0))

        run_mixture(channel, 2_000, TTL)
        await_expiry()
        first_keys, first_bytes = keys(), used_bytes()
        assert EVENTS in first_keys
        for _ in range(3):
            run_mixture(channel, 2_000, TTL)
        assert keys() > first_keys
        await_expiry()
        eventually_sync(lambda: keys() == first_keys, message="the same keys as before")
        eventually_sync(lambda: used_bytes() < 1.2 * first_bytes, message="memory being freed")
