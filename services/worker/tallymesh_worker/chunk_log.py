"""What a chunk logs: lines of its kernel's, what it prints, the traceback of what it raises."""

import io
import sys
import traceback
from collections import deque
from typing import TYPE_CHECKING, Final

from tallymesh_worker.frames import LOG_BYTES, Page

if TYPE_CHECKING:
    from typing_extensions import Buffer

MAX_LINE_CHARS: Final = 2000
#: The modules that call kernels: of no interest to who wrote one.
_OURS: Final = ("__main__.", "tallymesh_worker.", "tallymesh_kernels.")


class ChunkLog:
    """The last lines of the chunk that runs, also on the page, for when its process dies."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._serial = 0
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._dropped = 0
        self._begun: dict[str, bytes] = {}

    @property
    def is_open(self) -> bool:
        """Whether a chunk runs."""
        return self._serial != 0

    def open(self, serial: int) -> None:
        """Begins the log of a chunk."""
        self._serial = serial

    def close(self) -> bytes:
        """Ends the log, and returns it."""
        for stream, rest in self._begun.items():
            self._append(f"[{stream}] ".encode() + rest)
        self._begun.clear()
        text = self._text()
        if text:
            self._lines.clear()
            self._size = self._dropped = 0
        self._serial = 0
        return text

    def add(self, text: str) -> None:
        """Takes lines of the kernel's own."""
        for line in text.splitlines():
            self._append(line.encode(errors="replace"))

    def print(self, stream: str, data: bytes) -> None:
        """Takes what was printed; a line that is not ended waits for its end."""
        *lines, rest = (self._begun.pop(stream, b"") + data).split(b"\n")
        for line in lines:
            self._append(f"[{stream}] ".encode() + line)
        if rest:
            self._begun[stream] = rest[-LOG_BYTES:]

    def add_traceback(self, error: BaseException) -> None:
        """Takes where in the kernel an exception was raised."""
        trace = error.__traceback__
        while trace and f"{trace.tb_frame.f_globals.get('__name__')}.".startswith(_OURS):
            trace = trace.tb_next
        if trace:
            self.add("".join(traceback.format_exception(type(error), error, trace, limit=-20)))

    def _append(self, line: bytes) -> None:
        line = line[:MAX_LINE_CHARS]
        self._lines.append(line)
        self._size += len(line) + 1
        # Room is left for the line that says how many are left out.
        while self._size > LOG_BYTES - 64:
            self._size -= len(self._lines.popleft()) + 1
            self._dropped += 1
        self._page.keep_log(self._serial, self._text())

    def _text(self) -> bytes:
        left_out = [b"(%d earlier lines are left out)" % self._dropped] if self._dropped else []
        return b"\n".join((*left_out, *self._lines))


class _Stream(io.BufferedIOBase):
    """Standard output or error: a chunk's goes into its log, any other to the worker's."""

    def __init__(self, name: str, log: ChunkLog, descriptor: int) -> None:
        self._name = name
        self._log = log
        self._descriptor = descriptor

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """Of what is beneath, for programs that the kernel starts."""
        return self._descriptor

    def write(self, data: "Buffer") -> int:
        """Takes all of it."""
        taken = bytes(data)
        if self._log.is_open:
            self._log.print(self._name, taken)
        else:
            sys.__stderr__.buffer.write(taken)  # type: ignore[union-attr]
            sys.__stderr__.flush()  # type: ignore[union-attr]
        return len(taken)


def redirect_prints(log: ChunkLog) -> None:
    """Has what is printed from now on go into the log of the chunk that runs."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = _Stream(name, log, descriptor)
        text = io.TextIOWrapper(  # type: ignore[type-var]  # it needs no more than `write`
            stream, "utf-8", "backslashreplace", write_through=True
        )
        setattr(sys, name, text)
