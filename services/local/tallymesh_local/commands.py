"""The commands that are added to `tallymesh` here: a whole mesh, and each role by itself."""
# ruff: noqa: D301 - \b is click's mark for lines to be left as they stand

import asyncio
import importlib
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

#: Exit code of a wrong use, and of a mesh that cannot be started as asked.
_USAGE = 2
#: Options of roles that may be given several times; their settings hold lists with commas.
_REPEATABLE = ("kernels",)


def _mesh_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option(
            "--gateways", type=click.IntRange(1, 64), default=1, show_default=True,
            help="Gateway processes.",
        ),
        click.option(
            "--slots", type=click.IntRange(1, 1024), envvar="TALLYMESH_SLOTS",
            help="Chunks a worker computes at a time. Default: the cores, shared by the workers.",
        ),
        click.option(
            "--workers", type=click.IntRange(1, 256), default=2, show_default=True,
            help="Worker processes.",
        ),
    ):  # fmt: skip
        function = option(function)
    return function


def _check_origins(
    context: click.Context, parameter: click.Parameter, origins: tuple[str, ...]
) -> tuple[str, ...]:
    from tallymesh_edge import is_origin

    for origin in origins:
        if not is_origin(origin):
            raise click.BadParameter(
                f"{origin!r} is not https://host or http://host, perhaps with :port"
            )
    return origins


def _one_line_errors(function: Callable[..., int]) -> Callable[..., int]:
    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> int:
        from tallymesh_local.errors import CannotStart

        try:
            return function(*args, **kwargs)
        except CannotStart as error:
            click.echo(f"error: {error}", err=True)
            return _USAGE

    return run


@click.command()
@_mesh_options
@click.option(
    "--abaci",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Abacus processes.",
)
@click.option(
    "--port", type=click.IntRange(1, 65534), default=8080, show_default=True, help="Public port."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="IP address to listen on.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the store's data in this folder; it survives a restart.",
)
@click.option(
    "--durability",
    type=click.Choice(["everysec", "fsync"]),
    envvar="TALLYMESH_DURABILITY",
    default="everysec",
    show_default=True,
    help="With --data: write to disk every second, or before anything is acknowledged.",
)
@click.option("--ephemeral", is_flag=True, help="Keep data in memory only: the default.")
@click.option(
    "--no-edge", is_flag=True, help="Without Envoy: gRPC only, an abacus on the port after."
)
@click.option(
    "--drain-grace",
    type=click.FloatRange(0, 3600),
    envvar="TALLYMESH_DRAIN_GRACE",
    default=3.0,
    show_default=True,
    help="Seconds that workers get to finish their chunks when the mesh stops.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    envvar="TALLYMESH_LOG_LEVEL",
    default="info",
    show_default=True,
    help="Least severe record shown.",
)
@click.option(
    "--allow-origin",
    "origins",
    multiple=True,
    metavar="ORIGIN",
    callback=_check_origins,
    help="Let pages of this origin call the mesh, such as https://app.example; may be repeated.",
)
@click.option(
    "--kernels",
    multiple=True,
    metavar="MODULE",
    help="A module with kernels of your own, for gateways and workers; may be repeated.",
)
@click.option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Once ready, write the address and all process ids to this file, as JSON.",
)
@_one_line_errors
def up(*, ephemeral: bool, no_edge: bool, state: Path | None, **options: Any) -> int:
    """Start a whole mesh on this machine and keep it running.

    What dies is started again. Ctrl-C stops it in order, a second one at once. Off loopback
    (--host) it needs TALLYMESH_INSECURE=1, as calls carry no credentials.

    \b
    Examples:
      tallymesh up
      tallymesh up --workers 4 --slots 2 --data ./mesh-data
      tallymesh up --kernels my_kernels
    """
    if ephemeral and options["data"] is not None:
        raise click.UsageError("--ephemeral and --data exclude each other")
    if options["durability"] == "fsync" and options["data"] is None:
        raise click.UsageError("--durability fsync needs --data")
    from tallymesh_local.plan import MeshOptions
    from tallymesh_local.up import keep_up

    return asyncio.run(keep_up(MeshOptions(edge=not no_edge, **options), state))


@click.command()
@_mesh_options
@click.option("--port", type=click.IntRange(1, 65534), help="Public port. Default: a free one.")
@_one_line_errors
def demo(**options: Any) -> int:
    """Start a mesh, count primes on it, see where the time goes, stop it.

    Counts the primes below 10^10 and below 10^11 through Envoy, and checks both answers.
    """
    from tallymesh_local.demo import run_demo

    return asyncio.run(run_demo(**options))


def _role(*settings: tuple[str, str]) -> Callable[[Callable[[], int]], click.Command]:
    """Makes a command of a role whose options stand for settings in the environment.

    Args:
        settings: Names of settings, and what they are for.
    """

    def make(function: Callable[[], int]) -> click.Command:
        def run(**given: str | tuple[str, ...] | None) -> int:
            for name, value in given.items():
                if value:
                    text = value if isinstance(value, str) else ",".join(value)
                    os.environ[f"TALLYMESH_{name.upper()}"] = text
            return function()

        command: Any = run
        for name, help_text in reversed(settings):
            variable = f"TALLYMESH_{name.upper()}"
            command = click.option(
                f"--{name.replace('_', '-')}",
                name,
                multiple=name in _REPEATABLE,
                help=f"{help_text} [{variable}]",
            )(command)
        return click.command(function.__name__, help=function.__doc__)(command)

    return make


_COMMON = (
    ("node", "Name of this process."),
    ("log_level", "Least severe record logged: debug, info, warning or error."),
)
_LISTEN = ("listen", "gRPC addresses to listen on, separated by commas.")
_STORE = (
    "store_url",
    "The store: redis://host:port/db, unix:///path, redis+sentinel://… or redis+cluster://…",
)
_ABACUS = ("abacus", "gRPC address of the abacus service.")
_KERNELS = ("kernels", "A module with kernels of one's own; may be repeated.")
_WORKER = (
    ("slots", "Chunks computed at a time."),
    ("queues", "Queues to take work from, separated by commas."),
    _KERNELS,
)


@_role(_LISTEN, _STORE, _ABACUS, _KERNELS, *_COMMON)
def gateway() -> int:
    """Run a gateway: the public API and the dispatcher."""
    return _run("gateway")


@_role(("gateway", "gRPC addresses of gateways, separated by commas."), _LISTEN, *_WORKER, *_COMMON)
def worker() -> int:
    """Run a worker: it computes what gateways give it."""
    return _run("worker")


@_role(_LISTEN, _STORE, *_COMMON)
def abacus() -> int:
    """Run an abacus node: it keeps named exact sums."""
    return _run("abacus")


@_role(_LISTEN, _STORE, _ABACUS, *_WORKER, *_COMMON)
def node() -> int:
    """Run a gateway and a worker in one process: the container of which all are alike."""
    from tallymesh_local.node import main

    return main()


def _run(role: str) -> int:
    code: int = importlib.import_module(f"tallymesh_{role}.app").main(())
    return code
