"""Makes adds that come at the same time in one step of the store."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from tallymesh_core.store.abaci import Abaci, Add, Added

#: So much goes into one step, lest a crowd hold up the store for everyone else: an add weighs its
#: digits and something for itself. It is some 100 usual adds, or one of the longest.
_STEP_WEIGHT = 2_500
_ADD_WEIGHT = 20
#: After a step of a crowd, who belongs to it is given a moment to come again, so that the next step
#: is one too: a step takes this process and the store about the same time, whatever is in it.
_CROWD = 3
_MOMENT_SECONDS = 0.002


@dataclass(slots=True)
class _Lane:
    """The adds of one shard that wait for the step under way to end."""

    waiting: deque[tuple[Add, asyncio.Future[Added]]] = field(default_factory=deque)
    running: asyncio.Task[None] | None = None


class Adder:
    """Adds to abaci. An add waits for the step of the store under way; in a crowd a moment more."""

    def __init__(self, abaci: Abaci) -> None:
        self._abaci = abaci
        self._lanes: dict[int, _Lane] = {}

    async def add(self, add: Add) -> Added:
        """Makes an add.

        Raises:
            RequestIdReused: Its id stands for another request.
            RequestIdForgotten: Its id may stand for a request of long ago.
            EtagMismatch: The sum has another etag than expected.
            StoreUnavailable: The store gave no answer; with a `once` it is safe to ask again.
        """
        shard = self._abaci.shard_of(add.abacus)
        lane = self._lanes.setdefault(shard, _Lane())
        answer: asyncio.Future[Added] = asyncio.get_running_loop().create_future()
        lane.waiting.append((add, answer))
        if lane.running is None:
            lane.running = asyncio.create_task(self._run(shard, lane))
        return await answer

    async def _run(self, shard: int, lane: _Lane) -> None:
        try:
            while step := _take_step(lane.waiting):
                await self._make(shard, step)
                if len(step) >= _CROWD and len(lane.waiting) < len(step):
                    await asyncio.sleep(_MOMENT_SECONDS)
        finally:
            lane.running = None

    async def _make(self, shard: int, step: list[tuple[Add, asyncio.Future[Added]]]) -> None:
        answers: Sequence[Added | Exception]
        try:
            answers = await self._abaci.add(shard, [add for add, _ in step])
        except Exception as error:
            # Whatever it is, it belongs to those who wait, and not to this task.
            answers = [error] * len(step)
        for (_, future), answer in zip(step, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Added):
                future.set_result(answer)
            else:
                future.set_exception(answer)


def _take_step(
    waiting: deque[tuple[Add, asyncio.Future[Added]]],
) -> list[tuple[Add, asyncio.Future[Added]]]:
    """Takes what goes together next; who has left meanwhile is left out."""
    step, weight = [], 0
    while waiting and weight < _STEP_WEIGHT:
        add, future = waiting.popleft()
        if not future.done():
            step.append((add, future))
            weight += _ADD_WEIGHT + add.amount.unscaled.bit_length() // 3
    return step
