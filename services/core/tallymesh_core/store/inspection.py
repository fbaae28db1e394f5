"""What can be told of the store itself."""

import asyncio
import secrets
import time
from dataclasses import dataclass
from typing import Any

from tallymesh_core.domain.errors import StoreUnavailable
from tallymesh_core.store.conditions import ServerFacts, read_facts
from tallymesh_core.store.connection import SCHEMA_VERSION, Store

#: From the weakest on.
_DURABILITIES = ("none", "unknown", "everysec", "fsync")


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """The store at one moment; of a cluster, all primaries together.

    Attributes:
        latency_seconds: Time of one round trip, to the slowest.
        server: Its kind and version, such as "valkey 9.1.0".
        memory_bytes: Memory used by its data.
        key_count: How many keys it holds.
        commands_per_second: As it measures them itself.
        client_count: Clients connected to it; a client of a cluster counts at each primary.
        uptime_seconds: Time since it started, of the youngest.
        durability: "none" (memory only), "everysec" or "fsync", "unknown" where it is not told; of
            the weakest.
        shard_count: Shards that the data is spread over.
        schema_version: Version of the layout of the data.
        evicted_key_count: Keys that it has thrown away for want of memory since it started.
        problems: What the promises do not hold with, a sentence each.
    """

    latency_seconds: float
    server: str
    memory_bytes: int
    key_count: int
    commands_per_second: int
    client_count: int
    uptime_seconds: int
    durability: str
    shard_count: int
    schema_version: int
    evicted_key_count: int
    problems: tuple[str, ...]


class Inspection:
    """Looks at the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def facts(self) -> StoreFacts:
        """Returns what the store tells of itself.

        Raises:
            StoreUnavailable: It cannot be reached, or was last seen not to serve.
        """
        if trouble := self._store.state.trouble:
            raise StoreUnavailable(trouble.message) from trouble.__cause__
        async with self._store.everywhere() as clients:
            found = await asyncio.gather(*map(_look_at, clients))
        infos = [facts.info for _, facts, _ in found]

        def total(name: str) -> int:
            return sum(int(info.get(name, 0)) for info in infos)

        kept = [facts.durability for _, facts, _ in found]
        valkey = infos[0].get("valkey_version")
        return StoreFacts(
            latency_seconds=max(latency for latency, _, _ in found),
            server=f"valkey {valkey}" if valkey else f"redis {infos[0].get('redis_version', '?')}",
            memory_bytes=total("used_memory"),
            key_count=sum(keys for _, _, keys in found),
            commands_per_second=total("instantaneous_ops_per_sec"),
            client_count=total("connected_clients"),
            uptime_seconds=min(int(info.get("uptime_in_seconds", 0)) for info in infos),
            durability=min(kept, key=_DURABILITIES.index),
            shard_count=self._store.shards,
            schema_version=SCHEMA_VERSION,
            evicted_key_count=sum(facts.evicted_keys for _, facts, _ in found),
            problems=self._store.state.problems,
        )

    async def round_trip(self) -> float:
        """Writes a value, reads it back and deletes it; returns the seconds that took.

        Raises:
            StoreUnavailable: It cannot be reached, or does not keep what it was given.
        """
        shard = secrets.randbelow(self._store.shards)
        key = f"{self._store.prefix(shard)}check:{secrets.token_hex(8)}"
        value = secrets.token_bytes(16)
        started = time.perf_counter()
        async with self._store.at(shard) as client:
            await client.set(key, value, ex=60)
            read = await client.getdel(key)
        if read != value:
            raise StoreUnavailable("the store did not keep what it was given")
        return time.perf_counter() - started


async def _look_at(client: Any) -> tuple[float, ServerFacts, int]:
    """Returns a server's latency, what it tells of itself, and how many keys it holds."""
    started = time.perf_counter()
    await client.ping()
    latency = time.perf_counter() - started
    return latency, await read_facts(client), await client.dbsize()
