"""Which kernels a process has."""

from collections.abc import Iterable
from typing import Any

from google.protobuf.message import Message

from tallymesh.v1.work_pb2 import Work
from tallymesh_kernels.add import AddKernel
from tallymesh_kernels.count_primes import CountPrimesKernel
from tallymesh_kernels.kernel import Kernel
from tallymesh_kernels.simulate import SimulateKernel

AnyKernel = Kernel[Any, Any]


class UnknownKernel(LookupError):
    """No such kernel is registered, or the work names none.

    Attributes:
        name: The kernel that was asked for; "" if the work names none.
        known: The names that are registered.
    """

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        said = f"{name!r} is not a known kernel" if name else "the work names no kernel"
        super().__init__(f"{said}; known: {', '.join(known)}")
        self.name = name
        self.known = known


class Registry:
    """Kernels by name."""

    def __init__(self, kernels: Iterable[AnyKernel]) -> None:
        self._kernels = {kernel.name: kernel for kernel in kernels}

    def names(self) -> tuple[str, ...]:
        """The names of all kernels, in order of registration."""
        return tuple(self._kernels)

    def get(self, name: str) -> AnyKernel:
        """The kernel of that name.

        Raises:
            UnknownKernel: There is none.
        """
        try:
            return self._kernels[name]
        except KeyError:
            raise UnknownKernel(name, self.names()) from None

    def of(self, work: Work) -> tuple[AnyKernel, Message]:
        """The kernel that the work names, and that kernel's own message.

        Raises:
            UnknownKernel: The work names none, or one that is not registered.
        """
        name = work.WhichOneof("kernel") or ""
        return self.get(name), getattr(work, name)


def builtin() -> Registry:
    """A registry of the built-in kernels."""
    return Registry((CountPrimesKernel(), AddKernel(), SimulateKernel()))
