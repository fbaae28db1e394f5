"""What the driver's errors mean to those who use the store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis import exceptions

from tallymesh_core.domain.errors import StoreUnavailable

#: Errors that say: not now, or not here. After each of them the command has not run, or its outcome
#: is unknown.
_PASSING = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    OSError,
    exceptions.ClusterDownError,
    exceptions.AskError,
    exceptions.TryAgainError,
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
)
#: Others of that sort, for which the driver has no class.
_PASSING_CODES = ("BUSY", "MISCONF", "NOREPLICAS", "UNBLOCKED")


class StoreMismatch(Exception):
    """The store cannot be used as configured; the message is one line for a person."""


def unavailable(error: Exception) -> StoreUnavailable | None:
    """Returns what to tell if an error means that the store cannot serve now, else None."""
    if not isinstance(error, _PASSING) and not str(error).startswith(_PASSING_CODES):
        return None
    told = StoreUnavailable()
    told.__cause__ = error
    return told


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Turns the driver's errors that pass into StoreUnavailable, and keeps cancels from being lost.

    The driver waits by asyncio.wait_for, which up to Python 3.11 forgets a cancel that comes as the
    wait ends; so a task that was cancelled in the body ends here.
    """
    task = asyncio.current_task()
    assert task is not None
    cancels = task.cancelling()
    try:
        yield
    except (exceptions.RedisError, OSError) as error:
        told = unavailable(error)
        if told:
            raise told from error
        raise
    finally:
        if task.cancelling() > cancels:
            raise asyncio.CancelledError
