"""How a long chunk stays in touch."""

from time import monotonic

from tallymesh_kernels.kernel import Context

PERIOD_SECONDS = 0.05


class Pulse:
    """Tells a context how far its chunk is and asks whether to go on, at a bearable rate."""

    def __init__(self, context: Context, total: float) -> None:
        """Begins at 0 of `total`, in any unit.

        Raises:
            Cancelled: The chunk is not even to be begun.
        """
        context.check()
        self._context = context
        self._total = total
        self._next = monotonic() + PERIOD_SECONDS

    def at(self, done: float) -> None:
        """Notes that `done` of the total is done.

        Raises:
            Cancelled: The chunk is to stop.
        """
        now = monotonic()
        if now >= self._next:
            self._next = now + PERIOD_SECONDS
            self._context.check()
            self._context.progress(done / self._total)
