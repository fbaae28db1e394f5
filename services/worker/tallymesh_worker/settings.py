"""Settings of the worker."""

import os
import re
import socket
import uuid
from typing import Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from tallymesh_core.config.settings import KernelSettings
from tallymesh_core.rpc.channel import (
    WORKER_ADDRESS_FORMS,
    is_worker_address,
    split_addresses,
)

_QUEUE = re.compile(r"[a-z][a-z0-9-]{0,62}")
_MAX_QUEUES = 64


def _default_node() -> str:
    """A name of its own for each worker of a host, as the mesh takes it."""
    host = re.sub(r"[^a-z0-9.-]", "-", socket.gethostname().lower()).lstrip(".-")
    return f"{host[:54] or 'worker'}-{uuid.uuid4().hex[:6]}"


class WorkerSettings(KernelSettings):
    """What a worker needs to know.

    Attributes:
        node: As the mesh shows it. Default: the host's name and six random characters.
        uid: By which the mesh knows this start of the process: never to be used for another.
            Default: a fresh UUID.
        advertise: gRPC target by which gateways reach this worker's own service. Default: the first
            that it listens on, with the host's name where that is any address of the host.
        gateway: Addresses of gateways, comma-separated; any of them will do.
        slots: How many chunks are computed at once: 1 to 1,024. Default: one for each core.
        queues: The queues to take chunks from, comma-separated; at most 64.
        child_memory_mib: A compute process that uses more memory is replaced between two batches
            of chunks, in MiB; 0 for no limit.
    """

    model_config = SettingsConfigDict(env_ignore_empty=True)

    node: str = Field(default_factory=_default_node, pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")
    uid: str = Field(default_factory=lambda: str(uuid.uuid4()), pattern=r"^[A-Za-z0-9-]{8,64}$")
    advertise: str = ""
    gateway: str = "127.0.0.1:7101"
    slots: int = Field(default_factory=lambda: len(os.sched_getaffinity(0)), ge=1, le=1024)
    queues: str = "default"
    child_memory_mib: int = Field(default=0, ge=0)

    @field_validator("gateway")
    @classmethod
    def _name_a_gateway(cls, value: str) -> str:
        if not split_addresses(value):
            raise ValueError("must name at least one gateway")
        return value

    @field_validator("queues")
    @classmethod
    def _name_queues(cls, value: str) -> str:
        names = split_addresses(value)
        if not 1 <= len(names) <= _MAX_QUEUES:
            raise ValueError(f"must name 1 to {_MAX_QUEUES} queues")
        for name in names:
            if not _QUEUE.fullmatch(name):
                raise ValueError(
                    f"{name!r} is not 1 to 63 characters of [a-z0-9-], starting with a letter"
                )
        return value

    @model_validator(mode="after")
    def _advertise_what_gateways_take(self) -> Self:
        address = self.advertised_address
        if address and not is_worker_address(address):
            raise ValueError(
                f"TALLYMESH_ADVERTISE: gateways would not take {address}: it must be "
                f"{WORKER_ADDRESS_FORMS}"
            )
        return self

    @property
    def advertised_address(self) -> str:
        """Where gateways reach this worker's own service; empty if it has none."""
        listens = next(iter(self.listen_addresses), "")
        if self.advertise or not listens or listens.startswith("unix:"):
            return self.advertise or listens
        host, _, port = listens.rpartition(":")
        return f"{socket.gethostname()}:{port}" if host in ("0.0.0.0", "[::]") else listens  # noqa: S104

    @property
    def gateway_addresses(self) -> tuple[str, ...]:
        """The addresses of the gateways."""
        return tuple(split_addresses(self.gateway))

    @property
    def queue_names(self) -> tuple[str, ...]:
        """The queues to take chunks from."""
        return tuple(split_addresses(self.queues))
