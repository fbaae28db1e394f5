"""Where a store is: what TALLYMESH_STORE_URL says, read without connecting to anything."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

_FORMS = (
    "redis://host:port/db, rediss://… (TLS), unix:///path, "
    "redis+sentinel://host:port,host:port/service/db or redis+cluster://host:port,host:port"
)
_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(\d*))?")
_MAX_PORT = 65535
_MAX_DB = 1_000_000

_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TLS_CHOICES = {
    "ssl_cert_reqs": ("required", "optional", "none"),
    "ssl_check_hostname": ("true", "false"),
}
_SENTINEL_LOGIN = ("sentinel_username", "sentinel_password")


class Kind(Enum):
    """What stands at an address."""

    SERVER = "server"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


_DEFAULT_PORTS = {Kind.SERVER: 6379, Kind.SENTINEL: 26379, Kind.CLUSTER: 6379}


class Place(NamedTuple):
    """Where a server listens: a host and a port, or a socket's path and 0."""

    host: str
    port: int


class Login(NamedTuple):
    """By which name and password a server is entered; "" where there is none."""

    username: str = ""
    password: str = ""


class BadAddress(ValueError):
    """The URL cannot be used; the message is one line for a person.

    It quotes no part of the URL: a password whose characters are not escaped may end up in any.
    """


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """Where a store is, and how it is entered.

    Attributes:
        kind: What stands there.
        places: The server; or sentinels, or nodes of a cluster, of which one that answers will do.
        login: Of the servers.
        db: Number of the database.
        service: The name under which sentinels know the store.
        sentinel_login: Of the sentinels.
        tls: Options of TLS, by the driver's names, or None to speak without it.
    """

    kind: Kind
    places: tuple[Place, ...]
    login: Login = field(default=Login(), repr=False)
    db: int = 0
    service: str = ""
    sentinel_login: Login = field(default=Login(), repr=False)
    tls: Mapping[str, str | bool] | None = None


def parse_address(url: str) -> StoreAddress:
    """Reads the URL of a store.

    Raises:
        BadAddress: It cannot be used.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = SplitResult("", "", "", "", "")
    if re.search(r"\s", url) or parts.fragment:
        raise BadAddress("holds a blank or a # that is not escaped (%20, %23)")
    scheme, _, kind = parts.scheme.partition("+")
    if parts.scheme == "unix":
        return _socket(parts)
    if scheme not in ("redis", "rediss") or kind not in ("", "sentinel", "cluster"):
        raise BadAddress(f"must be {_FORMS}")
    return _network(parts, Kind(kind or "server"), tls=scheme == "rediss")


def _socket(parts: SplitResult) -> StoreAddress:
    options = _options(parts, ("db",))
    login, host = _login(parts)
    if host or not parts.path.strip("/"):
        raise BadAddress("must be unix:///path, with the whole path of a socket")
    return StoreAddress(
        Kind.SERVER, (Place(unquote(parts.path), 0),), login, db=_db(options.get("db", ""))
    )


def _network(parts: SplitResult, kind: Kind, *, tls: bool) -> StoreAddress:
    known = (*_TLS_FILES, *_TLS_CHOICES) if tls else ()
    if kind is Kind.SENTINEL:
        known += _SENTINEL_LOGIN
    options = _options(parts, known)
    login, hosts = _login(parts)
    service, db = "", parts.path.removeprefix("/")
    if kind is Kind.SENTINEL:
        service, _, db = db.partition("/")
        if not service:
            raise BadAddress("names no service: redis+sentinel://host:port/service")
    if kind is Kind.CLUSTER and db:
        raise BadAddress("a cluster has no databases: redis+cluster://host:port,host:port")
    places = tuple(_place(host, _DEFAULT_PORTS[kind]) for host in hosts.split(","))
    if kind is Kind.SERVER and len(places) > 1:
        raise BadAddress("several hosts are for redis+sentinel:// and redis+cluster:// only")
    return StoreAddress(
        kind,
        places,
        login,
        db=_db(db),
        service=unquote(service),
        sentinel_login=Login(*(options.get(name, "") for name in _SENTINEL_LOGIN)),
        tls=_tls(options) if tls else None,
    )


def _login(parts: SplitResult) -> tuple[Login, str]:
    """Returns who enters, and the rest of what stands between `//` and `/`."""
    given, _, hosts = parts.netloc.rpartition("@")
    username, _, password = given.partition(":")
    return Login(unquote(username), unquote(password)), hosts


def _place(host: str, default_port: int) -> Place:
    found = _HOST.fullmatch(host)
    if not found:
        raise BadAddress(
            "a host is missing or cannot be read; in a password, characters other than letters and"
            " digits are escaped (%2F for /)"
        )
    port = int(found[2] or default_port)
    if not 1 <= port <= _MAX_PORT:
        raise BadAddress(f"a port is not a number from 1 to {_MAX_PORT}")
    return Place(found[1].strip("[]"), port)


def _db(text: str) -> int:
    if text and not (text.isascii() and text.isdigit() and int(text) <= _MAX_DB):
        raise BadAddress(f"the database is not a number from 0 to {_MAX_DB}")
    return int(text or 0)


def _options(parts: SplitResult, known: tuple[str, ...]) -> dict[str, str]:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if not options.keys() <= set(known):
        there_are = f"there are {', '.join(known)}" if known else "there are none"
        raise BadAddress(f"has an option that {parts.scheme}:// does not know; {there_are}")
    return options


def _tls(options: Mapping[str, str]) -> dict[str, str | bool]:
    tls: dict[str, str | bool] = {}
    for name in _TLS_FILES:
        if name in options:
            if not Path(options[name]).is_file():
                raise BadAddress(f"{name} names no file")
            tls[name] = options[name]
    for name, choices in _TLS_CHOICES.items():
        if name in options:
            if options[name] not in choices:
                raise BadAddress(f"{name} is none of {', '.join(choices)}")
            tls[name] = options[name]
    if "ssl_check_hostname" in tls:
        tls["ssl_check_hostname"] = tls["ssl_check_hostname"] == "true"
    return tls
