"""Commands about the mesh itself: status, whoami, check-store, drain."""
# ruff: noqa: D301 - \b is click's mark for lines to be left as they stand

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from tallymesh.cli import text
from tallymesh.cli.exits import Exit
from tallymesh.cli.libraries import libraries
from tallymesh.cli.one_by_one import OneByOne
from tallymesh.cli.options import Settings, common_options, pass_settings
from tallymesh.cli.output import write
from tallymesh.wording import counted, duration, seconds_of

if TYPE_CHECKING:
    from tallymesh.v1.mesh_service_pb2 import GetHealthResponse, StoreHealth


@click.command()
@common_options
@pass_settings
def status(settings: Settings) -> Exit:
    """Show how the mesh is: workers, store, jobs. Exit code 0 only if it is healthy.

    \b
    Example:
      tallymesh status -o json | jq .worker_count
    """
    from tallymesh.v1.mesh_service_pb2 import GetHealthResponse

    with settings.connect() as client:
        health = client.health()
    write(settings, health, lambda: _health_page(health))
    return Exit.OK if health.status == GetHealthResponse.STATUS_HEALTHY else Exit.FAILED


@click.command()
@common_options
@pass_settings
def whoami(settings: Settings) -> None:
    """Show who answers, and as whom you are seen.

    \b
    Example:
      tallymesh whoami
    """
    with settings.connect() as client:
        answer = client.whoami()

    def page() -> str:
        return text.pairs(
            [
                ("answered by", f"{answer.answered_by}, version {answer.version}"),
                ("address", client.address),
                ("tenant", answer.tenant),
                ("principal", answer.principal),
                ("seen as", answer.peer),
                ("request id", answer.request_id),
                ("its time", text.clock(answer.time)),
            ]
        )

    write(settings, answer, page)


@click.command("check-store")
@common_options
@pass_settings
def check_store(settings: Settings) -> None:
    """Have the mesh write, read and delete a value in its store.

    \b
    Example:
      tallymesh check-store -o json | jq -r .round_trip
    """
    with settings.connect() as client:
        answer = client.check_store()

    def page() -> str:
        took = duration(seconds_of(answer.round_trip))
        return text.pairs(
            [
                ("round trip", took),
                ("store", _store_line(answer.store)),
                ("answered by", answer.answered_by),
            ]
        )

    write(settings, answer, page)


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="WORKER...")
@common_options
@pass_settings
def drain(settings: Settings, names: tuple[str, ...]) -> Exit:
    """Make workers finish what they compute, hand the rest back and end.

    A WORKER is named as by `tallymesh status`. No attempt of a chunk is spent. What supervises the
    worker may start it again.

    \b
    Example:
      tallymesh drain worker-1
    """
    with settings.connect() as client, OneByOne(settings, "drained", len(names)) as each:

        def tell(name: str) -> None:
            answer = client.drain_worker(name)
            each.write(answer, f"{name} is draining ({', '.join(answer.uids)})")

        for name in names:
            each.make(partial(tell, name))
    return each.exit


def _health_page(health: GetHealthResponse) -> str:
    from tallymesh.v1.mesh_service_pb2 import GetHealthResponse

    name = GetHealthResponse.Status.Name(health.status).removeprefix("STATUS_")
    jobs = health.jobs
    counts = (
        ("pending", jobs.pending),
        ("running", jobs.running),
        ("succeeded", jobs.succeeded),
        ("failed", jobs.failed),
        ("cancelled", jobs.cancelled),
    )
    page = text.pairs(
        [
            ("mesh", text.state(name)),
            *(("problem", problem) for problem in health.problems),
            (
                "workers",
                f"{counted(health.worker_count, 'worker')}, {counted(health.slot_count, 'slot')}",
            ),
            *(("library", line) for line in libraries(health.workers)),
            ("jobs", ", ".join(f"{text.number(count)} {state}" for state, count in counts)),
            ("store", _store_line(health.store)),
            ("answered by", f"{health.answered_by}, version {health.version}"),
        ]
    )
    if not health.workers:
        return page
    rows = [
        (
            live.worker.name,
            str(live.worker.slots),
            text.number(live.chunks_held),
            f"{duration(text.since(live.last_call_time))} ago",
            ",".join(live.worker.queues) or "default",
            ",".join(live.worker.kernels),
            live.worker.version or "-",
            "draining" if live.draining else "ready",
        )
        for live in health.workers
    ]
    headers = ("WORKER", "SLOTS", "HELD", "LAST CALL", "QUEUES", "KERNELS", "VERSION", "STATE")
    return f"{page}\n\n{text.table(headers, rows, right='SLOTS HELD')}"


def _store_line(store: StoreHealth) -> str:
    if not store.connected:
        return "not connected"
    return ", ".join(
        [
            store.server,
            f"round trip {duration(seconds_of(store.latency))}",
            text.size(store.memory_bytes),
            f"{text.number(store.key_count)} keys",
            *([f"{text.number(store.evicted_key_count)} evicted"] * (store.evicted_key_count > 0)),
            f"{text.number(store.commands_per_second)} commands/s",
            counted(store.client_count, "client"),
            f"up {duration(seconds_of(store.uptime))}",
            f"durability {store.durability}",
            counted(store.shard_count, "shard"),
        ]
    )
