"""Taking samples so that what is compared has met the same weather."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

#: Does its thing so many times; returns the seconds that each took.
Sampler = Callable[[int], Sequence[float]]


def of_calls(call: Callable[[], object]) -> Sampler:
    """Samples a call that blocks."""

    def sample(count: int) -> list[float]:
        taken = []
        for _ in range(count):
            begun = time.perf_counter()
            call()
            taken.append(time.perf_counter() - begun)
        return taken

    return sample


def of_awaits(runner: asyncio.Runner, call: Callable[[], Awaitable[object]]) -> Sampler:
    """Samples a call that is awaited, within one event loop."""

    async def take(count: int) -> list[float]:
        taken = []
        for _ in range(count):
            begun = time.perf_counter()
            await call()
            taken.append(time.perf_counter() - begun)
        return taken

    return lambda count: runner.run(take(count))


def interleaved(
    samplers: Mapping[str, Sampler], *, rounds: int, batch: int = 1, warm_up: bool = True
) -> dict[str, list[float]]:
    """Takes `batch` samples of each in turn, `rounds` times over.

    Args:
        samplers: By name.
        rounds: How often each has its turn.
        batch: Samples a turn.
        warm_up: Give each one more turn before, which does not count.

    Returns:
        All samples by name, `rounds * batch` of each, in the order taken.
    """
    taken: dict[str, list[float]] = {name: [] for name in samplers}
    if warm_up:
        for sample in samplers.values():
            sample(batch)
    for _ in range(rounds):
        for name, sample in samplers.items():
            taken[name] += sample(batch)
    return taken
