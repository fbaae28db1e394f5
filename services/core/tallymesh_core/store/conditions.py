"""What a store has to be for the promises to hold, and what is wrong with the one there is."""

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from redis import exceptions

from tallymesh_core.config.store_conditions import Condition
from tallymesh_core.store.failures import domain_error

Durability = Literal["everysec", "fsync"]

#: The oldest version of Redis that has what the scripts need. Every Valkey has it.
_OLDEST_REDIS = 7
_VERSION = re.compile(r"(\d+)\.\d[\d.]*")
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that the promises do not hold with.

    Attributes:
        sentence: What is wrong, and what to set.
        condition: What is not met, if who knows better may tolerate it.
        is_fatal: Nobody starts on such a store.
    """

    sentence: str
    condition: Condition | None = None
    is_fatal: bool = False

    @property
    def refusal(self) -> str:
        """Returns the sentence, and how to start nevertheless where that can be."""
        if self.condition is None:
            return self.sentence
        return f"{self.sentence}, or TALLYMESH_STORE_TOLERATE={self.condition.value}"


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a server tells of itself; managed ones do not tell everything.

    Attributes:
        info: Its answer to INFO, empty if that is forbidden.
        persistence: Its settings `append*`, empty if CONFIG is forbidden.
        hidden: The commands that are forbidden.
    """

    info: Mapping[str, Any] = field(default_factory=dict)
    persistence: Mapping[str, str] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()

    @property
    def durability(self) -> str:
        """Returns "none", "everysec", "fsync", or "unknown"."""
        if self.persistence:
            if self.persistence.get("appendonly") != "yes":
                return "none"
            return "fsync" if self.persistence.get("appendfsync") == "always" else "everysec"
        if "aof_enabled" not in self.info:
            return "unknown"
        return "unknown" if self.info["aof_enabled"] else "none"

    @property
    def evicted_keys(self) -> int:
        """Returns how many keys it has evicted since it started."""
        return int(self.info.get("evicted_keys", 0))


async def read_facts(client: Any) -> ServerFacts:
    """Asks a server for what it tells of itself.

    Raises:
        redis.RedisError, OSError: As the driver does, but for commands that are forbidden.
    """
    hidden = []

    async def ask(name: str, command: Any) -> Any:
        try:
            return await command
        except exceptions.NoPermissionError:
            pass
        except exceptions.ResponseError as error:
            if domain_error(error):
                raise
        hidden.append(name)
        return {}

    info = await ask("INFO", client.info())
    persistence = await ask("CONFIG", client.config_get("append*"))
    return ServerFacts(info, persistence, tuple(hidden))


def problems_of(
    facts: ServerFacts, *, durability: Durability, is_single: bool
) -> Iterator[Problem]:
    """Yields what is wrong with a server.

    Args:
        facts: What it tells of itself.
        durability: What is demanded of it.
        is_single: It is the only one, so that nobody else is to make a primary of a replica.
    """
    info = facts.info
    version = _VERSION.match(str(info.get("redis_version", "")))
    # Valkey tells a version of Redis, too, for the sake of clients.
    if version and "valkey_version" not in info and int(version[1]) < _OLDEST_REDIS:
        yield Problem(
            f"the store is Redis {version[0]}: Tallymesh needs Valkey, or Redis 7.0 or newer",
            Condition.VERSION,
            is_fatal=True,
        )
    if is_single and info.get("role") == "slave":
        yield Problem(
            "the store at TALLYMESH_STORE_URL is a replica, which keeps nothing that is written to "
            "it: name its primary, or sentinels (redis+sentinel://)",
            is_fatal=True,
        )
    most, policy = int(info.get("maxmemory", 0)), info.get("maxmemory_policy", "noeviction")
    if most and policy != "noeviction":
        yield Problem(
            f"the store may evict jobs and sums (maxmemory-policy {policy}): set "
            "`maxmemory-policy noeviction`",
            Condition.EVICTION,
            is_fatal=True,
        )
    used = int(info.get("used_memory", 0)) - int(info.get("mem_not_counted_for_evict", 0))
    if most and used >= most and policy == "noeviction":
        yield Problem(
            f"the store is full ({used / _MIB:,.1f} of {most / _MIB:,.1f} MiB): it takes no new "
            "jobs and adds; raise `maxmemory`, or delete jobs"
        )
    if facts.evicted_keys:
        yield Problem(
            f"the store has evicted {facts.evicted_keys:,} keys, and jobs or sums with them; once "
            "that is mended, `CONFIG RESETSTAT` clears this",
            Condition.EVICTION,
        )
    kept = facts.persistence
    if durability == "fsync" and kept and facts.durability != "fsync":
        yield Problem(
            "TALLYMESH_DURABILITY=fsync needs a store with `appendonly yes` and "
            f"`appendfsync always`; it has appendonly {kept.get('appendonly')}, "
            f"appendfsync {kept.get('appendfsync')}",
            is_fatal=True,
        )


def unseen(facts: ServerFacts, *, durability: Durability) -> Iterator[str]:
    """Yields what cannot be seen of a server though it matters."""
    if "INFO" in facts.hidden:
        yield "INFO is forbidden: whether the store evicts keys or is full cannot be seen"
    if "CONFIG" in facts.hidden and durability == "fsync":
        yield "CONFIG is forbidden: whether the store has `appendfsync always` cannot be seen"


#: Types of the keys that each shard has once it is in use.
SHARD_KEYS: Mapping[str, str] = {
    "clock": "string",
    "tick": "string",
    "tenants": "set",
    "vtime": "hash",
    "deadlines": "zset",
    "delayed": "zset",
    "expiry": "zset",
    "outbox": "set",
    "owners": "zset",
    "events": "stream",
    "abacus-events": "stream",
    "abacus-versions": "string",
}


async def foreign_keys(client: Any, prefix: str) -> AsyncIterator[Problem]:
    """Yields which keys of a shard are of another type than Tallymesh's."""
    pipe = client.pipeline(transaction=False)
    for name in SHARD_KEYS:
        pipe.type(f"{prefix}{name}")
    for (name, wanted), found in zip(SHARD_KEYS.items(), await pipe.execute(), strict=True):
        kind = found.decode() if isinstance(found, bytes) else str(found)
        if kind not in (wanted, "none"):
            yield foreign_key(f"{prefix}{name}", wanted)


def foreign_key(key: str, wanted: str) -> Problem:
    """Returns the problem of a key that is not what Tallymesh keeps there."""
    return Problem(
        f"the store's key {key} is not Tallymesh's (no {wanted}): give Tallymesh a database of its "
        "own in TALLYMESH_STORE_URL",
        Condition.KEYS,
        is_fatal=True,
    )
