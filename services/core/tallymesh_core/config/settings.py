"""Settings that every service has, read from environment variables TALLYMESH_*."""

import re
import socket
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tallymesh_core.config.store_address import parse_address
from tallymesh_core.config.store_conditions import Condition
from tallymesh_core.rpc.channel import split_addresses
from tallymesh_core.rpc.server import is_loopback

_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(:[A-Za-z_]\w*)?", re.ASCII)


class BadSettings(Exception):
    """A setting is missing or out of its bound; the message is one line for a person."""


class ServiceSettings(BaseSettings):
    """What every service needs to know. Each attribute is read from TALLYMESH_<NAME>.

    Attributes:
        node: Name of this process, as people see it. Default: the host's name.
        listen: gRPC addresses to listen on, comma-separated: `127.0.0.1:7001`, `unix:/path`.
        insecure: Allow listening off loopback though calls carry no credentials.
        log_level: Least severe log record shown.
        log_format: `text` for people, `json` for machines.
        drain_grace: Seconds that work under way gets to end at shutdown.
        reflection: Serve gRPC reflection.
    """

    model_config = SettingsConfigDict(env_prefix="TALLYMESH_", extra="ignore")

    node: str = Field(
        default_factory=socket.gethostname, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
    )
    listen: str = ""
    insecure: bool = False
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    drain_grace: float = Field(default=10.0, ge=0, le=3600)
    reflection: bool = True

    @classmethod
    def load(cls, **given: Any) -> Self:
        """Reads the settings from the environment.

        Args:
            given: Settings that stand whatever the environment says.

        Raises:
            BadSettings: One is missing or out of its bound.
        """
        try:
            return cls(**given)
        except ValidationError as error:
            first = error.errors()[0]
            name = "_".join(("TALLYMESH", *(str(part) for part in first["loc"]))).upper()
            said = first["msg"].removeprefix("Value error, ")
            value = first.get("input")
            # A store's address may hold a password.
            secret = first["loc"] == ("store_url",)
            shown = (
                f" (is {value!r})" if isinstance(value, str | int | float) and not secret else ""
            )
            raise BadSettings(f"{name if first['loc'] else 'settings'}: {said}{shown}") from None

    @field_validator("log_level", mode="before")
    @classmethod
    def _fold_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _stay_on_loopback(self) -> Self:
        for address in self.listen_addresses:
            if not self.insecure and not is_loopback(address):
                raise ValueError(
                    f"TALLYMESH_LISTEN: {address} can be reached from other machines, and this "
                    "mesh asks for no credentials; set TALLYMESH_INSECURE=1 to allow it"
                )
        return self

    @property
    def listen_addresses(self) -> tuple[str, ...]:
        """The addresses to listen on."""
        return tuple(split_addresses(self.listen))


class KernelSettings(ServiceSettings):
    """What a service that runs kernels, or plans their work, needs to know besides.

    Attributes:
        kernels: Modules with kernels of one's own, comma-separated, beside those that are installed
            (entry points of the group `tallymesh.kernels`).
    """

    kernels: str = ""

    @field_validator("kernels")
    @classmethod
    def _name_modules(cls, value: str) -> str:
        for name in split_addresses(value):
            if not _MODULE.fullmatch(name):
                raise ValueError(f"{name!r} is not a module such as acme.kernels")
        return value

    @property
    def kernel_modules(self) -> tuple[str, ...]:
        """The modules with kernels of one's own."""
        return tuple(split_addresses(self.kernels))


class StoreSettings(ServiceSettings):
    """What a service that uses the store needs to know besides.

    Attributes:
        store_url: `redis://host:port/db`, `rediss://…` or `unix:///path`; for sentinels
            `redis+sentinel://host:port,host:port/service/db`, for a cluster
            `redis+cluster://host:port,host:port`.
        shards: How many shards a new store is laid out with: 1 to 1,024. An existing store keeps
            its number.
        durability: `everysec` takes the store as it is; `fsync` demands one that writes to disk
            before it answers (appendonly yes, appendfsync always), and refuses to start otherwise.
        store_tolerate: What need not hold of the store, comma-separated: `eviction`, `version`,
            `keys`, `loss`.
    """

    store_url: str = "redis://localhost:6379/0"
    shards: int = Field(default=1, ge=1, le=1024)
    durability: Literal["everysec", "fsync"] = "everysec"
    store_tolerate: str = ""

    @field_validator("store_tolerate")
    @classmethod
    def _know_the_conditions(cls, value: str) -> str:
        names = [condition.value for condition in Condition]
        for name in split_addresses(value):
            if name not in names:
                raise ValueError(f"{name!r} is none of {', '.join(names)}")
        return value

    @property
    def tolerated_conditions(self) -> tuple[Condition, ...]:
        """What need not hold of the store."""
        return tuple(map(Condition, split_addresses(self.store_tolerate)))

    @field_validator("store_url")
    @classmethod
    def _know_the_address(cls, value: str) -> str:
        parse_address(value)
        return value
