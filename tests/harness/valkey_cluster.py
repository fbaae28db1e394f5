"""A real cluster of Valkey (or Redis) servers for tests; its nodes can be killed and restarted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.harness.polling import eventually_sync
from tests.harness.ports import free_port
from tests.harness.valkey import ValkeyServer

_SLOTS = 16384
_PRIMARIES = 3


class ClusterNode(ValkeyServer):
    """One server of a cluster."""

    def __init__(self, *, timeout: float, options: Sequence[str]) -> None:
        """Prepares a server.

        Args:
            timeout: Seconds of silence after which a node counts as gone.
            options: More command line options.
        """
        self.bus = free_port()
        super().__init__(
            port=free_port(),
            options=(
                *("--cluster-enabled", "yes", "--cluster-port", str(self.bus)),
                *("--cluster-node-timeout", str(round(timeout * 1000))),
                *options,
            ),
        )

    @property
    def whole(self) -> bool:
        """Whether it holds the cluster for working and whole."""
        return "cluster_state:ok" in str(self.execute("CLUSTER", "INFO"))

    @property
    def name(self) -> str:
        """Its id in the cluster."""
        return str(self.execute("CLUSTER", "MYID"))

    @property
    def serves(self) -> bool:
        """Whether it is a primary."""
        return "role:master" in str(self.execute("INFO", "replication"))


class ValkeyCluster:
    """Three primaries that share the slots evenly, and replicas of them."""

    def __init__(
        self, *, replicas: bool = False, timeout: float = 15.0, options: Sequence[str] = ()
    ) -> None:
        """Prepares a cluster, without starting it.

        Args:
            replicas: Give each primary a replica, which takes its place when it is gone.
            timeout: Seconds of silence after which a node counts as gone.
            options: More command line options for each node.
        """
        count = 2 * _PRIMARIES if replicas else _PRIMARIES
        self.nodes = [ClusterNode(timeout=timeout, options=options) for _ in range(count)]
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def start(self) -> None:
        """Starts the nodes, and returns once each of them holds the cluster for whole."""
        for node in self.nodes:
            node.start()
        primaries, replicas = self.nodes[:_PRIMARIES], self.nodes[_PRIMARIES:]
        for index, node in enumerate(primaries):
            first, end = (part * _SLOTS // _PRIMARIES for part in (index, index + 1))
            node.execute("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
        for epoch, node in enumerate(self.nodes, start=1):
            # Nodes of the same epoch would first have to agree on others.
            node.execute("CLUSTER", "SET-CONFIG-EPOCH", epoch)
        for node in self.nodes:
            for other in self.nodes:
                if other is not node:
                    node.execute("CLUSTER", "MEET", "127.0.0.1", other.port, other.bus)
        for primary, replica in zip(primaries, replicas, strict=False):
            _make_replica(replica, primary)
        eventually_sync(self._is_whole, timeout=30, interval=0.05, message="a whole cluster")

    def flush(self) -> None:
        """Empties all nodes."""
        for node in self.nodes:
            if node.serves:
                node.execute("FLUSHALL")

    def node_of(self, slot: int) -> ClusterNode:
        """Returns the node that serves a slot, as a node that lives knows."""
        return self._said_by(next(node for node in self.nodes if node.alive), slot)

    def await_agreement(self, slot: int) -> None:
        """Returns once all nodes name the same one for a slot."""
        eventually_sync(
            lambda: len({self._said_by(node, slot).port for node in self.nodes}) == 1,
            timeout=30,
            message=f"one owner of slot {slot}",
        )

    def begin_move(self, slot: int, target: ClusterNode | None = None) -> "SlotMove":
        """Begins to move a slot to another node (any, if none is named), key by key."""
        source = self.node_of(slot)
        if target is None:
            target = next(node for node in self.nodes if node is not source and node.serves)
        target.execute("CLUSTER", "SETSLOT", slot, "IMPORTING", source.name)
        source.execute("CLUSTER", "SETSLOT", slot, "MIGRATING", target.name)
        return SlotMove(slot, source, target)

    def close(self) -> None:
        """Ends all nodes and removes their data."""
        for node in self.nodes:
            node.close()

    def _said_by(self, witness: ClusterNode, slot: int) -> ClusterNode:
        ranges: Any = witness.execute("CLUSTER", "SLOTS")
        for first, last, (_, port, *_), *_ in ranges:
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == port)
        raise LookupError(f"no node serves slot {slot}")

    def _is_whole(self) -> bool:
        return all(node.whole for node in self.nodes) and all(
            "master_link_status:up" in str(node.execute("INFO", "replication"))
            for node in self.nodes[_PRIMARIES:]
        )


@dataclass(frozen=True)
class SlotMove:
    """A slot that is on its way from one node to another."""

    slot: int
    source: ClusterNode
    target: ClusterNode

    def keys(self) -> list[str]:
        """Returns the keys that have not moved yet."""
        keys: Any = self.source.execute("CLUSTER", "GETKEYSINSLOT", self.slot, 10_000)
        return sorted(keys)

    def carry(self, *keys: str) -> None:
        """Moves keys."""
        for key in keys:
            self.source.execute("MIGRATE", "127.0.0.1", self.target.port, key, 0, 5000)

    def finish(self) -> None:
        """Moves what is left, and gives the slot to its new node."""
        self.carry(*self.keys())
        for node in (self.target, self.source):
            node.execute("CLUSTER", "SETSLOT", self.slot, "NODE", self.target.name)


def _make_replica(replica: ClusterNode, primary: ClusterNode) -> None:
    def accepted() -> bool:
        try:
            return replica.execute("CLUSTER", "REPLICATE", primary.name) == "OK"
        except RuntimeError:  # it has not heard of the primary yet
            return False

    eventually_sync(accepted, timeout=30, message="a replica knowing its primary")
