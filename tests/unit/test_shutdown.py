"""Background tasks end with their service."""

import asyncio

import pytest

from tallymesh_core.rpc.server import end_tasks


async def test_what_a_task_failed_with_is_told() -> None:
    async def fail() -> None:
        raise ValueError("its own fault")

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    with pytest.raises(ValueError, match="its own fault"):
        await end_tasks([task])
