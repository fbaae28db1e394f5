"""Kernels of one's own are found, and what is wrong with one is told in a line."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tallymesh_kernels.loading import CannotLoad, load, sources

HEAD = "from tallymesh_kernels import MessageKernel, kernel\n"
SCORE = HEAD + "@kernel('acme.score')\ndef score(work, chunk, context): return 1\n"

Write = Callable[[str, str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a module into the current directory, and returns its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    known = set(sys.modules)

    def write_module(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text)
        return name

    yield write_module
    for name in set(sys.modules) - known:
        del sys.modules[name]


def test_modules_of_the_current_directory_are_found(write: Write) -> None:
    registry = load([write("own_a", SCORE), "tests.harness.own_kernels"])
    assert {"count_primes", "acme.score", "acme.squares", "acme.spell"} <= {*registry.names()}


def test_one_kernel_of_a_module_can_be_named(write: Write) -> None:
    assert "acme.score" in load([f"{write('own_b', SCORE)}:score"]).names()
    with pytest.raises(CannotLoad, match=r"^own_b:other is no kernel: mark"):
        load(["own_b:other"])


def test_a_kernel_that_is_found_twice_is_one(write: Write) -> None:
    write("own_c", SCORE)
    write("again", "from own_c import score\n")
    assert load(["own_c", "again", "own_c:score"]).names().count("acme.score") == 1


def test_what_is_installed_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sources(["one", "two", "one"])[-2:] == ("one", "two")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nowhere_at_all", "cannot be imported: ModuleNotFoundError: No module named"),
        ("1 / 0", "cannot be imported: ZeroDivisionError: division by zero"),
        ("def score(:", "cannot be imported: SyntaxError: invalid syntax"),
        ("raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
        ("pass", "own_bad holds no kernel: mark a function with @kernel"),
        (SCORE.replace("acme.score", "score"), "Invalid: kernel: 'score' is not 3 to 63 charac"),
        (SCORE.replace("acme", "add"), "'add.score' is not free: add is built in"),
        (
            HEAD + "@kernel('a.b', finish=print)\ndef f(w, c, x): return 1\n",
            "kernel a.b has a finish, which needs a merge",
        ),
        (SCORE.replace("score(", "other("), "kernel acme.score is in own_first and in own_bad"),
        (
            HEAD + "class Bare(MessageKernel):\n name = 'a.b'\n run = merge = finish = print\n",
            "Bare of own_bad has no work_type",
        ),
        (
            HEAD + "class Bare(MessageKernel):\n run = merge = finish = print\n",
            "Bare of own_bad: name '' is not 3 to 63 characters",
        ),
    ],
)
def test_what_is_wrong_is_told_in_a_line(write: Write, text: str, said: str) -> None:
    with pytest.raises(CannotLoad) as error:
        load([write("own_first", SCORE), write("own_bad", text)])
    assert said in str(error.value)
    assert "\n" not in str(error.value)
