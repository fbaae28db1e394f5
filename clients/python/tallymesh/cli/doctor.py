"""The command that looks at everything between here and the workers, and says what to do."""
# ruff: noqa: D301 - \b is click's mark for lines to be left as they stand

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

import click

from tallymesh.address import choose_address, parse_address
from tallymesh.cli.exits import Exit
from tallymesh.cli.libraries import libraries
from tallymesh.cli.options import Settings, common_options, pass_settings
from tallymesh.cli.output import write_data
from tallymesh.errors import InvalidField, TallymeshError
from tallymesh.wording import counted, duration, seconds_of

if TYPE_CHECKING:
    from tallymesh.client import Client
    from tallymesh.v1.mesh_service_pb2 import GetHealthResponse

# A healthy round trip to the store takes under a millisecond on one machine, a few in one network.
_SLOW_STORE_SECONDS = 0.05
# Ids tell their time; the mesh's own clock decides all else.
_SKEW_SECONDS = 5.0
_CONNECT_SECONDS = 3.0
_MARKS = {"ok": "green", "warn": "yellow", "fail": "red"}


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        check: What was looked at.
        status: "ok", "warn" (works, but look at it) or "fail".
        detail: What was seen.
        advice: What to do about it, if anything is to be done.
    """

    check: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    advice: str = ""


@click.command()
@common_options
@pass_settings
def doctor(settings: Settings) -> Exit:
    """Check everything from here to the workers, and say what to do.

    Exit code 0 if nothing fails (warnings do not count), 1 if something does, 5 if nobody answers.

    \b
    Examples:
      tallymesh doctor
      tallymesh doctor --address mesh.example:8080
      tallymesh doctor -o jsonl | jq -r 'select(.status == "fail") | .advice'
    """
    findings: list[Finding] = []
    for finding in _examine(settings):
        findings.append(finding)
        if settings.output in ("table", "jsonl"):
            write_data(settings, vars(finding), partial(_line, finding))
    if settings.output == "json":
        write_data(settings, {"findings": [vars(one) for one in findings]}, str)
    failed = [one.check for one in findings if one.status == "fail"]
    if {"address", "gateway"}.intersection(failed):
        return Exit.UNREACHABLE
    return Exit.FAILED if failed else Exit.OK


def _line(finding: Finding) -> str:
    mark = click.style(finding.status.ljust(4), fg=_MARKS[finding.status])
    advice = f"\n      {finding.advice}" if finding.advice else ""
    return f"{mark}  {finding.check}: {finding.detail}{advice}"


def _examine(settings: Settings) -> Iterator[Finding]:
    address = choose_address(settings.address)
    yield Finding("profile", "ok", f"{settings.profile}, in {settings.profiles.path}")
    try:
        target = parse_address(address)
    except InvalidField as error:
        yield Finding("address", "fail", error.message, "give one by --address")
        return
    is_secure = target.tls or settings.ca is not None
    (first, *others) = target.servers
    if not others and not first.startswith("unix:"):
        found = _connect(first)
        yield found
        if found.status == "fail":
            return
        found = _edge(first, settings.ca, is_secure)
        yield found
        if found.check == "TLS":
            return
    else:
        yield Finding("address", "ok", address)
    yield _transport(target.local, is_secure)
    try:
        with settings.connect() as client:
            yield from _mesh(client)
    except TallymeshError as error:
        yield Finding("gateway", "fail", error.message, "see the logs of gateway and edge")


def _connect(name: str) -> Finding:
    host, _, port = name.rpartition(":")
    began = time.monotonic()
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS):
            took = duration(time.monotonic() - began)
    except socket.gaierror as error:
        return Finding(
            "address",
            "fail",
            f"{host} is no known name ({error.strerror})",
            "look at the name, or at your DNS",
        )
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        return Finding(
            "address",
            "fail",
            f"nobody listens at {name} ({why})",
            "start a mesh with: tallymesh up",
        )
    return Finding("address", "ok", f"{name} takes connections, in {took}")


def _edge(name: str, ca: str | None, is_secure: bool) -> Finding:
    connection = HTTPConnection(name, timeout=_CONNECT_SECONDS)
    if is_secure:
        connection = HTTPSConnection(name, timeout=_CONNECT_SECONDS, context=_trusted(ca))
    try:
        connection.request("GET", "/v1/whoami", headers={"accept": "application/json"})
        answer = connection.getresponse()
        server = answer.headers.get("server", "")
        is_edge = server == "tallymesh-edge"
        if answer.status == 200 and is_edge:
            return Finding("edge", "ok", "Envoy serves REST, grpc-web and the page")
        if is_edge:
            advice = "start a gateway, or see why Envoy does not reach it"
            return Finding("edge", "fail", f"Envoy answers {answer.status} to REST", advice)
        return Finding(
            "edge",
            "warn",
            f"REST is answered by {server or 'something'} that is not the edge",
            "check the port",
        )
    except ssl.SSLError as error:
        return Finding(
            "TLS",
            "fail",
            f"no handshake with {name} ({error.reason or error})",
            "trust its authority by --ca FILE, or leave https:// out",
        )
    except (OSError, HTTPException):
        if not is_secure and _speaks_tls(name):
            advice = f"ask for it: --address https://{name}"
            return Finding("TLS", "fail", f"{name} speaks nothing but TLS", advice)
        return Finding(
            "edge",
            "warn",
            "no REST here: a service's own port",
            "the page, REST and grpc-web need the edge",
        )
    finally:
        connection.close()


def _trusted(ca: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca)
    # Since Python 3.13 certificates are held to all of RFC 5280; gRPC accepts others, too.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _speaks_tls(name: str) -> bool:
    host, _, port = name.rpartition(":")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS) as plain:
            plain.settimeout(_CONNECT_SECONDS)
            context.wrap_socket(plain).close()
    except OSError:
        return False
    return True


def _transport(is_local: bool, is_secure: bool) -> Finding:
    if is_secure:
        return Finding("TLS", "ok", "spoken, and the certificate is trusted")
    if is_local:
        return Finding("TLS", "ok", "none, and none is needed on this machine")
    advice = "use https://, a tunnel (ssh -L) or a private network"
    return Finding("TLS", "warn", "none: others on the way can read along", advice)


def _mesh(client: Client) -> Iterator[Finding]:
    began = time.time()
    me = client.whoami()
    ended = time.time()
    took = duration(ended - began)
    yield Finding("gateway", "ok", f"{me.answered_by} answers gRPC, in {took}")
    yield _versions(me.version)
    skew = me.time.seconds + me.time.nanos / 1e9 - (began + ended) / 2
    yield _clock(skew, (ended - began) / 2)
    for look in (_store, _abacus):
        yield _attempt(look, client)
    health = client.health()
    yield from _fleet(health)
    yield from (Finding("library", "ok", line) for line in libraries(health.workers))
    yield _attempt(_dead_letters, client)


def _attempt(look: Callable[[Client], Finding], client: Client) -> Finding:
    try:
        return look(client)
    except TallymeshError as error:
        name = look.__name__.strip("_").replace("_", " ")
        return Finding(name, "fail", error.message, "see the logs of the service and of the store")


def _versions(of_mesh: str) -> Finding:
    own = version("tallymesh-client")
    if of_mesh.split(".")[:2] == own.split(".")[:2]:
        return Finding("versions", "ok", f"client {own}, mesh {of_mesh}")
    detail = f"client {own}, mesh {of_mesh}"
    return Finding("versions", "warn", detail, "install the same minor version on both sides")


def _clock(skew: float, uncertainty: float) -> Finding:
    away = abs(skew) - uncertainty
    if away <= _SKEW_SECONDS:
        return Finding("clock", "ok", f"within {duration(max(abs(skew), 0.001))} of the mesh")
    side = "ahead of" if skew < 0 else "behind"
    return Finding(
        "clock",
        "warn",
        f"{duration(abs(skew))} {side} the mesh",
        "set it: ids that seem too old are refused",
    )


def _store(client: Client) -> Finding:
    answer = client.check_store()
    seconds = seconds_of(answer.round_trip)
    store = answer.store
    detail = f"{store.server}, {duration(seconds)}, durability {store.durability}"
    if store.problems:
        return Finding("store", "fail", "; ".join(store.problems), f"it is {detail}")
    if seconds > _SLOW_STORE_SECONDS:
        return Finding(
            "store", "warn", f"slow: {detail}", "see its load, its disk and the way to it"
        )
    return Finding("store", "ok", detail)


def _abacus(client: Client) -> Finding:
    next(client.abaci(page_size=1), None)
    return Finding("abacus", "ok", "answers")


def _fleet(health: GetHealthResponse) -> Iterator[Finding]:
    workers = health.workers
    if not workers:
        yield Finding(
            "workers", "fail", "none is alive: jobs wait", "start one with: tallymesh worker"
        )
        return
    slots = counted(health.slot_count, "slot")
    ready = [one for one in workers if not one.draining]
    detail = f"{counted(len(workers), 'worker')}, {slots}"
    if not ready:
        yield Finding("workers", "fail", f"{detail}, all of them leaving", "start others")
        return
    odd = sorted({one.worker.version or "unknown" for one in workers} - {health.version})
    if odd:
        detail = f"{detail}; versions {', '.join(odd)} beside the mesh's {health.version}"
        yield Finding("workers", "warn", detail, "bring them up to date")
        return
    yield Finding("workers", "ok", detail)


def _dead_letters(client: Client) -> Finding:
    groups = list(client.dead_letters.groups())
    count = sum(group.count for group in groups)
    if not count:
        return Finding("dead letters", "ok", "none")
    detail = f"{counted(count, 'chunk')} given up, of {counted(len(groups), 'kind')}"
    return Finding("dead letters", "warn", detail, "see: tallymesh dlq list")
