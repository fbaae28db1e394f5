"""On which event loop a service runs."""

import asyncio
import sys

import pytest

from tallymesh_core.rpc.loop import run


async def where() -> str:
    await asyncio.sleep(0)
    return type(asyncio.get_running_loop()).__module__


def test_services_run_on_uvloop() -> None:
    pytest.importorskip("uvloop")
    assert run(where()).startswith("uvloop")


def test_where_uvloop_is_missing_services_run_on_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert run(where()).startswith("asyncio")
