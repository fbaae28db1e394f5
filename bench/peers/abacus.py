"""Single adds to one sum by many clients at once, beside the way it is usually built."""

import asyncio
import shutil
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import redis

from bench.figures import TIMES, Bound, Figure, of_samples, of_seconds, ratio_of_pairs
from bench.load import Connection, GrpcCalls, JsonPosts, Load, run_load
from bench.mesh import BenchMesh
from bench.peers.nodes import Nodes, running_nodes
from bench.peers.watched_sum import PREFIX
from bench.sampling import Sampler, interleaved
from tallymesh import Client
from tallymesh.calls import new_request_id
from tallymesh.v1.abacus_service_pb2 import AddNumberRequest

_NODES = 2
_SUM = "contest"
_METHOD = "/tallymesh.v1.AbacusService/AddNumber"
#: For so many clients: at least how many times the peer's adds, at most what share of its p99.
_BOUNDS = {16: (4, 0.2), 64: (10, 0.1)}
#: Either would do; the store's wheel has none.
_RAW = ("valkey-benchmark", "redis-benchmark")
_RAW_COUNT = 50_000


def beside_peer(mesh: BenchMesh, quick: bool) -> Sequence[Figure]:
    """Measures adds through Envoy in turns with adds to the peer, on the mesh's own store."""
    seconds, rounds = (1.5, 1) if quick else (3.0, 4)
    figures: list[Figure] = []
    runs: list[bool] = []
    with running_nodes(_NODES, mesh.store_url) as nodes, Client(mesh.edge) as client:
        for clients in _BOUNDS:
            sides = {"mesh": _mesh_side(mesh, client), "peer": _peer_side(mesh, nodes)}
            rates = _take_turns(mesh, sides, clients, seconds, rounds)
            figures += _figures(clients, sides, rates)
            runs += [right for side in sides.values() for right in side.right]
    wrong = f"wrong sums, after {len(runs)} runs of both"
    return [
        *figures,
        Figure(name=wrong, value=runs.count(False), unit="sums", samples=len(runs), bound=Bound(0)),
    ]


@dataclass
class _Side:
    """One of those that are compared.

    Attributes:
        total: Reads the sum.
        loads: What the clients did in each run but the first, which warms up.
        right: Whether the sum had grown by what was acknowledged, after each run.
    """

    ports: Sequence[int]
    connection: Callable[[], Connection]
    body: Callable[[], bytes]
    total: Callable[[], int]
    loads: list[Load] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)

    def run(self, clients: int, seconds: float) -> float:
        """Has clients add 1 for some seconds; returns how many adds a second there were."""
        before = self.total()
        load = asyncio.run(run_load(self.ports, self.connection, clients, seconds, self.body))
        if self.right:
            self.loads.append(load)
        self.right.append(self.total() - before == len(load.latencies))
        return load.rate

    @property
    def latencies(self) -> Sequence[float]:
        """Seconds of every add."""
        return [latency for load in self.loads for latency in load.latencies]

    @property
    def generator(self) -> float:
        """Processor time of the clients for each add, in µs."""
        return 1e6 * statistics.median(
            load.own_seconds / len(load.latencies) for load in self.loads
        )


def _mesh_side(mesh: BenchMesh, client: Client) -> _Side:
    def body() -> bytes:
        request = AddNumberRequest(name=f"abaci/{_SUM}", number=1, request_id=new_request_id())
        return request.SerializeToString()

    port = int(mesh.edge.rpartition(":")[2])
    return _Side(
        [port], lambda: GrpcCalls(_METHOD), body, lambda: int(client.abacus(_SUM).read().value)
    )


def _peer_side(mesh: BenchMesh, nodes: Nodes) -> _Side:
    store = redis.Redis.from_url(mesh.store_url)
    return _Side(
        nodes.ports,
        lambda: JsonPosts(f"/sums/{_SUM}"),
        lambda: b'{"number": 1}',
        lambda: int(store.get(PREFIX + _SUM) or 0),
    )


def _take_turns(
    mesh: BenchMesh, sides: Mapping[str, _Side], clients: int, seconds: float, rounds: int
) -> dict[str, list[float]]:
    def sampler(side: _Side) -> Sampler:
        return lambda _: [side.run(clients, seconds)]

    samplers = {name: sampler(side) for name, side in sides.items()}
    if raw := next(filter(None, map(shutil.which, _RAW)), None):
        samplers["raw"] = lambda _: [_raw_rate(raw, mesh, clients)]
    return interleaved(samplers, rounds=rounds)


def _raw_rate(program: str, mesh: BenchMesh, clients: int) -> float:
    """The INCRBYs a second that the store takes, one after the other on each connection."""
    socket = mesh.store_url.removeprefix("unix://")
    command = (program, "-s", socket, "-c", str(clients), "-n", str(_RAW_COUNT), "--csv")
    ended = subprocess.run(
        (*command, "INCRBY", f"{PREFIX}raw", "1"), check=True, capture_output=True, text=True
    )
    return float(ended.stdout.splitlines()[-1].split(",")[1].strip('"'))


def _figures(
    clients: int, sides: Mapping[str, _Side], rates: Mapping[str, Sequence[float]]
) -> Sequence[Figure]:
    times, share = _BOUNDS[clients]
    mesh, peer = sides["mesh"], sides["peer"]
    ours = of_seconds(f"an add, {clients} clients, through Envoy", mesh.latencies)
    theirs = of_seconds(f"an add, {clients} clients, peer", peer.latencies)
    assert ours.p99
    assert theirs.p99
    figures = [
        ratio_of_pairs(
            f"adds a second, {clients} clients, through Envoy / peer",
            rates["mesh"],
            rates["peer"],
            bound=Bound(times, "≥"),
        ),
        Figure(
            name=f"p99 of an add, {clients} clients, through Envoy / peer",
            value=ours.p99 / theirs.p99,
            unit=TIMES,
            samples=ours.samples,
            bound=Bound(share),
        ),
        of_samples(f"adds, {clients} clients, through Envoy", rates["mesh"], "/s"),
        of_samples(f"adds, {clients} clients, peer", rates["peer"], "/s"),
        ours,
        theirs,
        Figure(name="the clients' own processor time, gRPC", value=mesh.generator, unit="µs"),
        Figure(name="the clients' own processor time, peer", value=peer.generator, unit="µs"),
    ]
    if raw := rates.get("raw"):
        shares = [100 * one / other for one, other in zip(rates["mesh"], raw, strict=True)]
        figures += [
            of_samples(f"INCRBY alone, {clients} clients (redis-benchmark)", raw, "/s"),
            of_samples(f"adds through Envoy, {clients} clients, of INCRBY alone", shares, "%"),
        ]
    return figures
