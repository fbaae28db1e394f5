"""What `tallymesh up` shows: its own words, and each process's log lines under its name."""

import contextlib
import sys
from collections import defaultdict, deque
from typing import TextIO

_COLOURS = (36, 33, 35, 32, 34, 96, 93, 95, 92, 94)
_KEPT_LINES = 20


class Console:
    """Writes lines to a stream, and keeps the last of each process."""

    def __init__(self, stream: TextIO | None = None, *, show_logs: bool = True) -> None:
        """Prepares a console.

        Args:
            stream: Where lines go. Default: standard error.
            show_logs: Show what the processes log; otherwise it is only kept.
        """
        self._stream = stream or sys.stderr
        self._coloured = self._stream.isatty()
        self._show_logs = show_logs
        self._colours: dict[str, int] = {}
        self._tails: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=_KEPT_LINES))

    def say(self, text: str) -> None:
        """Shows a line of the mesh's own."""
        self._write(f"\x1b[1m{text}\x1b[0m" if self._coloured else text)

    def log(self, name: str, line: str) -> None:
        """Takes a line that the process `name` has logged."""
        self._tails[name].append(line)
        if self._show_logs:
            self._write(f"{self._label(name)} {line}")

    def tail(self, name: str) -> str:
        """Returns the last lines of a process."""
        return "\n".join(f"  {line}" for line in self._tails[name])

    def _label(self, name: str) -> str:
        label = f"{name:<10}|"
        if not self._coloured:
            return label
        colour = self._colours.setdefault(name, _COLOURS[len(self._colours) % len(_COLOURS)])
        return f"\x1b[{colour}m{label}\x1b[0m"

    def _write(self, text: str) -> None:
        # Nobody may be left to read, as after `tallymesh up | head`: the mesh goes on.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(f"{text}\n")
            self._stream.flush()
