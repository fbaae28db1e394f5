"""Work that behaves as told."""

import os
import signal
import time
from hashlib import blake2b

from google.protobuf.duration_pb2 import Duration

from tallymesh.v1.work_pb2 import Result, Simulate, SimulateResult
from tallymesh_kernels.kernel import Chunk, ChunkError, Context, Invalid

MAX_SECONDS = 3600
STEP_SECONDS = 0.05

_NANOS = 1_000_000_000


class SimulateKernel:
    """Spends time, fails and crashes as Simulate says. Each chunk counts 1."""

    name = "simulate"
    additive = True
    max_chunks = 1 << 22

    def validate(self, work: Simulate) -> None:
        """Raises Invalid if the duration or a rate is out of its bound."""
        duration = work.duration
        if not (0 <= duration.nanos < _NANOS and 0 <= _seconds(duration) <= MAX_SECONDS):
            raise Invalid("duration", _shown(duration), f"a duration from 0s to {MAX_SECONDS}s")
        for field in ("failure_rate", "crash_rate"):
            rate: float = getattr(work, field)
            if not 0 <= rate <= 1:
                raise Invalid(field, rate, "a number from 0 to 1")

    def plan(self, work: Simulate) -> int:
        """One chunk: the work has no size of its own."""
        return 1

    def run(self, work: Simulate, chunk: Chunk, context: Context) -> int:
        """Spends the duration, then crashes, fails or gives 1."""
        seconds = _seconds(work.duration)
        if seconds:
            _spend(seconds, work, context)
        if work.crash_rate and _draw("crash", work, chunk, context) < work.crash_rate:
            os.kill(os.getpid(), signal.SIGKILL)
        if work.failure_rate and _draw("failure", work, chunk, context) < work.failure_rate:
            raise ChunkError(
                f"simulated failure of chunk {chunk.index} in attempt {context.attempt}"
            )
        return 1

    def merge(self, a: int, b: int) -> int:
        """Counts add up."""
        return a + b

    def finish(self, work: Simulate, total: int) -> Result:
        """The result holds how many chunks were computed."""
        return Result(simulate=SimulateResult(chunks=total))

    def amount(self, result: Result) -> str:
        """How many chunks were computed."""
        return str(result.simulate.chunks)


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / _NANOS


def _shown(duration: Duration) -> str:
    return (
        f"{duration.seconds}s and {duration.nanos}ns" if duration.nanos else f"{duration.seconds}s"
    )


def _spend(seconds: float, work: Simulate, context: Context) -> None:
    begin = time.monotonic()
    spent = 0.0
    while spent < seconds:
        if not work.ignore_cancel:
            context.check()
        context.progress(spent / seconds)
        step_end = begin + min(spent + STEP_SECONDS, seconds)
        if work.busy:
            while time.monotonic() < step_end:
                sum(range(1000))
        else:
            time.sleep(max(0.0, step_end - time.monotonic()))
        spent = time.monotonic() - begin


def _draw(what: str, work: Simulate, chunk: Chunk, context: Context) -> float:
    """A number in [0, 1) that depends on its arguments only, so that a drill can be repeated."""
    drawn = f"{what} {work.seed} {chunk.index} {context.attempt}".encode()
    return int.from_bytes(blake2b(drawn, digest_size=6).digest()) / 2**48
