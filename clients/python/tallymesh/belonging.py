"""What belongs to one process: it is not pickled, nor copied."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn, SupportsIndex


class NotPickled:
    """Refuses to be pickled or copied, in words: it holds a connection of its process."""

    #: What to do in its place.
    _instead: ClassVar[str]

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} belongs to the process that made it, and is not pickled or"
            f" copied: {self._instead}"
        )

    def __reduce__(self) -> str | tuple[Any, ...]:
        return self.__reduce_ex__(2)
