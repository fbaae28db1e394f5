"""Progress on stderr: a live bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import click

from tallymesh.wording import counted, duration, grouped, seconds_of

if TYPE_CHECKING:
    from tallymesh.v1.job_pb2 import Job, Progress

_FIRST_LINE_SECONDS = 1.0
_LINE_SECONDS = 3.0
_LEAST_BAR_WIDTH = 14


class Display(Protocol):
    """Shows a job's progress while its `with` block lasts."""

    def __enter__(self) -> Self:
        """Begins to show."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends showing."""

    def show(self, job: Job) -> None:
        """Shows how far the job is."""

    def show_share(self, what: str, fraction: float) -> None:
        """Shows how far something is that is no job.

        Args:
            what: Its name.
            fraction: 0 to 1.
        """

    def notice(self, line: str) -> None:
        """Says something beside the progress."""


def open_display(*, quiet: bool = False, color: bool = True) -> Display:
    """Returns the display that suits stderr.

    Args:
        quiet: Show nothing.
        color: Colours may be used.
    """
    if quiet:
        return _Nothing()
    return _Bar(color) if sys.stderr.isatty() else _Lines()


class _Nothing:
    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def show(self, job: Job) -> None:
        pass

    def show_share(self, what: str, fraction: float) -> None:
        pass

    def notice(self, line: str) -> None:
        pass


class _Lines:
    def __init__(self) -> None:
        self._next = time.monotonic() + _FIRST_LINE_SECONDS

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def show(self, job: Job) -> None:
        self._write(lambda: _line(job))

    def show_share(self, what: str, fraction: float) -> None:
        self._write(lambda: f"{what}: {fraction:.1%}")

    def _write(self, line: Callable[[], str]) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _LINE_SECONDS
            click.echo(line(), err=True)

    def notice(self, line: str) -> None:
        click.echo(line, err=True)


class _Bar:
    def __init__(self, color: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._console = Console(stderr=True, highlight=False, no_color=not color or None)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[facts]}", markup=False),
            console=self._console,
            expand=True,
            transient=True,
        )
        self._task = self._progress.add_task("connecting", total=None, facts="")
        self._is_named = False

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def show(self, job: Job) -> None:
        self._name(job.name)
        progress = job.progress
        facts = [f"{progress.chunks_done:,}/{progress.chunks_total:,} chunks", *trouble(progress)]
        if progress.chunks_per_second:
            facts.append(f"{progress.chunks_per_second:,.1f}/s")
        if progress.HasField("eta"):
            facts.append(f"ETA {duration(seconds_of(progress.eta))}")
        if progress.running_total:
            facts.append(f"total {grouped(progress.running_total)}")
        if progress.workers:
            facts.append(counted(progress.workers, "worker"))
        if job.state_reason:
            facts.insert(1, job.state_reason)
        self._progress.update(
            self._task,
            description="",
            total=1.0,
            completed=progress.fraction,
            facts=_fitting(facts, self._console.width - _LEAST_BAR_WIDTH),
        )

    def show_share(self, what: str, fraction: float) -> None:
        self._name(what)
        self._progress.update(
            self._task, description="", total=1.0, completed=fraction, facts=f"{fraction:.0%}"
        )

    def notice(self, line: str) -> None:
        self._console.print(line, style="yellow", markup=False)

    def _name(self, what: str) -> None:
        """Says what this is about on a line of its own, which stays: the bar has no room for it."""
        if not self._is_named:
            self._console.print(what, style="dim", markup=False)
            self._is_named = True


def _fitting(facts: list[str], width: int) -> str:
    """Joins as many facts as there is room for, and at least the first."""
    line = facts[0]
    for fact in facts[1:]:
        if len(line) + 2 + len(fact) <= width:
            line = f"{line}  {fact}"
    return line


def _line(job: Job) -> str:
    """Returns one line on how far the job is."""
    progress = job.progress
    parts = [
        f"{progress.chunks_done:,}/{counted(progress.chunks_total, 'chunk')}"
        f" ({progress.fraction:.1%})",
        *trouble(progress),
    ]
    if progress.chunks_per_second:
        parts.append(f"{progress.chunks_per_second:,.1f} chunks/s")
    if progress.HasField("eta"):
        parts.append(f"ETA {duration(seconds_of(progress.eta))}")
    if progress.running_total:
        parts.append(f"total {grouped(progress.running_total)}")
    if progress.workers:
        parts.append(counted(progress.workers, "worker"))
    if job.state_reason:
        parts.append(job.state_reason)
    return f"{job.name}: {', '.join(parts)}"


def trouble(progress: Progress) -> list[str]:
    """Returns how many chunks were given up, and how many wait for a retry, where there are any."""
    told = ((progress.chunks_failed, "given up"), (progress.chunks_retrying, "retrying"))
    return [f"{count:,} {what}" for count, what in told if count]
