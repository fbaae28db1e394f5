"""The compute process: `python -m tallymesh_worker.child SOCKET PAGE WORKER MEMORY [KERNELS]…`.

It knows nothing of gRPC. It computes what it is told, one chunk after another, until its worker
closes the socket or dies.
"""

import ctypes
import functools
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from tallymesh.v1 import work_pb2
from tallymesh_kernels import (
    AnyKernel,
    Cancelled,
    Chunk,
    ChunkError,
    Function,
    Invalid,
    Registry,
    UnknownKernel,
    checked_fraction,
    describe_libraries,
    usable,
)
from tallymesh_kernels.loading import CannotLoad, load
from tallymesh_worker.chunk_log import ChunkLog
from tallymesh_worker.frames import Order, Page, Report, pack, unpacker

# Results of quick chunks go together, but none waits longer than this for the next one's end.
GROUPING_NS: Final = 5_000_000
RECEIVE_BYTES: Final = 256 * 1024
# As the API bounds a result, a chunk's number and a failure's message.
MAX_RESULT_BYTES: Final = 1024 * 1024
MIN_SUM: Final = -(2**63)
MAX_SUM: Final = 2**63 - 1
MAX_MESSAGE_CHARS: Final = 1024

_PR_SET_PDEATHSIG: Final = 1

_Outcome = TypeVar("_Outcome")


class _Refused(Exception):
    """The work itself is invalid; the message says how."""


# What is said in words of its own, for whoever reads the error.
_TOLD: Final = (ChunkError, Invalid, UnknownKernel, _Refused)


@dataclass(frozen=True, slots=True)
class _Task:
    """A work as this process computes it."""

    kernel: AnyKernel
    message: Any


@dataclass(slots=True)
class _Job:
    """What the worker has told of a job.

    Attributes:
        work: The work as bytes.
        chunk_count: Into how many chunks it is cut.
        additive: Its chunks give numbers, which are summed.
        task: What is made of it as its first chunk runs, or why that cannot be.
    """

    work: bytes
    chunk_count: int
    additive: bool
    task: _Task | _Refused | None = None


class _Context:
    """What a kernel sees of the process that runs it.

    Attributes:
        attempt: Which attempt at the chunk this is.
        serial: Which chunk runs.
        group: Results of chunks before it that have not been reported yet.
    """

    def __init__(self, page: Page, log: ChunkLog) -> None:
        self.attempt = 1
        self.serial = 0
        self.group: _Group | None = None
        self._page = page
        self._log = log

    def progress(self, fraction: float) -> None:
        """Says how far the chunk is, 0 to 1; cheap enough to be called at every step.

        Raises:
            ValueError: It is no such fraction.
        """
        self._page.advance(checked_fraction(fraction))

    def log(self, text: str) -> None:
        """Adds lines to the chunk's log."""
        self._log.add(text)

    def check(self) -> None:
        """Raises Cancelled if the chunk is not wanted any more."""
        if self._page.is_void(self.serial):
            raise Cancelled
        if self.group:
            self.group.report_if_due()


class _Group:
    """Results of consecutive chunks that have not been reported yet."""

    def __init__(self, send: Callable[[bytes], None], serial: int) -> None:
        self._send = send
        self._values: list[int | bytes] = []
        self._micros: list[int] = []
        self._bytes = 0
        self._serial = serial
        self._started = self._ended = time.monotonic_ns()
        self._cpu = time.process_time_ns()

    def add(self, value: int | work_pb2.Result) -> None:
        """Takes the result of the next chunk."""
        if isinstance(value, int):
            if not MIN_SUM <= value <= MAX_SUM:
                raise ChunkError(f"the chunk's number {value} does not fit into 64 bits")
            self._values.append(value)
        else:
            encoded = _encode(value)
            self._values.append(encoded)
            self._bytes += len(encoded)
        cpu = time.process_time_ns()
        self._micros.append((cpu - self._cpu) // 1000)
        self._cpu = cpu
        self._ended = time.monotonic_ns()
        if self._ended - self._started > GROUPING_NS or self._bytes > MAX_RESULT_BYTES:
            self.report()

    def report_if_due(self) -> None:
        """Sends what there is, while the next chunk runs, if it has waited long."""
        if self._values and time.monotonic_ns() - self._started > GROUPING_NS:
            self.report()

    def skip(self) -> None:
        """Takes note that the next chunk has no result."""
        self.report()
        self._serial += 1
        self._started = time.monotonic_ns()
        self._cpu = time.process_time_ns()

    def report(self) -> None:
        """Sends what there is."""
        if self._values:
            kind = Report.SUMS if isinstance(self._values[0], int) else Report.PARTIALS
            wall = self._ended - self._started
            self._send(pack(kind, self._serial, self._values, self._micros, self._started, wall))
            self._serial += len(self._values)
            self._started = self._ended
            self._values, self._micros, self._bytes = [], [], 0


class Computer:
    """Computes what is ordered and reports it."""

    def __init__(
        self,
        orders: socket.socket,
        page: Page,
        registry: Registry,
        memory_limit: int,
        log: ChunkLog | None = None,
    ) -> None:
        """Prepares to compute.

        Args:
            orders: Where orders come from and reports go to.
            page: Shared with the worker.
            registry: The kernels.
            memory_limit: Resident bytes beyond which the process ends after some work, to be
                replaced by a fresh one; 0 for no limit.
            log: Where what is printed goes.
        """
        self._socket = orders
        self._page = page
        self._registry = registry
        self._memory_limit = memory_limit
        self._log = log or ChunkLog(page)
        self._context = _Context(page, self._log)
        self._pid = os.getpid()
        self._jobs: dict[int, _Job] = {}

    def serve(self) -> None:
        """Computes until the worker closes the socket."""
        frames = unpacker()
        self._report(Report.READY, describe_libraries(), self._registry.names())
        while data := self._socket.recv(RECEIVE_BYTES):
            frames.feed(data)
            for frame in frames:
                self._obey(*frame)
                is_work = frame[0] not in (Order.JOB, Order.FORGET)
                if is_work and self._memory_limit and _resident_bytes() > self._memory_limit:
                    return

    def _obey(self, order: int, *arguments: Any) -> None:
        match order:
            case Order.RUN:
                self._run(*arguments)
            case Order.JOB:
                key, *facts = arguments
                self._jobs[key] = _Job(*facts)
            case Order.FORGET:
                del self._jobs[arguments[0]]
            case Order.REDUCE:
                self._reduce(*arguments)
            case Order.WHOLE:
                self._whole(*arguments)
        self._page.rest()

    def _task(self, job: _Job) -> _Task:
        """Returns what there is to compute; to be called while a chunk of it runs.

        What the kernel does as it validates is thus told, bounded and charged like all else that
        it does, its death included.
        """
        if job.task is None:
            job.task = self._alone(lambda: self._read(job))
        if isinstance(job.task, _Refused):
            raise job.task
        return job.task

    def _read(self, job: _Job) -> _Task | _Refused:
        try:
            kernel, message = self._registry.of(work_pb2.Work.FromString(job.work))
            if isinstance(kernel, Function):
                message = kernel.read(message)
            kernel.validate(message)
        except Exception as error:
            return _Refused(_sentence(error))
        if isinstance(kernel, Function) and not job.additive:
            kernel = kernel.unsummed()
        return _Task(kernel, message)

    def _run(self, serial: int, key: int, attempt: int, first: int, count: int) -> None:
        job = self._jobs[key]
        chunk_count = job.chunk_count
        if chunk_count == 1 and not job.additive:
            self._whole(serial, key, attempt)
            return
        page, context = self._page, self._context
        context.attempt = attempt
        context.group = group = _Group(self._socket.sendall, serial)
        for current, index in enumerate(range(first, first + count), serial):
            if page.is_void(current):
                group.skip()
                continue
            page.begin(current, time.monotonic_ns())
            context.serial = current
            self._log.open(current)
            try:
                task, chunk = self._task(job), Chunk(index, chunk_count)
                run = task.kernel.run
                value = self._alone(lambda: run(task.message, chunk, context))  # noqa: B023
                self._report_log(current)
                group.add(value)
            except BaseException as error:
                group.skip()
                self._report_end(current, error)
        group.report()
        context.group = None

    def _whole(self, serial: int, key: int, attempt: int) -> None:
        def compute(task: _Task) -> work_pb2.Result:
            partial = task.kernel.run(task.message, Chunk(0, 1), self._context)
            return task.kernel.finish(task.message, partial)

        self._compute_result(serial, key, attempt, compute)

    def _reduce(self, serial: int, key: int, attempt: int, partials: tuple[bytes, ...]) -> None:
        def compute(task: _Task) -> work_pb2.Result:
            def merge(a: work_pb2.Result, b: work_pb2.Result) -> work_pb2.Result:
                self._context.check()
                merged: work_pb2.Result = task.kernel.merge(a, b)
                return merged

            total = functools.reduce(merge, map(work_pb2.Result.FromString, partials))
            return task.kernel.finish(task.message, total)

        self._compute_result(serial, key, attempt, compute)

    def _compute_result(
        self, serial: int, key: int, attempt: int, compute: Callable[[_Task], work_pb2.Result]
    ) -> None:
        if self._page.is_void(serial):
            return
        cpu, started = time.process_time_ns(), time.monotonic_ns()
        self._page.begin(serial, started)
        self._context.attempt, self._context.serial = attempt, serial
        self._log.open(serial)
        try:
            task = self._task(self._jobs[key])
            result = _encode(self._alone(lambda: compute(task)))
        except BaseException as error:
            self._report_end(serial, error)
        else:
            self._report_log(serial)
            micros = (time.process_time_ns() - cpu) // 1000
            wall = time.monotonic_ns() - started
            self._report(Report.RESULT, serial, result, micros, started, wall)

    def _alone(self, compute: Callable[[], _Outcome]) -> _Outcome:
        """Calls a kernel, and goes on in this process only, whichever it has forked."""
        try:
            return compute()
        finally:
            if os.getpid() != self._pid:
                os._exit(0)

    def _report_end(self, serial: int, error: BaseException) -> None:
        if isinstance(error, Cancelled):
            self._report_log(serial)
            self._report(Report.DROPPED, serial)
            return
        if isinstance(error, _TOLD):
            # While the chunk waits for another attempt, its log alone tells of this one.
            self._log.add(f"failed: {_sentence(error)}")
        else:
            self._log.add_traceback(error)
        self._report_log(serial, failed=True)
        self._report(Report.FAILED, serial, isinstance(error, Invalid | _Refused), _sentence(error))

    def _report_log(self, serial: int, *, failed: bool = False) -> None:
        if text := self._log.close():
            self._report(Report.LOG, serial, text, failed)

    def _report(self, *frame: Any) -> None:
        self._socket.sendall(pack(*frame))


def main(arguments: list[str]) -> None:
    """Serves the worker that started this process."""
    descriptor, page_descriptor, worker, memory_limit = map(int, arguments[:4])
    # Dies with its worker, even when it is deep in a computation that knows nothing of us.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != worker:
        return
    # Ctrl-C on a terminal is for the worker, which drains.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    page = Page(page_descriptor)
    os.close(page_descriptor)
    log = ChunkLog(page)
    # Before kernels are loaded, as their modules may keep what they find: `logging` does.
    log.redirect_prints()
    try:
        registry = usable(load(arguments[4:]))
    except CannotLoad as error:
        sys.exit(f"compute process: {error}")
    gc.freeze()  # what is loaded by now stays: no collection needs to look at it
    with socket.socket(fileno=descriptor) as orders:
        try:
            Computer(orders, page, registry, memory_limit, log).serve()
        except ConnectionError:
            return  # the worker has gone or has given this process up


def _encode(result: work_pb2.Result) -> bytes:
    encoded = result.SerializeToString()
    if len(encoded) > MAX_RESULT_BYTES:
        raise ChunkError(f"the result has {len(encoded)} bytes, more than {MAX_RESULT_BYTES}")
    return encoded


def _sentence(error: BaseException) -> str:
    told = " ".join(_text(error).split())
    if isinstance(error, SystemExit):
        told = f"the kernel called sys.exit({error.code!r})"
    elif not isinstance(error, _TOLD):
        told = f"{type(error).__name__}: {told}" if told else type(error).__name__
    return told if len(told) <= MAX_MESSAGE_CHARS else f"{told[: MAX_MESSAGE_CHARS - 1]}…"


def _text(error: BaseException) -> str:
    """Returns an exception's text, whatever its class makes of it."""
    try:
        return str(error).encode(errors="backslashreplace").decode()
    except Exception as failure:
        return f"(its text cannot be had: {type(failure).__name__})"


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main(sys.argv[1:])
