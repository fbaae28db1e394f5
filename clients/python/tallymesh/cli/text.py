"""Text for people: tables, times, numbers. Plain where it is piped."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from tallymesh.cli.options import Settings
from tallymesh.wording import duration

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

_STATE_COLORS = {
    "PENDING": "yellow",
    "RUNNING": "cyan",
    "RETRYING": "yellow",
    "SUCCEEDED": "green",
    "DONE": "green",
    "HEALTHY": "green",
    "DEGRADED": "yellow",
    "FAILED": "red",
    "UNHEALTHY": "red",
    "CANCELLED": "magenta",
}


def number(value: int) -> str:
    """Returns the number, with separators where stdout is a terminal."""
    return f"{value:,}" if sys.stdout.isatty() else str(value)


def between(start: Timestamp, end: Timestamp) -> float:
    """Returns the seconds from one time to another."""
    return (end.seconds - start.seconds) + (end.nanos - start.nanos) / 1e9


def since(start: Timestamp) -> float:
    """Returns the seconds from a time to now, at least 0."""
    return max(datetime.now(UTC).timestamp() - start.seconds - start.nanos / 1e9, 0.0)


def clock(value: Timestamp) -> str:
    """Returns a time as --time-format says, or "-" if it is unset."""
    if not value.seconds:
        return "-"
    match click.get_current_context().ensure_object(Settings).time_format:
        case "relative":
            left = value.seconds + value.nanos / 1e9 - datetime.now(UTC).timestamp()
            return f"in {duration(left)}" if left > 0 else f"{duration(-left)} ago"
        case "iso":
            return value.ToJsonString()
        case _:
            return value.ToDatetime(UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def size(count: int) -> str:
    """Returns a number of bytes: "640 B", "1.2 MiB"."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def shortened(words: str, width: int) -> str:
    """Returns the words on one line, at most so many characters of them."""
    line = " ".join(words.split())
    return line if len(line) <= width else f"{line[: width - 3]}..."


def state(name: str) -> str:
    """Returns the name of a state in its colour."""
    return click.style(name, fg=_STATE_COLORS.get(name))


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], right: str = "") -> str:
    """Returns rows in aligned columns under their headers.

    Args:
        headers: Names of the columns.
        rows: Cells, as many in each row as there are headers.
        right: Names, separated by spaces, of the columns to align to the right.
    """
    widths = [
        max(len(click.unstyle(row[column])) for row in (headers, *rows))
        for column in range(len(headers))
    ]
    to_right = right.split()

    def line(cells: Sequence[str], *, header: bool = False) -> str:
        padded = []
        for name, cell, width in zip(headers, cells, widths, strict=True):
            gap = " " * (width - len(click.unstyle(cell)))
            shown = click.style(cell, bold=True) if header else cell
            padded.append(gap + shown if name in to_right else shown + gap)
        return "  ".join(padded).rstrip()

    return "\n".join([line(headers, header=True), *(line(row) for row in rows)])


def pairs(rows: Sequence[tuple[str, str]]) -> str:
    """Returns names and their values, one pair a line; a pair without a value is left out."""
    shown = [(name, value) for name, value in rows if value]
    width = max(len(name) for name, _ in shown)
    return "\n".join(
        f"{click.style(name.ljust(width), dim=True)}  {value}" for name, value in shown
    )
