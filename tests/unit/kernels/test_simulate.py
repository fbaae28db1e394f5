"""Simulate: it does what it is told, and the same again when asked again."""

import signal
import subprocess
import sys
import time

import pytest
from google.protobuf.duration_pb2 import Duration

from tallymesh.v1.work_pb2 import Simulate
from tallymesh_kernels import Cancelled, Chunk, ChunkError, Invalid
from tallymesh_kernels.simulate import SimulateKernel
from tests.unit.kernels.recording import Recording

KERNEL = SimulateKernel()


def seconds(value: float) -> Duration:
    return Duration(nanos=round(value * 1e9))


def fails(work: Simulate, index: int, attempt: int = 1) -> bool:
    try:
        assert KERNEL.run(work, Chunk(index, 1000), Recording(attempt=attempt)) == 1
    except ChunkError as error:
        assert f"chunk {index} in attempt {attempt}" in str(error)  # noqa: PT017 - or it is fine
        return True
    return False


@pytest.mark.parametrize(
    ("work", "field", "value", "bound"),
    [
        (Simulate(duration=Duration(seconds=3601)), "duration", "3601s", "0s to 3600s"),
        (Simulate(duration=Duration(seconds=-1)), "duration", "-1s", "0s to 3600s"),
        (Simulate(duration=Duration(seconds=3600, nanos=1)), "duration", "3600s", "0s to 3600s"),
        (Simulate(duration=Duration(nanos=-1)), "duration", "-1ns", "0s to 3600s"),
        (Simulate(duration=Duration(nanos=10**9)), "duration", "1000000000ns", "0s to 3600s"),
        (Simulate(failure_rate=1.5), "failure_rate", "1.5", "from 0 to 1"),
        (Simulate(failure_rate=-0.1), "failure_rate", "-0.1", "from 0 to 1"),
        (Simulate(crash_rate=float("nan")), "crash_rate", "nan", "from 0 to 1"),
        (Simulate(crash_rate=float("inf")), "crash_rate", "inf", "from 0 to 1"),
    ],
)
def test_what_is_out_of_bounds_is_refused(
    work: Simulate, field: str, value: str, bound: str
) -> None:
    with pytest.raises(Invalid) as refusal:
        KERNEL.validate(work)
    assert refusal.value.field == field
    assert value in refusal.value.value
    assert bound in refusal.value.bound


def test_the_bounds_themselves_are_valid() -> None:
    KERNEL.validate(Simulate())
    KERNEL.validate(Simulate(duration=Duration(seconds=3600), failure_rate=1, crash_rate=1))


def test_each_chunk_counts_one() -> None:
    assert KERNEL.plan(Simulate()) == 1
    total = 0
    for index in range(5):
        total = KERNEL.merge(total, KERNEL.run(Simulate(), Chunk(index, 5), Recording()))
    result = KERNEL.finish(Simulate(), total)
    assert result.simulate.chunks == 5
    assert KERNEL.amount(result) == "5"


def test_failures_are_drawn_from_seed_chunk_and_attempt() -> None:
    work = Simulate(failure_rate=0.3, seed=7)
    drawn = [fails(work, index) for index in range(1000)]
    assert drawn == [fails(work, index) for index in range(1000)]
    assert 250 < sum(drawn) < 350
    assert drawn != [fails(work, index, attempt=2) for index in range(1000)]
    assert drawn != [fails(Simulate(failure_rate=0.3, seed=8), index) for index in range(1000)]


def test_rates_of_none_and_all() -> None:
    assert not any(fails(Simulate(failure_rate=0), index) for index in range(100))
    assert all(fails(Simulate(failure_rate=1), index) for index in range(100))


def test_a_crash_kills_the_process() -> None:
    script = (
        "from tallymesh.v1.work_pb2 import Simulate\n"
        "from tallymesh_kernels import Chunk\n"
        "from tallymesh_kernels.simulate import SimulateKernel\n"
        "from tests.unit.kernels.recording import Recording\n"
        "SimulateKernel().run(Simulate(crash_rate=1), Chunk(0, 1), Recording())\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL


def test_time_is_spent_and_told() -> None:
    context = Recording()
    begin = time.monotonic()
    KERNEL.run(Simulate(duration=seconds(0.2)), Chunk(0, 1), context)
    assert time.monotonic() - begin >= 0.2
    assert context.checks >= 2
    assert context.fractions == sorted(context.fractions)
    assert 0 <= context.fractions[0] < context.fractions[-1] < 1


def test_busy_time_is_computing_time() -> None:
    used = {}
    for busy in (False, True):
        begin = time.thread_time()
        KERNEL.run(Simulate(duration=seconds(0.1), busy=busy), Chunk(0, 1), Recording())
        used[busy] = time.thread_time() - begin
    assert used[True] > 2 * used[False]


@pytest.mark.parametrize("busy", [False, True])
def test_cancel_stops_at_once(busy: bool) -> None:
    begin = time.monotonic()
    with pytest.raises(Cancelled):
        KERNEL.run(
            Simulate(duration=Duration(seconds=60), busy=busy),
            Chunk(0, 1),
            Recording(cancel_at=2),
        )
    assert time.monotonic() - begin < 5


def test_cancel_can_be_ignored() -> None:
    context = Recording(cancel_at=1)
    work = Simulate(duration=seconds(0.1), ignore_cancel=True)
    assert KERNEL.run(work, Chunk(0, 1), context) == 1
    assert context.checks == 0
