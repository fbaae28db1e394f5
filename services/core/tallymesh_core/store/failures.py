"""What the driver's errors mean to those who use the store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis import exceptions

from tallymesh_core.domain.errors import DomainError, StoreFull, StoreUnavailable

#: Errors of the connection.
_LOST = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)
#: Answers that say: not now, or not here. After each of them the command has not run.
_REFUSED = (
    exceptions.ClusterDownError,
    exceptions.AskError,
    exceptions.TryAgainError,
    exceptions.ReadOnlyError,
    exceptions.NoPermissionError,
)
#: Others of that sort, for which the driver has no class.
_REFUSED_CODES = ("BUSY", "MISCONF", "NOREPLICAS", "UNBLOCKED")


class StoreMismatch(Exception):
    """The store cannot be used as configured; the message is one line for a person."""


def is_refused_login(error: BaseException | None) -> bool:
    """Tells whether an error means that user or password are wrong, missing, or too many."""
    # The driver wraps what goes wrong while it connects.
    causes = (error, error.__cause__ if error else None)
    return any(isinstance(one, exceptions.AuthenticationError) for one in causes)


def domain_error(error: Exception) -> DomainError | None:
    """Returns what to tell if an error means that the store cannot do this now, else None."""
    told: DomainError
    if isinstance(error, exceptions.OutOfMemoryError):
        told = StoreFull(f"OOM {error}".partition(" script: ")[0])
    elif isinstance(error, exceptions.RedisError) and is_refused_login(error):
        told = StoreUnavailable(f"the store refuses the login: {error}")
    elif isinstance(error, _LOST):
        told = StoreUnavailable()
    elif isinstance(error, _REFUSED) or str(error).startswith(_REFUSED_CODES):
        told = StoreUnavailable(f"the store does not serve: {error}")
    else:
        return None
    told.__cause__ = error
    return told


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Turns the driver's errors that pass into domain errors, and keeps cancels from being lost.

    The driver waits by asyncio.wait_for, which up to Python 3.11 forgets a cancel that comes as the
    wait ends; so a task that was cancelled in the body ends here.
    """
    task = asyncio.current_task()
    assert task is not None
    cancels = task.cancelling()
    try:
        yield
    except (exceptions.RedisError, OSError) as error:
        told = domain_error(error)
        if told:
            raise told from error
        raise
    finally:
        if task.cancelling() > cancels:
            raise asyncio.CancelledError
