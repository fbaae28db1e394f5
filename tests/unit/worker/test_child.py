"""The compute process's own part, in a thread of the test."""

import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

from tallymesh.v1.work_pb2 import Result, Simulate, Work
from tallymesh_kernels import Chunk, Context, Registry
from tallymesh_worker.child import Computer
from tallymesh_worker.frames import LOG_BYTES, MAX_LINE_BYTES, PAGE_BYTES, Order, Page, Report, pack

KEY, ATTEMPT = 1, 1


class SlowFromChunkOne:
    """Chunk 0 ends at once, any other when the test says so."""

    name = "simulate"
    additive = True
    max_chunks = 10

    def __init__(self) -> None:
        self.may_end = threading.Event()

    def validate(self, work: Simulate) -> None:
        pass

    def plan(self, work: Simulate) -> int:
        return 1

    def run(self, work: Simulate, chunk: Chunk, context: Context) -> int:
        while chunk.index > 0 and not self.may_end.wait(0.001):
            context.check()
        return chunk.index

    def merge(self, a: int, b: int) -> int:
        return a + b

    def finish(self, work: Simulate, total: int) -> Result:
        return Result()

    def amount(self, result: Result) -> str:
        return ""


class Child:
    """A computer at the other end of a socket."""

    def __init__(self, kernel: SlowFromChunkOne) -> None:
        self.kernel = kernel
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(10)
        descriptor = os.memfd_create("page")
        os.truncate(descriptor, PAGE_BYTES)
        self.page = Page(descriptor)
        computer = Computer(theirs, Page(descriptor), Registry([kernel]), 0)
        os.close(descriptor)
        self._frames = msgpack.Unpacker(use_list=False)
        self._thread = threading.Thread(target=self._serve, args=(computer, theirs))
        self._thread.start()
        assert self.hear()[0] == Report.READY

    def order(self, *frame: Any) -> None:
        self.socket.sendall(pack(*frame))

    def hear(self) -> tuple[Any, ...]:
        while True:
            for frame in self._frames:
                return tuple(frame)
            self._frames.feed(self.socket.recv(65536))

    def close(self) -> None:
        self.kernel.may_end.set()
        self.socket.shutdown(socket.SHUT_WR)
        self._thread.join()
        self.socket.close()

    @staticmethod
    def _serve(computer: Computer, orders: socket.socket) -> None:
        with orders:
            computer.serve()


@pytest.fixture
def child() -> Iterator[Child]:
    child = Child(SlowFromChunkOne())
    child.order(Order.JOB, KEY, Work(simulate=Simulate()).SerializeToString(), 3, True)
    yield child
    child.close()


def test_a_result_does_not_wait_for_the_end_of_a_long_chunk(child: Child) -> None:
    child.order(Order.RUN, 1, KEY, ATTEMPT, 0, 2)
    kind, serial, values, *_ = child.hear()
    assert (kind, serial, values) == (Report.SUMS, 1, (0,))
    assert child.page.running().serial == 2


def test_times_are_those_of_the_chunks_told_of(child: Child) -> None:
    child.order(Order.RUN, 1, KEY, ATTEMPT, 0, 3)
    _, _, _, _, started, elapsed = child.hear()
    running = child.page.running()
    assert started <= started + elapsed <= running.started
    child.kernel.may_end.set()
    _, serial, values, micros, second, rest = child.hear()
    if len(values) == 1:
        _, _, last, _, third, rest_of_third = child.hear()
        assert (last, third) == ((2,), second + rest)
        rest += rest_of_third
        values += last
    assert (serial, values) == (2, (1, 2))
    assert second == started + elapsed
    assert second + rest >= running.started
    assert len(micros) in (1, 2)


def test_a_page_keeps_the_last_lines_whole() -> None:
    descriptor = os.memfd_create("page")
    os.truncate(descriptor, PAGE_BYTES)
    page = Page(descriptor)
    os.close(descriptor)
    for serial, count, width in ((1, 3, 10), (2, 5000, 7), (3, 200, MAX_LINE_BYTES), (4, 0, 0)):
        lines = [b"%d " % number + b"x" * width for number in range(count)]
        for line in lines:
            page.log(serial, line)
        text = page.logged(serial)
        assert len(text) <= LOG_BYTES
        head, *rest = text.splitlines() or [b""]
        kept = rest if head.startswith(b"(") else [head, *rest][:count]
        assert kept == [line[:MAX_LINE_BYTES] for line in lines[count - len(kept) :]]
        left_out = count - len(kept)
        assert (head == b"(%d earlier lines are left out)" % left_out) == (left_out > 0)
        assert left_out == 0 or len(text) > LOG_BYTES - MAX_LINE_BYTES - 100
    assert page.logged(1) == b""
