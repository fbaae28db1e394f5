"""Which kernels a process has."""

from collections.abc import Container, Iterable, Mapping
from typing import Any, Self

from tallymesh.v1.work_pb2 import CountPrimes, Work
from tallymesh_kernels.add import AddKernel
from tallymesh_kernels.count_method import choose_method
from tallymesh_kernels.count_primes import (
    PRIMES,
    TUPLETS,
    CombinatorialKernel,
    SieveKernel,
    kernel_of,
)
from tallymesh_kernels.kernel import Kernel
from tallymesh_kernels.nth_prime import NthPrimeKernel
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

    def of(self, work: Work) -> tuple[AnyKernel, Any]:
        """The kernel that computes the work, and that kernel's own message.

        Raises:
            UnknownKernel: The work names none, or one that is not registered.
        """
        member = work.WhichOneof("kernel") or ""
        match member:
            case "count_primes":
                name = kernel_of(work.count_primes)
            case "custom":
                name = work.custom.kernel
            case _:
                name = member
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

    def only(self, names: Container[str]) -> Self:
        """A registry of those kernels that are named."""
        return type(self)(kernel for kernel in self._kernels.values() if kernel.name in names)


def as_asked(work: Work) -> Work:
    """The work without what only the mesh may say in it; itself, if there is no such thing."""
    if not work.count_primes.method_reason:
        return work
    copy = Work()
    copy.CopyFrom(work)
    copy.count_primes.ClearField("method_reason")
    return copy


def is_settled(work: Work) -> bool:
    """Whether work leaves nothing to the mesh: most does not."""
    return not (
        work.HasField("count_primes") and work.count_primes.method == CountPrimes.METHOD_UNSPECIFIED
    )


def settled(work: Work, *, chunk_count: int | None, slots: Mapping[str, int]) -> Work:
    """A copy of valid work in which what it leaves to the mesh is chosen.

    Args:
        work: The work, not settled.
        chunk_count: Into how many chunks it is to be cut, or None for any.
        slots: How many chunks of each kernel can be computed at a time.
    """
    copy = Work()
    copy.CopyFrom(work)
    primes = copy.count_primes
    primes.method, primes.method_reason = choose_method(
        primes, chunk_count=chunk_count, slots=slots
    )
    return copy


def builtin_kernels() -> tuple[AnyKernel, ...]:
    """The built-in kernels."""
    return (
        SieveKernel(PRIMES),
        AddKernel(),
        SimulateKernel(),
        NthPrimeKernel(),
        SieveKernel(TUPLETS),
        CombinatorialKernel(),
    )


def builtin() -> Registry:
    """A registry of the built-in kernels."""
    return Registry(builtin_kernels())


def usable(registry: Registry) -> Registry:
    """Those of the kernels that can compute here; loads what the built-in ones need."""
    from tallymesh_kernels.primecount import PrimecountUnavailable, open_primecount

    try:
        open_primecount()
    except PrimecountUnavailable:
        needy = (CombinatorialKernel.name, NthPrimeKernel.name)
        return registry.only([name for name in registry.names() if name not in needy])
    return registry
