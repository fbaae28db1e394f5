"""The machine on which figures were measured, and how busy it was with other things."""

import os
import platform
import re
import resource
import subprocess
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

from tallymesh_kernels import describe_sieve
from tallymesh_local.binaries import find_envoy, find_valkey

_BUSY = ("user", "nice", "system", "irq", "softirq", "steal")


@dataclass(frozen=True, slots=True)
class Conditions:
    """Where and when figures were measured.

    Attributes:
        date: When, UTC.
        machine: Processor, cores that may be used, memory, kernel.
        software: Name and version of everything that matters.
        load_before: Load average over a minute, before.
        load_after: Likewise, after.
        cores_others_used: How many cores were busy with other things, on average.
        seconds: How long it all took.
    """

    date: str
    machine: str
    software: str
    load_before: float
    load_after: float
    cores_others_used: float
    seconds: float

    def as_json(self) -> dict[str, object]:
        return asdict(self)

    def __str__(self) -> str:
        others = f"other processes kept {self.cores_others_used:.2f} cores busy"
        quiet = self.cores_others_used < 0.1
        return (
            f"{self.date}, {self.seconds:.0f} s. {self.machine}; {self.software}. Load average "
            f"{self.load_before:.1f} before, {self.load_after:.1f} after; {others} meanwhile"
            f"{'' if quiet else ', so absolute figures are worse than on a quiet machine'}."
        )


class Watch:
    """Looks at the machine from its making until it is asked."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._busy = _busy_seconds()
        self._own = _own_seconds()
        self._load = os.getloadavg()[0]

    def conditions(self) -> Conditions:
        """Tells of the time since; what was started meanwhile is to have ended."""
        seconds = time.monotonic() - self._begun
        others = (_busy_seconds() - self._busy) - (_own_seconds() - self._own)
        return Conditions(
            date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            machine=_machine(),
            software=_software(),
            load_before=self._load,
            load_after=os.getloadavg()[0],
            cores_others_used=max(0.0, others / seconds),
            seconds=seconds,
        )


def _busy_seconds() -> float:
    """Time of all cores that anybody used."""
    times = psutil.cpu_times()
    return float(sum(getattr(times, kind) for kind in _BUSY))


def _own_seconds() -> float:
    """Time of cores that this process used and those that it has started and seen end."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _machine() -> str:
    cores = len(os.sched_getaffinity(0))
    gib = psutil.virtual_memory().total / 2**30
    return f"{cores} cores ({_processor()}), {gib:.0f} GiB, Linux {platform.release()}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _software() -> str:
    valkey = _version_of(find_valkey())
    envoy = _version_of(find_envoy())
    packages = ", ".join(f"{name} {version(name)}" for name in ("grpcio", "protobuf", "redis"))
    return (
        f"tallymesh {version('tallymesh')}, Python {platform.python_version()}, {packages}, "
        f"Valkey {valkey}, Envoy {envoy}, {describe_sieve()}"
    )


def _version_of(program: Path) -> str:
    command = (str(program), "--version")
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=10)
    found = re.search(r"\b\d+\.\d+\.\d+\b", run.stdout)
    return found[0] if found else "of unknown version"
