"""Background tasks end with their service, also where a cancel comes to nothing."""

import asyncio
import contextlib

import pytest

from tallymesh_core.rpc import server
from tallymesh_core.rpc.server import end_tasks


async def test_a_task_that_swallows_a_cancel_ends_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "_AGAIN_SECONDS", 0.01)
    swallowed = []

    async def stubborn() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        swallowed.append(True)
        await asyncio.Event().wait()

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)  # so that it waits
    await asyncio.wait_for(end_tasks([task]), 10)
    assert task.cancelled()
    assert swallowed


async def test_what_a_task_failed_with_is_told() -> None:
    async def fail() -> None:
        raise ValueError("its own fault")

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    with pytest.raises(ValueError, match="its own fault"):
        await end_tasks([task])
