"""Numbers on stdin, one a line."""

from __future__ import annotations

from collections.abc import Iterator
from io import BufferedReader

import click

from tallymesh.quantities import exact_text

_READ_BYTES = 2**20
#: Far more than the longest number; without an end of line, all of a stream would be kept.
_MAX_LINE_BYTES = 2**16
#: So long an integer fits into 64 bits, and int() reads it as exact_text() does, but faster.
_SHORT_DIGITS = 18


def arriving_numbers(stream: BufferedReader) -> Iterator[list[int | str]]:
    """Yields numbers as they come: those of all lines that can be read without waiting.

    Empty lines are passed over.

    Raises:
        click.UsageError: A line is no number; it says which. All before it were yielded.
    """
    rest, count = b"", 0
    while chunk := stream.read1(_READ_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from _read_all(lines, count)
        count += len(lines)
        if len(rest) > _MAX_LINE_BYTES:
            raise click.UsageError(f"line {count + 1} of stdin is too long")
    yield from _read_all([rest], count)


def _read_all(lines: list[bytes], before: int) -> Iterator[list[int | str]]:
    """Yields the numbers of some lines at once, and raises for the first line that is none."""
    numbers: list[int | str] = []
    for at, line in enumerate(lines, before + 1):
        word = line.strip()
        if word.removeprefix(b"-").isdigit() and len(word) <= _SHORT_DIGITS:
            numbers.append(int(word))
        elif word:
            try:
                numbers.append(exact_text(word.decode(errors="replace")))
            except ValueError as error:
                if numbers:
                    yield numbers
                raise click.UsageError(f"line {at} of stdin: {error}") from None
    if numbers:
        yield numbers
