"""What holds for the repository as a whole, and no compiler checks."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("services", "clients/python/tallymesh")

#: A name that ends in an underscore is a prefix, or the start of a pattern.
VARIABLE = re.compile(r"\bTALLYMESH_[A-Z_]*[A-Z]\b")
LUA = sorted((ROOT / "services" / "core").rglob("*.lua"))


def tracked() -> Iterator[tuple[str, str]]:
    """Yields the path and text of every text file that git tracks, or would."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in names.splitlines():
        try:
            yield name, (ROOT / name).read_text()
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue


def pyproject(folder: str = ".") -> dict[str, Any]:
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text())


def locked_versions() -> dict[str, str]:
    lock = (ROOT / "requirements.lock").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock, re.MULTILINE))


def wanted() -> Iterator[Requirement]:
    """Yields every requirement that the two distributions and the tools state."""
    server, client = pyproject(), pyproject("clients/python")
    groups = (
        server["build-system"]["requires"],
        server["project"]["dependencies"],
        *server["project"]["optional-dependencies"].values(),
        *server["dependency-groups"].values(),
        client["build-system"]["requires"],
        client["project"]["dependencies"],
    )
    for group in groups:
        yield from map(Requirement, group)


def settings_read() -> set[str]:
    """The TALLYMESH_* variables that are named, or declared as a field of settings."""
    compose = (ROOT / "docker-compose.yml").read_text()
    names: set[str] = set(VARIABLE.findall(compose))
    for folder in SOURCES:
        for path in (ROOT / folder).rglob("*.py"):
            source = path.read_text()
            names |= set(VARIABLE.findall(source))
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.ClassDef) and _is_settings(node):
                    names |= {f"TALLYMESH_{field}".upper() for field in _fields(node)}
    return names


def _is_settings(node: ast.ClassDef) -> bool:
    return any(isinstance(base, ast.Name) and base.id.endswith("Settings") for base in node.bases)


def _fields(node: ast.ClassDef) -> Iterator[str]:
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            yield item.target.id


def test_no_file_names_a_folder_of_a_machine() -> None:
    machine = re.compile(r"(?<![\w.])/(?:work|root|home|Users)/[\w.]")
    found = [
        f"{name}:{number}"
        for name, text in tracked()
        for number, line in enumerate(text.splitlines(), 1)
        if machine.search(line)
    ]
    assert not found


def test_no_lock_or_configuration_names_where_packages_come_from() -> None:
    source = re.compile(
        r"""(?<!emit)-index-url|--find-links|\bindex-url\s*=|\bregistry\s*=|"resolved":""",
    )
    kinds = (".lock", ".json", ".toml", ".cfg", ".ini", ".conf", ".npmrc", ".yaml", ".yml")
    found = [
        name
        for name, text in tracked()
        if name.endswith(kinds) and not name.startswith("clients/web/dist") and source.search(text)
    ]
    assert not found


@pytest.mark.parametrize("requirement", list(wanted()), ids=str)
def test_the_lock_satisfies(requirement: Requirement) -> None:
    if requirement.name == "tallymesh-client":
        assert requirement.specifier.contains(pyproject("clients/python")["project"]["version"])
        return
    version = locked_versions()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version), f"the lock has {version}: make lock"


def test_both_distributions_have_one_version() -> None:
    assert pyproject()["project"]["version"] == pyproject("clients/python")["project"]["version"]


def test_every_setting_is_in_the_example_environment() -> None:
    example = (ROOT / ".env.example").read_text()
    documented = set(re.findall(r"^#?\s?(TALLYMESH_\w+)=", example, re.MULTILINE))
    assert documented == settings_read()


def test_every_package_is_marked_as_typed() -> None:
    packages = [
        *(path.parent for path in (ROOT / "services").glob("*/tallymesh_*/__init__.py")),
        ROOT / "clients" / "python" / "tallymesh",
    ]
    assert not [package.name for package in packages if not (package / "py.typed").exists()]


@pytest.mark.parametrize("script", LUA, ids=lambda path: path.stem)
def test_a_script_says_what_it_takes_and_returns(script: Path) -> None:
    included = set(re.findall(r"^--!include (\w+)$", _all_lua(), re.MULTILINE))
    header = re.match(r"(?:#!lua flags=allow-oom\n)?(?:--.*\n)+", script.read_text())
    assert header, "a script begins with a comment: what it does, and when"
    if script.stem not in included:
        for part in ("KEYS", "ARGV", "RETURNS"):
            assert re.search(rf"^-- {part}\b", header[0], re.MULTILINE), f"the header lacks {part}"


def _all_lua() -> str:
    return "\n".join(path.read_text() for path in LUA)
