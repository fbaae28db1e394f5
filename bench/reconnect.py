"""How soon a mesh goes on by itself once its store is back, and when it is cut off from it."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import grpc
from google.protobuf.duration_pb2 import Duration

from bench.figures import Bound, Figure, of_seconds
from bench.mesh import BenchMesh
from tallymesh import Client, Simulate
from tallymesh.v1.abacus_service_pb2 import AddNumberRequest
from tallymesh.v1.abacus_service_pb2_grpc import AbacusServiceStub
from tests.harness.processes import Processes
from tests.harness.roles import Roles, start_roles
from tests.harness.valkey import ValkeyServer

#: Chunks are so short that waiting for the end of one hardly counts.
_WORK = Simulate(duration=Duration(nanos=10_000_000))
_CHUNKS = 1_000_000
#: By then pauses between attempts have grown to their longest.
_AWAY_SECONDS = 2.5
_BOUND = Bound(2000)


def measure(mesh: BenchMesh, quick: bool) -> Sequence[Figure]:
    del mesh  # its store keeps nothing, and has a supervisor of its own
    rounds = 5 if quick else 10
    with _own_mesh() as (server, roles), Client(roles.gateway) as client:
        job = client.submit(_WORK, chunks=_CHUNKS)
        key = f"{{tm0}}:job:default/{job.name.removeprefix('jobs/')}"
        with grpc.insecure_channel(roles.abacus) as channel:
            abacus = AbacusServiceStub(channel)

            def chunks_done() -> int:
                return int(str(server.execute("HGET", key, "done")))

            def adds() -> bool:
                try:
                    abacus.AddNumber(AddNumberRequest(name="abaci/bench", number=1), timeout=5)
                except grpc.RpcError:
                    return False
                return True

            def sample(hurt: Callable[[ValkeyServer], None]) -> Mapping[str, float]:
                hurt(server)
                before = chunks_done()
                return _times_until(
                    {
                        "commit": lambda: chunks_done() > before,
                        "add": adds,
                        "readiness": lambda: len(roles.ready) == 2,
                    }
                )

            restarted = [sample(_restart) for _ in range(rounds)]
            cut = [sample(_cut) for _ in range(4 * rounds)]
        job.cancel()
    return [
        *(
            of_seconds(
                f"store killed and back: from its PONG to the next {what}",
                [one[what] for one in restarted],
                bound=_BOUND,
            )
            for what in ("commit", "add", "readiness")
        ),
        *(
            of_seconds(f"connections cut: to the next {what}", [one[what] for one in cut])
            for what in ("commit", "add")
        ),
    ]


@contextmanager
def _own_mesh() -> Iterator[tuple[ValkeyServer, Roles]]:
    with (
        tempfile.TemporaryDirectory(prefix="tm-bench-") as folder,
        closing(ValkeyServer(appendonly=True)) as server,
        Processes() as processes,
    ):
        server.start()
        yield server, start_roles(processes, Path(folder), server.url)


def _restart(server: ValkeyServer) -> None:
    server.kill()
    time.sleep(_AWAY_SECONDS)
    server.restart()


def _cut(server: ValkeyServer) -> None:
    server.execute("CLIENT", "KILL", "TYPE", "normal")


def _times_until(conditions: Mapping[str, Callable[[], bool]]) -> Mapping[str, float]:
    """Returns the seconds that each condition takes to hold."""
    begun = time.perf_counter()
    taken: dict[str, float] = {}
    while len(taken) < len(conditions):
        for name, holds in conditions.items():
            if name not in taken and holds():
                taken[name] = time.perf_counter() - begun
        time.sleep(0.001)
    return taken
