"""Which kernels a process has."""

from collections.abc import Iterable
from typing import Any

from google.protobuf.message import Message

from tallymesh.v1.work_pb2 import Work
from tallymesh_kernels.add import AddKernel
from tallymesh_kernels.count_primes import CountPrimesKernel
from tallymesh_kernels.kernel import Kernel
from tallymesh_kernels.own import Foreign
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
        member = work.WhichOneof("kernel") or ""
        name = work.custom.kernel if member == "custom" else member
        return self.get(name), getattr(work, member)

    def of_any(self, work: Work) -> tuple[AnyKernel | Foreign, Any]:
        """As of(); a kernel of one's own may be one that is not registered.

        Raises:
            UnknownKernel: The work names none, or one of the built-in kind that is not registered.
            Invalid: What it names can be no kernel of one's own.
        """
        if work.WhichOneof("kernel") != "custom" or work.custom.kernel in self._kernels:
            return self.of(work)
        return Foreign(work.custom.kernel), work.custom


def builtin_kernels() -> tuple[AnyKernel, ...]:
    """The built-in kernels."""
    return (CountPrimesKernel(), AddKernel(), SimulateKernel())


def builtin() -> Registry:
    """A registry of the built-in kernels."""
    return Registry(builtin_kernels())
