"""Of several libraries the newest is taken, and what is taken is told with its reason."""

import pytest
from packaging.version import Version

from tallymesh_kernels import describe_libraries, primecount, shared_library
from tallymesh_kernels import sieve as sieve_module
from tallymesh_kernels.numpy_sieve import NumpySieve
from tallymesh_kernels.primecount import Primecount
from tallymesh_kernels.primesieve import Primesieve
from tallymesh_kernels.shared_library import SharedLibrary
from tests.harness.tools import missing


class Stub(SharedLibrary):
    """A library whose path is its version; "broken" does not load."""

    name = "stub"

    def __init__(self, path: str, origin: str) -> None:
        if path == "broken":
            raise OSError(path)
        self.version, self.origin = path, origin


@pytest.mark.parametrize(
    ("found", "chosen", "reason"),
    [
        ({"system": "11.0", "wheel": "12.9"}, "wheel", "newer than 11.0 (system)"),
        ({"system": "12.9", "wheel": "11.0"}, "system", "newer than 11.0 (wheel)"),
        ({"system": "12.13", "wheel": "12.9"}, "system", "newer than 12.9 (wheel)"),
        ({"system": "9.9", "wheel": "12.9"}, "wheel", "newer than 9.9 (system)"),
        ({"system": "12.9", "wheel": "12.9"}, "system", "as new as 12.9 (wheel)"),
        ({"wheel": "12.9"}, "wheel", "the only one here"),
        ({"system": "broken", "wheel": "12.9"}, "wheel", "the only one here"),
    ],
)
def test_the_newest_is_taken(
    found: dict[str, str], chosen: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        shared_library, "candidates", lambda name: ((found[place], place) for place in found)
    )
    newest = Stub.newest()
    assert newest is not None
    assert (newest[0].origin, newest[1]) == (chosen, reason)


@pytest.mark.parametrize("library", [Primesieve, Primecount])
def test_the_newest_of_real_ones_is_taken(library: type[SharedLibrary]) -> None:
    versions = {
        origin: library(path, origin).version
        for path, origin in shared_library.candidates(library.name)
    }
    if versions.keys() != {"system", "wheel"}:
        missing(f"lib{library.name} in the system and its wheel")
    assert versions["system"] != versions["wheel"], "equal ones prove nothing"
    newest = library.newest()
    assert newest is not None
    taken, reason = newest
    assert Version(taken.version) == max(Version(version) for version in versions.values())
    (other,) = versions.keys() - {taken.origin}
    assert reason == f"newer than {versions[other]} ({other})"


def test_what_is_taken_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TALLYMESH_SIEVE", raising=False)
    library = Stub("12.9", "wheel")
    for kind in (Primesieve, Primecount):
        monkeypatch.setattr(kind, "newest", lambda: (library, "newer than 11.0 (system)"))
    primecount.choose_primecount.cache_clear()
    try:
        told = "libstub 12.9 (wheel): newer than 11.0 (system)"
        assert describe_libraries() == (told, told)
    finally:
        primecount.choose_primecount.cache_clear()


def test_what_there_is_not_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TALLYMESH_SIEVE", raising=False)
    numpy = NumpySieve().describe()
    for kind in (Primesieve, Primecount):
        monkeypatch.setattr(kind, "newest", lambda: None)
    primecount.choose_primecount.cache_clear()
    no_formulas = "there is no libprimecount in the system, nor its wheel"
    assert describe_libraries() == (f"{numpy}: there is no libprimesieve", no_formulas)
    monkeypatch.setenv("TALLYMESH_SIEVE", "numpy")
    assert describe_libraries() == (f"{numpy}: TALLYMESH_SIEVE says so", no_formulas)
    monkeypatch.setenv("TALLYMESH_SIEVE", "libprimesieve")
    sieve, _ = describe_libraries()
    assert sieve.startswith("TALLYMESH_SIEVE: there is no libprimesieve")
    # Longer lines than the mesh takes would have it refuse the worker's every call.
    monkeypatch.setenv("TALLYMESH_SIEVE", "x" * 1000)
    sieve, _ = describe_libraries()
    assert len(sieve) == 255


def test_the_sieve_that_is_taken_is_the_one_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TALLYMESH_SIEVE", raising=False)
    sieve, reason = sieve_module.choose_sieve()
    assert describe_libraries()[0] == f"{sieve.describe()}: {reason}"
    assert sieve_module.open_sieve().describe() == sieve.describe()
