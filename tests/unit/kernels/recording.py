"""A chunk's context, for tests."""

from tallymesh_kernels import Cancelled


class Recording:
    """Keeps the fractions it is told, and cancels at the check of a given number."""

    def __init__(self, *, attempt: int = 1, cancel_at: int | None = None) -> None:
        self.attempt = attempt
        self.checks = 0
        self.fractions: list[float] = []
        self.lines: list[str] = []
        self._cancel_at = cancel_at

    def progress(self, fraction: float) -> None:
        self.fractions.append(fraction)

    def log(self, text: str) -> None:
        self.lines += text.splitlines()

    def check(self) -> None:
        self.checks += 1
        if self.checks == self._cancel_at:
            raise Cancelled
