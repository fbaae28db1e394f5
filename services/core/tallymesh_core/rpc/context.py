"""Who is calling: what the interceptors know of a call, for the code that answers it."""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of the current call.

    Attributes:
        request_id: Id under which the call stands in the logs.
        tenant: Whose jobs and abaci the call sees.
        principal: Who calls.
        find_peer: Finds the caller's address; few calls ask for it, and it is not cheap.
    """

    request_id: str
    find_peer: Callable[[], str]
    tenant: str = "default"
    principal: str = "anonymous"

    @property
    def peer(self) -> str:
        """The caller's address, as far as it can be told."""
        return self.find_peer()


_current: ContextVar[Caller] = ContextVar("caller")


def current_caller() -> Caller:
    """Returns the caller of the call being handled; LookupError outside of one."""
    return _current.get()


def set_caller(caller: Caller) -> None:
    """Makes `caller` the caller of the call being handled."""
    _current.set(caller)
