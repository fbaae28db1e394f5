"""Kernels of one's own: functions over JSON, and classes over protobuf messages.

Both are written against what this module gives, and seen by the mesh as kernels of `CustomWork`.
"""

import functools
import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar, Final, Generic, TypeAlias, TypeVar

from google.protobuf.message import DecodeError, Message

from tallymesh.json_values import NotJson, from_value, to_value
from tallymesh.v1.work_pb2 import CustomResult, CustomWork, Result, Work
from tallymesh_kernels.kernel import Chunk, ChunkError, Context, Invalid
from tallymesh_kernels.shared_json import ReadWork

MAX_SUMMED_CHUNKS: Final = 1 << 22
MAX_MERGED_CHUNKS: Final = 65_536
MIN_NUMBER: Final = -(2**63)
MAX_NUMBER: Final = 2**63 - 1
NAME_BOUND: Final = (
    "3 to 63 characters: parts of [a-z0-9_] that start with a letter, joined by dots, at least two"
)

_NAME = re.compile(r"(?=.{3,63}$)[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
_BUILT_IN = {field.name for field in Work.DESCRIPTOR.oneofs_by_name["kernel"].fields}

Json: TypeAlias = Any
"""What JSON can say: None, bool, int, float, str, and lists and dicts of these."""

FunctionWork: TypeAlias = CustomWork | ReadWork
Compute: TypeAlias = Callable[[dict[str, Any], Chunk, Context], Json]
WorkMessage = TypeVar("WorkMessage", bound=Message)
PartialMessage = TypeVar("PartialMessage", bound=Message)
ResultMessage = TypeVar("ResultMessage", bound=Message)


def check_name(name: str) -> None:
    """Raises Invalid unless it can be the name of a kernel of one's own."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Invalid("kernel", name, NAME_BOUND)
    first = name.partition(".")[0]
    if first in _BUILT_IN:
        raise Invalid("kernel", name, f"free: {first} is built in")


def amount(result: Result) -> str:
    """Returns what a result adds to an abacus, as a decimal.

    Raises:
        ValueError: It is no number.
    """
    custom = result.custom
    match custom.WhichOneof("output"):
        case "number":
            return str(custom.number)
        case "json" if custom.json.WhichOneof("kind") == "number_value":
            return repr(from_value(custom.json))
        case _:
            raise ValueError(f"the result of {custom.kernel} is no number")


class Function:
    """A kernel that is a function over a slice; `kernel` makes it. It may still be called.

    Attributes:
        name: Its name.
        additive: Its chunks give whole numbers, which are summed.
        max_chunks: Into how many chunks the work may be cut.
    """

    def __init__(
        self,
        name: str,
        compute: Compute,
        *,
        plan: int | Callable[[dict[str, Any]], int],
        validate: Callable[[dict[str, Any]], None] | None,
        merge: Callable[[Json, Json], Json] | None,
        finish: Callable[[dict[str, Any], Json], Json] | None,
    ) -> None:
        self.name = name
        self.additive = merge is None
        self.max_chunks = MAX_SUMMED_CHUNKS if self.additive else MAX_MERGED_CHUNKS
        self.__doc__ = compute.__doc__
        self._compute = compute
        self._plan = plan
        self._validate = validate
        self._merge = merge
        self._finish = finish

    def __call__(self, work: dict[str, Any], chunk: Chunk, context: Context) -> Json:
        """Calls the function as it is."""
        return self._compute(work, chunk, context)

    @staticmethod
    def read(work: FunctionWork) -> ReadWork:
        """Returns the work as it is read once for all calls of this kernel."""
        return work if isinstance(work, ReadWork) else ReadWork(work)

    def validate(self, work: FunctionWork) -> None:
        """Raises Invalid if the function's own validation raises, whatever that raises."""
        read = self.read(work)
        if read.work.WhichOneof("input") == "data":
            length = f"{len(read.work.data)} bytes"
            raise Invalid("data", length, f"what {self.name} takes: give json")
        if self._validate:
            given = read.json
            _refuse("json", self.name, lambda: self._validate and self._validate(given))

    def plan(self, work: FunctionWork) -> int:
        """As many chunks as the function's own plan says."""
        return self._plan if isinstance(self._plan, int) else self._plan(self.read(work).json)

    def run(self, work: FunctionWork, chunk: Chunk, context: Context) -> int:
        """The number of one chunk."""
        number: int = self._call(work, chunk, context)
        if not _is_whole(number):
            raise ChunkError(
                f"kernel {self.name} returned {type(number).__name__} for one of {chunk.count}"
                " chunks, which are summed: return an int, or give the kernel a merge"
            )
        return number

    def merge(self, a: int, b: int) -> int:
        """Sums."""
        return a + b

    def finish(self, work: FunctionWork, total: int) -> Result:
        """The sum is the result."""
        return _number(self.name, total)

    def amount(self, result: Result) -> str:
        """The result, if it is a number."""
        return amount(result)

    def unsummed(self) -> "UnsummedFunction":
        """The same kernel for a job whose chunks give partial results, not numbers to be summed."""
        return UnsummedFunction(self)

    def _call(self, work: FunctionWork, chunk: Chunk, context: Context) -> Json:
        value = self._compute(self.read(work).json, chunk, context)
        return int(value) if _is_whole(value) else value

    def _joined(self, a: Json, b: Json) -> Json:
        if self._merge:
            return self._merge(a, b)
        if _is_whole(a) and _is_whole(b):
            return a + b
        raise ChunkError(
            f"kernel {self.name} returned what cannot be summed: let it return ints, or give it a"
            " merge"
        )

    def _finished(self, work: FunctionWork, total: Json) -> Json:
        return self._finish(self.read(work).json, total) if self._finish else total


@dataclass(frozen=True, slots=True)
class UnsummedFunction:
    """A function's chunks as partial results."""

    function: Function
    additive: ClassVar[bool] = False
    max_chunks: ClassVar[int] = MAX_MERGED_CHUNKS

    @property
    def name(self) -> str:
        """The function's name."""
        return self.function.name

    def validate(self, work: FunctionWork) -> None:
        """As the function."""
        self.function.validate(work)

    def plan(self, work: FunctionWork) -> int:
        """As the function."""
        return self.function.plan(work)

    def run(self, work: FunctionWork, chunk: Chunk, context: Context) -> Result:
        """What one chunk gives: an int alone will do where nothing merges, and chunks are many."""
        if self.function.additive and chunk.count > 1:
            return _number(self.name, self.function.run(work, chunk, context))
        return self._told("returned", self.function._call(work, chunk, context))

    def merge(self, a: Result, b: Result) -> Result:
        """Joins what two chunks gave."""
        return self._told("merged into", self.function._joined(result_value(a), result_value(b)))

    def finish(self, work: FunctionWork, total: Result) -> Result:
        """Makes the result of what all chunks gave."""
        return self._told("finished with", self.function._finished(work, result_value(total)))

    def amount(self, result: Result) -> str:
        """The result, if it is a number."""
        return amount(result)

    def _told(self, how: str, value: Json) -> Result:
        if _is_whole(value):
            return _number(self.name, int(value))
        try:
            return Result(custom=CustomResult(kernel=self.name, json=to_value(value)))
        except NotJson as error:
            raise ChunkError(f"kernel {self.name} {how} {error}") from None


def kernel(
    name: str,
    *,
    plan: int | Callable[[dict[str, Any]], int] = 1,
    validate: Callable[[dict[str, Any]], None] | None = None,
    merge: Callable[[Json, Json], Json] | None = None,
    finish: Callable[[dict[str, Any], Json], Json] | None = None,
) -> Callable[[Compute], Function]:
    """Makes a kernel of a function that computes one chunk of some work.

    The function is given the work (a JSON object), which chunk of it to compute, and the chunk's
    context. It returns an int, and the chunks' ints are summed; or, with a `merge`, anything that
    JSON can say. Where the work is a single chunk, anything will do without a `merge` too.

    Args:
        name: With at least one dot: "acme.score".
        plan: How many chunks, if the client does not say; or a function of the work that tells.
        validate: Raises if it does not like the work: Invalid, to name a field; or anything.
        merge: Joins what two chunks, or two runs of consecutive chunks, gave. Associative.
        finish: Makes the result of the work and of what all chunks gave, merged. Needs a `merge`.

    Raises:
        Invalid: The name is none.
        ValueError: There is a `finish` without a `merge`.
        TypeError: A function is none that returns a value when it is called.
    """
    check_name(name)
    if finish and not merge:
        raise ValueError(f"kernel {name} has a finish, which needs a merge")
    given: dict[str, object] = {"validate": validate, "merge": merge, "finish": finish}
    if not isinstance(plan, int):
        given["plan"] = plan
    for role, function in given.items():
        if function is not None:
            _check_callable(f"the {role} of kernel {name}", function)

    def make(compute: Compute) -> Function:
        _check_callable(f"kernel {name}", compute)
        return Function(name, compute, plan=plan, validate=validate, merge=merge, finish=finish)

    return make


class MessageKernel(ABC, Generic[WorkMessage, PartialMessage, ResultMessage]):
    """A kernel over protobuf messages of one's own; to be derived from, and made without arguments.

    Attributes:
        name: With at least one dot: "acme.spectrum".
        work_type: The message that it is given.
        partial_type: The message that a chunk gives.
        result_type: The message that comes out.
    """

    name: ClassVar[str]
    work_type: type[WorkMessage]
    partial_type: type[PartialMessage]
    result_type: type[ResultMessage]

    def validate(self, work: WorkMessage) -> None:
        """Raises if it does not like the work: Invalid, to name a field; or anything."""

    def plan(self, work: WorkMessage) -> int:
        """How many chunks, if the client does not say. Default: 1."""
        return 1

    @abstractmethod
    def run(self, work: WorkMessage, chunk: Chunk, context: Context) -> PartialMessage:
        """Computes one chunk."""

    @abstractmethod
    def merge(self, a: PartialMessage, b: PartialMessage) -> PartialMessage:
        """Joins what two chunks, or two runs of consecutive chunks, gave. Associative."""

    @abstractmethod
    def finish(self, work: WorkMessage, total: PartialMessage) -> ResultMessage:
        """Makes the result of what all chunks gave, merged."""


class Messages:
    """A MessageKernel as the mesh sees it."""

    additive = False
    max_chunks = MAX_MERGED_CHUNKS

    def __init__(self, own: MessageKernel[Any, Any, Any]) -> None:
        self.name = own.name
        self.own = own
        for role in ("validate", "plan", "run", "merge", "finish"):
            _check_callable(f"{role} of kernel {own.name}", getattr(own, role))

    def validate(self, work: CustomWork) -> None:
        """Raises Invalid if it is not the kernel's message, or the kernel does not like it."""
        wanted = self.own.work_type.DESCRIPTOR.full_name
        if work.WhichOneof("input") == "json":
            raise Invalid("json", "an object", f"what {self.name} takes: give a {wanted} as data")
        try:
            message = self._work(work)
        except DecodeError:
            raise Invalid("data", f"{len(work.data)} bytes", f"a {wanted}") from None
        _refuse("data", self.name, lambda: self.own.validate(message))

    def plan(self, work: CustomWork) -> int:
        """As many chunks as the kernel's own plan says."""
        return self.own.plan(self._work(work))

    def run(self, work: CustomWork, chunk: Chunk, context: Context) -> Result:
        """What one chunk gives."""
        partial = self.own.run(self._work(work), chunk, context)
        return self._told("returned", partial, self.own.partial_type)

    def merge(self, a: Result, b: Result) -> Result:
        """Joins what two chunks gave."""
        merged = self.own.merge(self._partial(a), self._partial(b))
        return self._told("merged into", merged, self.own.partial_type)

    def finish(self, work: CustomWork, total: Result) -> Result:
        """Makes the result of what all chunks gave."""
        result = self.own.finish(self._work(work), self._partial(total))
        return self._told("finished with", result, self.own.result_type)

    def amount(self, result: Result) -> str:
        """A message is no number: ValueError."""
        return amount(result)

    def _work(self, work: CustomWork) -> Message:
        message: Message = self.own.work_type.FromString(work.data)
        return message

    def _partial(self, result: Result) -> Message:
        message: Message = self.own.partial_type.FromString(result.custom.data)
        return message

    def _told(self, how: str, given: object, wanted: type[Message]) -> Result:
        if not isinstance(given, wanted):
            raise ChunkError(
                f"kernel {self.name} {how} {type(given).__name__},"
                f" which is not a {wanted.DESCRIPTOR.full_name}"
            )
        data = given.SerializeToString(deterministic=True)
        return Result(custom=CustomResult(kernel=self.name, data=data))


class Foreign:
    """A kernel of one's own that this process does not have: workers have it, or will."""

    additive = False
    max_chunks = MAX_MERGED_CHUNKS

    def __init__(self, name: str) -> None:
        """Stands for the kernel of that name; Invalid if it can be none."""
        check_name(name)
        self.name = name

    def validate(self, work: CustomWork) -> None:
        """Leaves it to the workers."""

    def finish(self, work: CustomWork, total: int) -> Result:
        """The sum of a job that was accepted where the kernel is."""
        return _number(self.name, total)

    def amount(self, result: Result) -> str:
        """The result, if it is a number."""
        return amount(result)


def _check_callable(what: str, given: object) -> None:
    """Raises TypeError unless it returns a value when it is called."""
    function = given
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, type) or not callable(function):
        raise TypeError(f"{what} is {_kind(function)}, not a function")
    if not inspect.isroutine(function):
        function = type(function).__call__
    function = inspect.unwrap(function)
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{what} is an async function, which nobody awaits: use def")
    if inspect.isgeneratorfunction(function):
        raise TypeError(f"{what} is a generator function: return a value instead of yielding")


def _kind(given: object) -> str:
    return f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _number(name: str, number: int) -> Result:
    if not MIN_NUMBER <= number <= MAX_NUMBER:
        raise ChunkError(f"the number {number} of kernel {name} does not fit into 64 bits")
    return Result(custom=CustomResult(kernel=name, number=number))


def result_value(result: Result) -> Json:
    """Returns what a function's result says."""
    custom = result.custom
    return custom.number if custom.HasField("number") else from_value(custom.json)


def _refuse(member: str, name: str, validate: Callable[[], object]) -> None:
    """Calls a kernel's own validation, and makes of whatever it raises that the work is invalid."""
    try:
        validate()
    except Invalid as error:
        raise Invalid(f"{member}.{error.field}", error.value, error.bound) from error
    except (Exception, SystemExit) as error:
        said = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise Invalid(member, "", f"work that {name} takes ({said})") from error
