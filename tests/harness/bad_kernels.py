"""Kernels with bad habits: the shared mesh has them."""

import logging
import os
import subprocess
import sys
import threading
import time
from typing import Any

from tallymesh_kernels import Chunk, ChunkError, Context, Invalid, kernel

Work = dict[str, Any]

#: As many libraries make theirs: with the standard error that there is as they are imported.
_logger = logging.getLogger("bad.own")
_logger.addHandler(logging.StreamHandler())
_logger.propagate = False


@kernel("bad.prints")
def prints(work: Work, chunk: Chunk, context: Context) -> int:
    """Prints in every way, and logs."""
    print("on", "stdout", chunk.index)
    print("on stderr", file=sys.stderr)
    sys.stdout.buffer.write(b"as bytes \xff\n")
    logging.getLogger("bad").warning("as a warning")
    _logger.warning("as a library warns")
    context.log("a line\nand another")
    print("without an end", end="")
    os.write(1, b"past Python\n")
    return 1


@kernel("bad.chatters")
def chatters(work: Work, chunk: Chunk, context: Context) -> int:
    """Prints far more than anybody reads."""
    for line in range(work["lines"]):
        print(f"line {line} of chunk {chunk.index}", "x" * 80)
    print("y" * 100_000)
    if work.get("fail"):
        raise ChunkError("said enough")
    return 1


@kernel("bad.raises")
def raises(work: Work, chunk: Chunk, context: Context) -> int:
    """Raises what its author did not think of."""
    context.log(f"attempt {context.attempt}")
    return _deeper(work)


def _deeper(work: Work) -> int:
    numbers: dict[str, int] = {}
    return numbers["no such\nkey"]


@kernel("bad.refuses", validate=lambda work: 1 / work["n"])
def refuses(work: Work, chunk: Chunk, context: Context) -> int:
    """Fails where it should look at the work."""
    raise Invalid("n", work["n"], "what it likes")


def _computes() -> bool:
    """Whether this is a compute process, and not a gateway or a worker."""
    main = sys.modules["__main__"].__spec__
    return main is not None and main.name == "tallymesh_worker.child"


def _validate(work: Work) -> None:
    if work["where"] == "gateway":
        sys.exit("no")
    if _computes():
        print("validating")
        if work["where"] == "dies":
            os._exit(8)
        while work["where"] == "loops":
            pass


@kernel("bad.validates", validate=_validate)
def validates(work: Work, chunk: Chunk, context: Context) -> int:
    """Validates badly."""
    return 1


@kernel("bad.plans", plan=lambda work: sys.exit(work["code"]))
def plans(work: Work, chunk: Chunk, context: Context) -> int:
    """Plans badly."""
    return 1


@kernel("bad.closes")
def closes(work: Work, chunk: Chunk, context: Context) -> int:
    """Closes what it prints to, and puts something else into its place."""
    print("before")
    sys.stdout.close()
    print("after")
    sys.stderr = None
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    return 1


@kernel("bad.exits")
def exits(work: Work, chunk: Chunk, context: Context) -> int:
    """Ends its process in the polite way."""
    sys.exit(work["code"])


@kernel("bad.quits")
def quits(work: Work, chunk: Chunk, context: Context) -> int:
    """Ends its process in the other way."""
    context.log("about to quit")
    os._exit(7)


def nested(depth: int) -> Any:
    """Lists within each other."""
    inner: Any = 1
    for _ in range(depth):
        inner = [inner]
    return inner


class _Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@kernel("bad.says")
def says(work: Work, chunk: Chunk, context: Context) -> int:
    """Raises what cannot be put into words."""
    if work["what"] == "surrogate":
        raise ValueError("half of \ud800 a pair")
    if work["what"] == "base":
        raise BaseException("not even an Exception")  # noqa: TRY002
    raise _Unspeakable


@kernel("bad.progresses")
def progresses(work: Work, chunk: Chunk, context: Context) -> int:
    """Tells of progress as it likes."""
    context.progress(float(work["fraction"]))
    return 1


@kernel("bad.returns", merge=lambda a, b: a)
def returns(work: Work, chunk: Chunk, context: Context) -> Any:
    """Returns what is not JSON."""
    return {
        "set": {1},
        "bytes": b"x",
        "nan": float("nan"),
        "deep": {"a": [object()]},
        "huge": 2**64,
        "surrogate": "\ud800",
        "nested": nested(work.get("depth", 0)),
        "long": "x" * 2**20,
        "iterator": iter([]),
    }[work["what"]]


@kernel("bad.sums")
def sums(work: Work, chunk: Chunk, context: Context) -> Any:
    """Returns what cannot be summed, for more than one chunk."""
    return {"float": 0.5, "bool": True, "none": None}[work["what"]]


@kernel("bad.merges", merge=lambda a, b: {a, b}, finish=lambda work, total: total)
def merges(work: Work, chunk: Chunk, context: Context) -> Any:
    """Merges into what is not JSON."""
    return chunk.index


@kernel("bad.loops")
def loops(work: Work, chunk: Chunk, context: Context) -> int:
    """Does not end, and does not listen."""
    print("for ever")
    while True:
        pass


@kernel("bad.forks")
def forks(work: Work, chunk: Chunk, context: Context) -> int:
    """Goes on twice, and leaves a process and a thread behind."""
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1e6)", work["mark"]])
    threading.Thread(target=time.sleep, args=(1e6,), daemon=True).start()
    if os.fork() == 0:
        context.log("the forked one")
        return 1000
    return 1


_kept: list[bytes] = []


@kernel("bad.leaks")
def leaks(work: Work, chunk: Chunk, context: Context) -> int:
    """Keeps what it allocates."""
    _kept.append(os.urandom(work["mib"] << 20))
    return 1
