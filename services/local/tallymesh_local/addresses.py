"""Network addresses of a local mesh: how they are written, and whether they may be listened on."""

import ipaddress
import os
import socket

from tallymesh_local.errors import CannotStart


def join(host: str, port: int) -> str:
    """Returns `host:port`, an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split(address: str) -> tuple[str, int]:
    """Returns the host and the port of `host:port`."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def reachable(address: str) -> str:
    """Returns an address by which this machine reaches what listens on `address`."""
    if address.startswith("unix:"):
        return address
    host, port = split(address)
    loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
    return join(loopback.get(host, host), port)


def demand_loopback(host: str) -> None:
    """Keeps a mesh without credentials from being open to other machines by accident.

    Raises:
        CannotStart: The host is not an IP address of loopback, and TALLYMESH_INSECURE is not 1.
    """
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise CannotStart(f"--host {host!r} is not an IP address") from None
    if not loopback and os.environ.get("TALLYMESH_INSECURE") != "1":
        raise CannotStart(
            f"--host {host} can be reached from other machines, and this mesh asks for no "
            "credentials; set TALLYMESH_INSECURE=1 to allow it"
        )


def demand_free(address: str) -> None:
    """Checks that an address can be listened on.

    Raises:
        CannotStart: It cannot.
    """
    host, port = split(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen()
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise CannotStart(
                f"cannot listen on {address}: {why}; --port chooses another one"
            ) from error
