"""What a chunk logs: lines of its kernel's, what it prints, the traceback of what it raises."""

import io
import os
import sys
import traceback
from typing import TYPE_CHECKING, Final

from tallymesh_worker.frames import MAX_LINE_BYTES, Page

if TYPE_CHECKING:
    from typing_extensions import Buffer

#: The modules that call kernels: of no interest to who wrote one.
_OURS: Final = ("__main__.", "tallymesh_worker.", "tallymesh_kernels.")


class ChunkLog:
    """What the chunk that runs logs. It goes to the page, which outlives the process."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._pid = os.getpid()
        self._serial = 0
        self._begun: dict[str, bytes] = {}
        self._streams: dict[str, io.TextIOWrapper] = {}

    @property
    def is_open(self) -> bool:
        """Whether a chunk runs."""
        return self._serial != 0

    def open(self, serial: int) -> None:
        """Begins the log of a chunk."""
        self._serial = serial
        for name, stream in self._streams.items():
            if getattr(sys, name) is not stream:  # the chunk before has not put it back
                setattr(sys, name, stream)

    def close(self) -> bytes:
        """Ends the log, and returns it."""
        if self._begun:
            for stream, rest in self._begun.items():
                self._append(f"[{stream}] ".encode() + rest)
            self._begun.clear()
        text = self._page.logged(self._serial)
        self._serial = 0
        return text

    def redirect_prints(self) -> None:
        """Has what is printed from now on go into the log of the chunk that runs."""
        for name, descriptor in (("stdout", 1), ("stderr", 2)):
            stream = _Stream(name, self, descriptor)
            self._streams[name] = io.TextIOWrapper(
                stream,  # type: ignore[arg-type]  # it needs no more than `write`
                "utf-8",
                "backslashreplace",
                write_through=True,
            )
            setattr(sys, name, self._streams[name])

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
            self._begun[stream] = rest[:MAX_LINE_BYTES]

    def add_traceback(self, error: BaseException) -> None:
        """Takes where in the kernel an exception was raised."""
        trace = error.__traceback__
        while trace and f"{trace.tb_frame.f_globals.get('__name__')}.".startswith(_OURS):
            trace = trace.tb_next
        if trace:
            self.add("".join(traceback.format_exception(type(error), error, trace, limit=-20)))

    def _append(self, line: bytes) -> None:
        if os.getpid() == self._pid:  # the page is shared with what the kernel has forked
            self._page.log(self._serial, line)


class _Stream(io.BufferedIOBase):
    """Standard output or error: a chunk's goes into its log, any other to the worker's."""

    def __init__(self, name: str, log: ChunkLog, descriptor: int) -> None:
        self._name = name
        self._log = log
        self._descriptor = descriptor

    def writable(self) -> bool:
        """It is."""
        return True

    def close(self) -> None:
        """Stays open: a kernel that closes it leaves it as it was for the next."""

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
