"""What the mesh can compute: the kernels, free of transport and store."""

from tallymesh_kernels.kernel import (
    Cancelled,
    Chunk,
    ChunkError,
    Context,
    Invalid,
    Kernel,
    checked_fraction,
)
from tallymesh_kernels.libraries import describe_libraries
from tallymesh_kernels.own import Foreign, Function, MessageKernel, kernel
from tallymesh_kernels.registry import (
    AnyKernel,
    Registry,
    UnknownKernel,
    as_asked,
    builtin,
    is_settled,
    settled,
    usable,
)
from tallymesh_kernels.sieve import SieveUnavailable, describe_sieve

__all__ = [
    "AnyKernel",
    "Cancelled",
    "Chunk",
    "ChunkError",
    "Context",
    "Foreign",
    "Function",
    "Invalid",
    "Kernel",
    "MessageKernel",
    "Registry",
    "SieveUnavailable",
    "UnknownKernel",
    "as_asked",
    "builtin",
    "checked_fraction",
    "describe_libraries",
    "describe_sieve",
    "is_settled",
    "kernel",
    "settled",
    "usable",
]
