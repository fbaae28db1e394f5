"""The library for asyncio: the same names, the same defaults, to be awaited."""
