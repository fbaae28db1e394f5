"""How the command line ends: its exit codes, and what it says of an error."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from tallymesh import errors
from tallymesh.address import choose_address

if TYPE_CHECKING:
    from tallymesh.cli.options import Settings


class Exit(IntEnum):
    """Exit codes; those of jobs come from how the job ended, never from how its stream did."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CANCELLED = 3
    TIMEOUT = 4
    UNREACHABLE = 5


def exit_code(error: errors.TallymeshError) -> Exit:
    """Returns the exit code that stands for the error."""
    match error:
        case errors.InvalidField():
            return Exit.USAGE
        case errors.JobCancelled():
            return Exit.CANCELLED
        case errors.DeadlineExceeded() | errors.WaitTimeout() | errors.StopTimeout():
            return Exit.TIMEOUT
        case errors.Unreachable():
            return Exit.UNREACHABLE
        case _:
            return Exit.FAILED


def error_line(error: errors.TallymeshError, settings: Settings) -> str:
    """Returns the one line that stderr gets of an error.

    In brackets stand, where the mesh told them, its reason, the field at fault, and the id under
    which its log has the call.

    Args:
        error: What went wrong.
        settings: Tell where the mesh was looked for.
    """
    facts = {
        "reason": error.reason,
        "field": error.metadata.get("field", ""),
        "call": error.metadata.get("correlation_id", error.request_id),
    }
    told = " ".join(f"{name}={value}" for name, value in facts.items() if value)
    return f"error: {describe(error, settings)}{f' [{told}]' if told else ''}"


def describe(error: errors.TallymeshError, settings: Settings) -> str:
    """Returns one line that tells a person of the error, and what to do about it if that is known.

    Args:
        error: What went wrong.
        settings: Tell where the mesh was looked for.
    """
    address = choose_address(settings.address)
    text = " ".join(error.message.split())
    match error:
        case errors.Unreachable() if not error.reason:
            return _describe_absence(text, address)
        case errors.DeadlineExceeded():
            return f"no answer from {address} in time ({text}); --timeout gives it longer"
        case errors.WaitTimeout():
            return f"{text}; it goes on: {settings.command(f'jobs watch {error.job.name}')}"
        case errors.TallymeshError(code="UNIMPLEMENTED"):
            return f"what answers at {address} does not know this call ({text})"
        case _:
            return text


def _describe_absence(text: str, address: str) -> str:
    if "no healthy upstream" in text:
        return (
            f"the edge at {address} answers, but no service behind it does; see: tallymesh status"
        )
    refused = f"cannot connect to {address}: "
    if text.startswith(refused) and address.startswith("https://"):
        return f"no mesh answers at {address} over TLS; see: tallymesh doctor"
    if text.startswith(refused):
        cause = text.removeprefix(refused)
        return f"no mesh answers at {address} ({cause}); start one with: tallymesh up"
    return f"lost the mesh at {address}: {text.removeprefix(f'{address}: ')}"
