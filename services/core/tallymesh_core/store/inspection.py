"""What can be told of the store itself."""

import secrets
import time
from dataclasses import dataclass

from tallymesh_core.domain.errors import StoreUnavailable
from tallymesh_core.store.connection import SCHEMA_VERSION, Store, translated


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """The store at one moment.

    Attributes:
        latency_seconds: Time of one round trip.
        server: Its kind and version, such as "valkey 9.1.0".
        memory_bytes: Memory used by its data.
        key_count: How many keys it holds.
        commands_per_second: As it measures them itself.
        client_count: Clients connected to it.
        uptime_seconds: Time since it started.
        durability: "none" (memory only), "everysec" or "fsync".
        shard_count: Shards that the data is spread over.
        schema_version: Version of the layout of the data.
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


class Inspection:
    """Looks at the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def facts(self) -> StoreFacts:
        """Returns what the store tells of itself.

        Raises:
            StoreUnavailable: It cannot be reached.
        """
        client = self._store.client
        async with translated():
            started = time.perf_counter()
            await client.ping()
            latency = time.perf_counter() - started
            info = await client.info()
            keys = await client.dbsize()
            kept = await client.config_get("append*")
        if kept.get("appendonly") != "yes":
            durability = "none"
        else:
            durability = "fsync" if kept.get("appendfsync") == "always" else "everysec"
        valkey = info.get("valkey_version")
        return StoreFacts(
            latency_seconds=latency,
            server=f"valkey {valkey}" if valkey else f"redis {info.get('redis_version', '?')}",
            memory_bytes=int(info["used_memory"]),
            key_count=keys,
            commands_per_second=int(info["instantaneous_ops_per_sec"]),
            client_count=int(info["connected_clients"]),
            uptime_seconds=int(info["uptime_in_seconds"]),
            durability=durability,
            shard_count=self._store.shards,
            schema_version=SCHEMA_VERSION,
        )

    async def round_trip(self) -> float:
        """Writes a value, reads it back and deletes it; returns the seconds that took.

        Raises:
            StoreUnavailable: It cannot be reached, or does not keep what it was given.
        """
        key, value = f"tm:check:{secrets.token_hex(8)}", secrets.token_bytes(16)
        client = self._store.client
        started = time.perf_counter()
        async with translated():
            await client.set(key, value, ex=60)
            read = await client.getdel(key)
        if read != value:
            raise StoreUnavailable("the store did not keep what it was given")
        return time.perf_counter() - started
