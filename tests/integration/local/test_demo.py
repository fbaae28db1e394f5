"""`tallymesh demo`, as it runs where nobody sits at a terminal."""

import signal
import sys
from pathlib import Path

import pytest

from tests.harness.local_mesh import alive, descendants
from tests.harness.polling import eventually_sync
from tests.harness.processes import Process, Processes


def start_demo(processes: Processes, folder: Path) -> Process:
    return processes.start([sys.executable, "-m", "tallymesh", "demo"], env={"TMPDIR": str(folder)})


def test_an_interrupted_demo_leaves_nothing(processes: Processes, folder: Path) -> None:
    demo = start_demo(processes, folder)
    eventually_sync(lambda: "through Envoy" in demo.output(), timeout=45, message="it counting")
    left = descendants(demo.pid)

    demo.signal(signal.SIGINT)

    assert demo.wait(timeout=15) == 1
    eventually_sync(lambda: not any(map(alive, left)), message="every process having ended")
    assert not list(folder.glob("tallymesh-up-*"))
    assert "Traceback" not in demo.output()


@pytest.mark.slow
def test_the_demo_counts_right(processes: Processes, folder: Path) -> None:
    demo = start_demo(processes, folder)
    assert demo.wait(timeout=110) == 0, demo.output()
    said = demo.output()
    assert "455,052,511 primes, as is known" in said
    assert "4,118,054,813 primes, as is known" in said
    assert "Try next" in said
