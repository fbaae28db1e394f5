"""Trying a kernel of one's own alone, without a mesh."""

from functools import reduce
from typing import Any

from google.protobuf.message import Message

from tallymesh.json_values import to_struct
from tallymesh.v1.work_pb2 import CustomWork
from tallymesh_kernels.kernel import Cancelled, Chunk, checked_fraction
from tallymesh_kernels.own import Function, MessageKernel, Messages, result_value


class Recorder:
    """A context that remembers what a kernel says.

    Attributes:
        attempt: Which attempt at the chunk this is.
        fractions: What `progress` was told, in order.
        lines: What `log` was told.
    """

    def __init__(self, *, attempt: int = 1, cancel_at: int | None = None) -> None:
        """Remembers nothing yet.

        Args:
            attempt: What to say to the kernel.
            cancel_at: At which call of `check`, from 1, to cancel the chunk.
        """
        self.attempt = attempt
        self.fractions: list[float] = []
        self.lines: list[str] = []
        self._cancel_at = cancel_at
        self._checks = 0

    def progress(self, fraction: float) -> None:
        """Remembers it; ValueError if it is no fraction from 0 to 1."""
        self.fractions.append(checked_fraction(fraction))

    def log(self, text: str) -> None:
        """Remembers its lines."""
        self.lines += text.splitlines()

    def check(self) -> None:
        """Raises Cancelled if it was made to."""
        self._checks += 1
        if self._checks == self._cancel_at:
            raise Cancelled


def compute(
    kernel: Function | MessageKernel[Any, Any, Any],
    work: dict[str, Any] | Message,
    *,
    chunks: int | None = None,
    context: Recorder | None = None,
) -> Any:
    """Computes a work as the mesh does: checked, cut, computed chunk by chunk, merged, finished.

    Args:
        kernel: A function made by @kernel, or a MessageKernel.
        work: What it is given: a JSON object, or its message.
        chunks: Into how many chunks to cut the work; default: as the kernel plans.
        context: Told what the kernel says; default one that nobody reads.

    Returns:
        What a client would get; of a MessageKernel, its message.

    Raises:
        Invalid: The kernel does not like the work.
        ChunkError: What it returned cannot be taken; or it raised this itself.
        ValueError: There are fewer chunks than one, or more than it may have.
    """
    given: Any
    if isinstance(kernel, Function):
        custom = CustomWork(kernel=kernel.name, json=to_struct(dict(work)))  # type: ignore[arg-type]
        count = kernel.plan(custom) if chunks is None else chunks
        # A single chunk may give anything that JSON can say.
        given = kernel if kernel.additive and count > 1 else kernel.unsummed()
    else:
        given = Messages(kernel)
        assert isinstance(work, Message), "a MessageKernel is given its message"
        custom = CustomWork(kernel=kernel.name, data=work.SerializeToString(deterministic=True))
        count = given.plan(custom) if chunks is None else chunks
    given.validate(custom)
    if not 1 <= count <= given.max_chunks:
        raise ValueError(f"{count} chunks: {kernel.name} may have 1 to {given.max_chunks}")
    told = context or Recorder()
    partials = (given.run(custom, Chunk(index, count), told) for index in range(count))
    result = given.finish(custom, reduce(given.merge, partials))
    if isinstance(kernel, Function):
        return result_value(result)
    return kernel.result_type.FromString(result.custom.data)
