"""The event loop of a service that answers many calls at once."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")


def run(main: Coroutine[Any, Any, _Result]) -> _Result:
    """Runs a coroutine to its end, as asyncio.run does, on uvloop where that is installed."""
    with asyncio.Runner(loop_factory=_fastest()) as runner:
        return runner.run(main)


def _fastest() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        from uvloop import new_event_loop
    except ImportError:
        return None  # there are no wheels for this interpreter, or it is left out on purpose
    return new_event_loop
