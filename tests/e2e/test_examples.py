"""The examples do what they say."""

import re
import shutil
import sys
from pathlib import Path
from subprocess import PIPE, Popen
from uuid import uuid4

from tallymesh import Client
from tests.harness.local_mesh import LocalMesh
from tests.harness.processes import Processes

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_seats_are_sold_once(mesh: LocalMesh, client: Client) -> None:
    show = f"show-{uuid4().hex}"
    sellers = [
        Popen(
            [sys.executable, EXAMPLES / "seats.py", "40", show],
            env={"TALLYMESH_ADDRESS": mesh.address},
            stdout=PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    said = [seller.communicate(timeout=30)[0] for seller in sellers]
    sold = [int(re.match(r"sold (\d+) of the 40 seats", text)[1]) for text in said]  # type: ignore[index]
    assert sum(sold) == 40
    assert client.abacus(show).read().value == "40"


def test_the_template_of_a_kernel_is_copied_run_and_tested(
    processes: Processes, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(EXAMPLES / "kernel", mine)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    run = processes.start(command, cwd=mine)
    assert run.wait(90) == 0, run.output()
    assert "6 passed" in run.output()
