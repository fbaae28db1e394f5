"""The one way in which a role of the mesh is started, and ends with an exit code."""

import argparse
import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from tallymesh_core import __version__
from tallymesh_core.config.settings import BadSettings, ServiceSettings
from tallymesh_core.rpc.loop import run
from tallymesh_core.rpc.server import CannotListen
from tallymesh_core.telemetry.logging import configure

logger = logging.getLogger(__name__)

Task = Coroutine[Any, Any, None]
Settings = TypeVar("Settings", bound=ServiceSettings)


def run_role(
    role: str,
    about: str,
    settings_type: type[Settings],
    serve: Callable[[Settings], Task],
    *,
    arguments: Sequence[str] | None,
    refusals: tuple[type[Exception], ...] = (),
    runner: Callable[[Task], None] = run,
) -> int:
    """Runs a role by the settings in the environment, and returns the exit code.

    It is 0 after an orderly stop, 1 after a failure of its own, and 2 if it cannot start as asked.

    Args:
        role: Its name.
        about: What it is, as one sentence.
        settings_type: Its settings.
        serve: Runs it until it is stopped.
        arguments: Of its command line; by default those of this process.
        refusals: What `serve` raises if it cannot start as asked, besides what every role does.
        runner: Runs a coroutine to its end.
    """
    refused: tuple[type[Exception], ...] = (BadSettings, CannotListen, *refusals)
    _read_arguments(role, about, settings_type, sys.argv[1:] if arguments is None else arguments)
    try:
        settings = settings_type.load()
        configure(settings.log_level, settings.log_format, settings.node)
        runner(serve(settings))
    except refused as error:
        sys.stderr.write(f"tallymesh {role}: {error}\n")
        return 2
    except asyncio.CancelledError:
        return 1
    except Exception:
        logger.critical("the %s stops: a task of its own failed", role, exc_info=True)
        return 1
    return 0


def _read_arguments(
    role: str, about: str, settings_type: type[ServiceSettings], arguments: Sequence[str]
) -> None:
    """Answers --help and --version, and refuses everything else."""
    name = f"tallymesh-{role}"
    known = "\n".join(f"  TALLYMESH_{field.upper()}" for field in settings_type.model_fields)
    parser = argparse.ArgumentParser(
        prog=name,
        description=about,
        epilog="Its settings are environment variables. What they mean, and their defaults, is in "
        f"docs/configuration.md:\n\n{known}\n\n`tallymesh {role}` takes the usual ones as options.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    _, unknown = parser.parse_known_args(arguments)
    if unknown:
        sys.stderr.write(
            f"{name}: {unknown[0]!r} is no argument of it: its settings are environment variables "
            f"TALLYMESH_*, which {name} --help lists\n"
        )
        raise SystemExit(2)
