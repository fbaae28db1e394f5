"""The harness itself: what every other test stands on."""

import signal
from collections.abc import Callable

import pytest

from tests.harness.polling import eventually, eventually_sync
from tests.harness.processes import Processes
from tests.harness.tools import require
from tests.harness.valkey import ValkeyServer

NewValkey = Callable[..., ValkeyServer]


async def test_eventually_returns_the_first_true_answer() -> None:
    answers = iter([None, 0, "", "ready"])
    assert await eventually(lambda: next(answers), interval=0) == "ready"


async def test_eventually_awaits_and_names_what_did_not_hold() -> None:
    async def refuse() -> bool:
        raise AssertionError("still three left")

    with pytest.raises(AssertionError, match=r"queue empty did not hold within 0\.05 s") as raised:
        await eventually(refuse, timeout=0.05, interval=0.01, message="queue empty")
    assert str(raised.value.__cause__) == "still three left"


def test_eventually_sync_gives_up_at_its_deadline() -> None:
    with pytest.raises(AssertionError, match="did not hold"):
        eventually_sync(lambda: False, timeout=0.02, interval=0.005)


def test_processes_end_with_their_children() -> None:
    with Processes() as processes:
        parent = processes.start(["sh", "-c", "sleep 60 & echo $!; wait"])
        child = int(eventually_sync(parent.output, message="the child's pid"))
    assert not parent.alive
    eventually_sync(lambda: not _runs(child), message="the child's end")


def test_stop_is_a_sigterm(processes: Processes) -> None:
    assert processes.start(["sleep", "60"]).stop() == -signal.SIGTERM


@pytest.mark.parametrize("ci", [False, True])
def test_a_missing_tool_skips_and_fails_in_ci(ci: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true") if ci else monkeypatch.delenv("CI", raising=False)
    expected = pytest.fail.Exception if ci else pytest.skip.Exception
    with pytest.raises(expected, match="no-such-tool is not installed"):
        require("no-such-tool")


def test_each_test_gets_an_empty_store(store_url: str, valkey_server: ValkeyServer) -> None:
    assert store_url == valkey_server.url
    assert valkey_server.execute("DBSIZE") == 0


def test_valkey_with_fsync_keeps_an_acknowledged_write_through_kill(new_valkey: NewValkey) -> None:
    server = new_valkey(fsync=True)
    server.execute("SET", "key", "value")
    server.kill()
    assert not server.alive
    server.restart()
    assert server.execute("GET", "key") == "value"


def test_a_paused_valkey_answers_after_resume(new_valkey: NewValkey) -> None:
    server = new_valkey()
    server.pause()
    server.resume()
    assert server.execute("PING") == "PONG"


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
