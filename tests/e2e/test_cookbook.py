"""Every recipe of the cookbook does what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.local_mesh import LocalMesh
from tests.harness.tools import require

COOKBOOK = Path(__file__).parents[2] / "docs" / "cookbook.md"
RECIPE = re.compile(
    r"^## (?P<title>.+?)$.*?^```(?P<language>python|bash)\n(?P<code>.*?)^```$"
    r"\s*^```text\n(?P<output>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
RECIPES = {found["title"]: found for found in RECIPE.finditer(COOKBOOK.read_text())}


def test_none_is_left_out() -> None:
    assert list(RECIPES) == re.findall(r"^## (.+)$", COOKBOOK.read_text(), re.MULTILINE)
    assert len(RECIPES) >= 10


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe(mesh: LocalMesh, title: str) -> None:
    recipe = RECIPES[title]
    if recipe["language"] == "bash":
        for tool in ("curl", "jq"):
            require(tool)
        command = ["bash", "-euo", "pipefail", "-c", recipe["code"]]
    else:
        command = [sys.executable, "-W", "error", "-c", recipe["code"]]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PATH": path, "TALLYMESH_ADDRESS": mesh.address},
    )
    assert (done.returncode, done.stdout) == (0, recipe["output"]), done.stderr
