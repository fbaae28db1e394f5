"""A job as notebooks and terminals show it."""

from __future__ import annotations

import html
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from tallymesh.v1.job_pb2 import Job
from tallymesh.works import state_name

if TYPE_CHECKING:
    from tallymesh.display import Display


def job_html(job: Job) -> str:
    """Returns the job as a notebook shows it: its name, state, progress, and why it waits."""
    progress = job.progress
    facts = [
        f"<code>{html.escape(job.name)}</code>",
        state_name(job.state),
        f'<progress max="1" value="{progress.fraction:.4f}"></progress>',
        f"{progress.chunks_done:,} of {job.chunk_count:,} chunks",
    ]
    if job.state_reason:
        facts.append(html.escape(job.state_reason))
    return f"<div>{' '.join(facts)}</div>"


def open_bar(bar: bool) -> AbstractContextManager[Display | None]:
    """Returns a bar on stderr, of lines where that is no terminal; or None without `bar`."""
    if not bar:
        return nullcontext()
    # Only who asks for it waits for its import.
    from tallymesh.display import open_display

    return open_display()
