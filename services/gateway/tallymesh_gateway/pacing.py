"""How soon watchers hear of a change, so that many changes and many watchers cost a bounded amount.

Nothing here looks at a clock: all times are passed in, in seconds.
"""

import math
from typing import Final

#: Commits that are sent one by one: so many a second, and so many at once after a pause.
RATE: Final = 20.0
BURST: Final = 8.0
#: So many watchers are served for one token; more of them need more tokens.
WATCHERS_A_TOKEN: Final = 250
#: Changes that happen beside commits or prepare them: no token is spent on them.
_MINOR: Final = frozenset({"ready", "leased", "progressed"})


class TokenBucket:
    """Tokens that come at a rate and are saved up to a number; whoever takes many may owe some."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        """Begins full.

        Args:
            rate: Tokens a second.
            burst: Most that are saved.
            now: The time.
        """
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._counted_at = now

    def wait(self, now: float) -> float:
        """Returns in how many seconds there will be a token; 0 if there is one."""
        return max(0.0, (1.0 - self._count(now)) / self._rate)

    def take(self, now: float, tokens: float = 1.0) -> None:
        """Takes tokens, whether they are there or not."""
        self._tokens = self._count(now) - tokens
        self._counted_at = now

    def _count(self, now: float) -> float:
        return min(self._burst, self._tokens + (now - self._counted_at) * self._rate)


class WatchPace:
    """When a job that is watched is to be read again.

    A commit is due at once while there are tokens. A minor change goes along with a commit, or is
    due when a token would have come for it. The end is always due.

    Attributes:
        due: When; infinite while there is nothing to tell.
    """

    def __init__(self, now: float) -> None:
        self.due = math.inf
        self._bucket = TokenBucket(RATE, BURST, now)
        self._is_commit_due = False

    def is_free(self, now: float) -> bool:
        """Tells whether a commit would be due at once."""
        return self._bucket.wait(now) == 0

    def note(self, kind: str, now: float, watchers: int) -> bool:
        """Takes note of a change.

        Args:
            kind: As of JobChanged.
            now: The time.
            watchers: How many watch.

        Returns:
            Whether that makes the next reading due sooner.
        """
        if kind == "ended":
            due = now
        elif kind in _MINOR:
            due = now + _price(watchers) / RATE
        else:
            due = now + self._bucket.wait(now)
            self._is_commit_due = True
        is_sooner = due < self.due
        self.due = min(self.due, due)
        return is_sooner

    def begin(self, now: float, watchers: int, *, commit: bool = False) -> None:
        """Takes note that the job is being read.

        Args:
            now: The time.
            watchers: How many watch.
            commit: It is read for a commit, whether that was noted or not.
        """
        if commit or self._is_commit_due:
            self._bucket.take(now, _price(watchers))
        self.settle()

    def settle(self) -> None:
        """Takes note that whatever has been noted is told."""
        self.due = math.inf
        self._is_commit_due = False


def _price(watchers: int) -> float:
    return max(1.0, watchers / WATCHERS_A_TOKEN)
