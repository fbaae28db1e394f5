"""Which server serves what: the one there is, the one sentinels name, or the nodes of a cluster.

A key's slot says where it lives, as in a cluster; elsewhere one server serves all slots. What is
known of that is looked up anew as soon as there is reason to doubt it.
"""

import asyncio
import random
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from redis import exceptions
from redis.asyncio import Sentinel
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from tallymesh_core.config.store_address import Kind, Place, StoreAddress
from tallymesh_core.domain.errors import StoreUnavailable
from tallymesh_core.store.failures import StoreMismatch, translated
from tallymesh_core.store.server import Server, connection_options

#: A sentinel or node that does not answer by then is passed over.
_ASK_SECONDS = 1.0
#: Time between two looks, however much doubt there is.
_PAUSE_SECONDS = 0.1


class _Served(NamedTuple):
    """A server, and a range of slots that it serves."""

    place: Place
    slots: range


_ALL_SLOTS = range(REDIS_CLUSTER_HASH_SLOTS)


class Topology:
    """The servers of a store."""

    def __init__(self, address: StoreAddress) -> None:
        """Connects nothing yet."""
        self._address = address
        self._servers: dict[Place, Server] = {}
        self._owners: list[Server | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        #: What the owners were made of; empty if one of them has changed since.
        self._found: list[_Served] = []
        self._serving: set[Server] = set()
        self._slots: dict[str, int] = {}
        self._sentinel = _sentinel(address) if address.kind is Kind.SENTINEL else None
        self._doubted = True
        self._looking = asyncio.Lock()
        self._next_look = 0.0

    async def server_of(self, key: str) -> Server:
        """Returns the server that serves a key.

        Raises:
            StoreUnavailable: None does at present, or nobody says which.
            StoreMismatch: What stands at the address is not of its kind.
        """
        if self._doubted:
            await self._look_if_doubted()
        if key not in self._slots:
            self._slots[key] = key_slot(key.encode())
        owner = self._owners[self._slots[key]]
        if owner is None:
            raise StoreUnavailable
        return owner

    async def servers(self) -> list[Server]:
        """Returns all servers that serve something.

        Raises:
            StoreUnavailable: Nobody says which.
            StoreMismatch: What stands at the address is not of its kind.
        """
        if self._doubted:
            await self._look_if_doubted()
        return list(self._serving)

    def doubt(self) -> None:
        """Has it looked up anew, before the next use, who serves what."""
        self._doubted = True

    def follow(self, moved: exceptions.MovedError) -> None:
        """Takes note of who serves a slot, as told by a node that does not.

        Raises:
            StoreMismatch: There should be one server only.
        """
        if self._address.kind is not Kind.CLUSTER:
            raise StoreMismatch(
                "TALLYMESH_STORE_URL: a node of a cluster stands there; "
                "redis+cluster:// is for clusters"
            )
        if moved.host:
            owner = self._server(Place(moved.host, moved.port))
            self._owners[moved.slot_id] = owner
            self._serving.add(owner)
            self._found.clear()
        else:
            self.doubt()

    async def look(self) -> None:
        """Looks up who serves what, and cuts the connections to those who no longer do.

        Raises:
            StoreUnavailable: Nobody says.
            StoreMismatch: What stands at the address is not of its kind.
        """
        async with self._looking:
            await self._look()

    async def close(self) -> None:
        """Closes all connections."""
        for server in self._servers.values():
            await server.close()
        if self._sentinel:
            await self._sentinel.aclose()

    async def _look_if_doubted(self) -> None:
        async with self._looking:
            # Another may have looked meanwhile. Soon after a look, what it found has to do.
            if self._doubted and time.monotonic() >= self._next_look:
                await self._look()

    async def _look(self) -> None:
        try:
            found = list(await self._ask())
        finally:
            self._next_look = time.monotonic() + _PAUSE_SECONDS
        self._doubted = False
        if found == self._found:
            return
        before, self._found = self._serving, found
        self._owners = [None] * REDIS_CLUSTER_HASH_SLOTS
        for served in found:
            server = self._server(served.place)
            self._owners[served.slots.start : served.slots.stop] = [server] * len(served.slots)
        self._serving = {self._server(served.place) for served in found}
        # Who waits there for an answer may wait long.
        for server in before - self._serving:
            await server.disconnect()

    async def _ask(self) -> Iterable[_Served]:
        match self._address.kind:
            case Kind.SERVER:
                return [_Served(self._address.places[0], _ALL_SLOTS)]
            case Kind.SENTINEL:
                return [_Served(await self._ask_sentinels(), _ALL_SLOTS)]
            case Kind.CLUSTER:
                return await self._ask_nodes()

    async def _ask_sentinels(self) -> Place:
        assert self._sentinel
        service = self._address.service
        try:
            async with translated():
                return Place(*await self._sentinel.discover_master(service))
        except StoreUnavailable as error:
            # The driver's own words are long, and show all options of each sentinel.
            if exceptions.AuthenticationError.__name__ in str(error.__cause__):
                raise StoreUnavailable(
                    "the sentinels refuse the login (sentinel_username, sentinel_password)"
                ) from exceptions.AuthenticationError()
            raise StoreUnavailable from exceptions.ConnectionError(
                f"no sentinel that can be asked knows a primary of {service!r}"
            )
        except exceptions.ResponseError as error:
            raise StoreMismatch(
                f"TALLYMESH_STORE_URL: what stands there is no sentinel ({error})"
            ) from None

    async def _ask_nodes(self) -> Iterable[_Served]:
        """Asks nodes of the cluster until one answers: those first that serve something."""
        serving = {place for place, server in self._servers.items() if server in self._serving}
        others = {*self._servers, *self._address.places} - serving
        failure = StoreUnavailable()
        for place in (*_shuffled(serving), *_shuffled(others)):
            try:
                async with translated(), asyncio.timeout(_ASK_SECONDS):
                    client = self._server(place).client
                    ranges = await client.execute_command("CLUSTER", "SLOTS")
            except StoreUnavailable as error:
                failure = error
            except exceptions.ResponseError as error:
                raise StoreMismatch(
                    f"TALLYMESH_STORE_URL: what stands there is no cluster ({error})"
                ) from None
            else:
                if ranges:
                    return [_served(found, place) for found in ranges]
        raise failure

    def _server(self, place: Place) -> Server:
        # Those that serve nothing are kept: one of them may be in use, and may come back.
        if place not in self._servers:
            self._servers[place] = Server(self._address, place)
        return self._servers[place]


def _served(found: list[Any], asked: Place) -> _Served:
    first, last, (host, port, *_), *_ = found
    # A node that does not know under which name it was found tells none.
    return _Served(Place(host.decode() if host else asked.host, port), range(first, last + 1))


def _shuffled(places: Iterable[Place]) -> list[Place]:
    return random.sample(list(places), len(list(places)))


def _sentinel(address: StoreAddress) -> Sentinel:
    options = connection_options(
        address.sentinel_login, timeout=_ASK_SECONDS, connect_timeout=_ASK_SECONDS
    )
    if address.tls is not None:
        options |= {"ssl": True, **address.tls}
    return Sentinel(address.places, sentinel_kwargs=options)  # type: ignore[no-untyped-call]
