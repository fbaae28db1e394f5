"""Finding kernels of one's own: in modules that are named, and in distributions installed here."""

import importlib
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Final

from tallymesh_kernels.kernel import Invalid
from tallymesh_kernels.own import Function, MessageKernel, Messages, check_name
from tallymesh_kernels.registry import AnyKernel, Registry, builtin_kernels

GROUP: Final = "tallymesh.kernels"
"""Entry points of this group are kernels, or modules that hold some."""


class CannotLoad(Exception):
    """A kernel of one's own cannot be had; the message is one line for a person."""


def sources(modules: Iterable[str]) -> tuple[str, ...]:
    """Returns where kernels of one's own are: what is installed here, then the modules given."""
    from importlib.metadata import entry_points

    return tuple(dict.fromkeys((*(found.value for found in entry_points(group=GROUP)), *modules)))


def load(where: Iterable[str]) -> Registry:
    """Returns all kernels: those built in, and those of one's own.

    Args:
        where: `module`, all of whose kernels are taken, or `module:kernel`. A module is also looked
            for in the current directory, after all other places.

    Raises:
        CannotLoad: One cannot be imported, holds no kernel, or has a name that is taken.
    """
    kernels = {kernel.name: kernel for kernel in builtin_kernels()}
    homes: dict[str, str] = {}
    found: dict[str, Any] = {}
    for source in where:
        for own in _find(source):
            name = _name_of(own, source)
            if found.setdefault(name, own) is not own:
                raise CannotLoad(f"kernel {name} is in {homes[name]} and in {source}")
            homes[name] = source
            kernels[name] = own if isinstance(own, Function) else _instance(own, source)
    return Registry(kernels.values())


def _find(source: str) -> Iterator[Any]:
    path, _, attribute = source.partition(":")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
    try:
        module = importlib.import_module(path)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module may as well try to end the process
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise CannotLoad(f"kernels of {path} cannot be imported: {said}") from error
    if attribute:
        given = getattr(module, attribute, None)
        if not _is_kernel(given):
            raise CannotLoad(
                f"{source} is no kernel: mark it with @kernel, or derive MessageKernel"
            )
        yield given
        return
    held = [given for given in vars(module).values() if _is_kernel(given)]
    if not held:
        raise CannotLoad(f"{path} holds no kernel: mark a function with @kernel")
    yield from held


def _is_kernel(given: object) -> bool:
    if isinstance(given, type) and issubclass(given, MessageKernel):
        return not getattr(given, "__abstractmethods__", None)
    return isinstance(given, Function)


def _name_of(own: Any, source: str) -> str:
    name = getattr(own, "name", "")
    try:
        check_name(name)
    except Invalid as error:
        shown = getattr(own, "__qualname__", "a kernel")
        raise CannotLoad(f"{shown} of {source}: name {str(name)!r} is not {error.bound}") from error
    return str(name)


def _instance(own: type[MessageKernel[Any, Any, Any]], source: str) -> AnyKernel:
    for needed in ("work_type", "partial_type", "result_type"):
        if not hasattr(own, needed):
            raise CannotLoad(f"{own.__qualname__} of {source} has no {needed}")
    try:
        return Messages(own())
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise CannotLoad(f"{own.__qualname__} of {source} cannot be made: {said}") from error
