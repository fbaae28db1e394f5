"""Waiting for what happens elsewhere: poll until it holds, with a deadline; never just sleep."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

Value = TypeVar("Value")


@overload
async def eventually(
    check: Callable[[], Awaitable[Value]],
    *,
    timeout: float = ...,
    interval: float = ...,
    message: str = ...,
) -> Value: ...
@overload
async def eventually(
    check: Callable[[], Value],
    *,
    timeout: float = ...,
    interval: float = ...,
    message: str = ...,
) -> Value: ...
async def eventually(
    check: Callable[[], object],
    *,
    timeout: float = 10.0,
    interval: float = 0.02,
    message: str = "",
) -> object:
    """Calls `check` (plain or async) until it answers something true, and returns that.

    An AssertionError inside `check` counts as "not yet"; the last one is the cause of the failure.

    Raises:
        AssertionError: `check` did not hold within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        value: object = None
        failure: AssertionError | None = None
        try:
            answer = check()
            value = await answer if inspect.isawaitable(answer) else answer
        except AssertionError as error:
            failure = error
        if value:
            return value
        if time.monotonic() >= deadline:
            raise _expired(timeout, message, value) from failure
        await asyncio.sleep(interval)


def eventually_sync(
    check: Callable[[], Value],
    *,
    timeout: float = 10.0,
    interval: float = 0.02,
    message: str = "",
) -> Value:
    """The blocking twin of `eventually`, for tests and fixtures without an event loop."""
    deadline = time.monotonic() + timeout
    while True:
        value: Value | None = None
        failure: AssertionError | None = None
        try:
            value = check()
        except AssertionError as error:
            failure = error
        if value:
            return value
        if time.monotonic() >= deadline:
            raise _expired(timeout, message, value) from failure
        time.sleep(interval)


def _expired(timeout: float, message: str, value: object) -> AssertionError:
    return AssertionError(f"{message or 'it'} did not hold within {timeout:g} s (last: {value!r})")
