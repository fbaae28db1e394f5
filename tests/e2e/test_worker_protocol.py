"""A worker by hand, as the document shows it."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.e2e.conftest import CommandLine
from tests.harness.local_mesh import LocalMesh
from tests.harness.polling import eventually_sync
from tests.harness.rest import Rest
from tests.harness.tools import require

DOCUMENT = Path(__file__).parents[2] / "docs" / "worker-protocol.md"
#: The job's id as the document has it.
SHOWN_JOB = "1m80bxc6859yzg00"


def commands() -> list[str]:
    """What is to be typed, in order: lines after a prompt, with those in which a quote goes on."""
    section = DOCUMENT.read_text().partition("## By hand")[2].partition("\n## ")[0]
    found: list[str] = []
    for block in re.findall(r"(?:^    .*\n)+", section, re.MULTILINE):
        for line in block.splitlines():
            if line.startswith("    $ "):
                found.append(line.removeprefix("    $ "))
            elif found and is_unfinished(found[-1]):
                found[-1] += f"\n{line}"
    return found


def is_unfinished(command: str) -> bool:
    try:
        shlex.split(command)
    except ValueError:
        return True
    return False


def test_a_worker_by_hand_is_as_the_document_shows(
    mesh: LocalMesh, rest: Rest, cli: CommandLine
) -> None:
    require("curl")
    said: list[str] = []
    job = ""

    def run(command: str) -> Any:
        """Runs a command after all that has been set by those before it."""
        settings = [one for one in said if re.match(r"[A-Z]+=", one)]
        said.append(command)
        script = "\n".join((*settings, command))
        for shown, real in ((SHOWN_JOB, job or SHOWN_JOB), ("localhost:8080", mesh.address)):
            script = script.replace(shown, real)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script.replace("curl ", "curl -fsS ")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "TALLYMESH_ADDRESS": mesh.address,
            },
        )
        assert done.returncode == 0, (script, done.stdout, done.stderr)
        return json.loads(done.stdout) if "curl" in command else done.stdout

    submit, me, ask, chunk, progress, fail, again, chunk_again, result, leave = commands()
    job = run(submit).strip().removeprefix("jobs/")
    run(me)
    given = run(ask)["assignments"][0]["chunks"]
    run(chunk)
    assert given == told(chunk, job)
    run(progress)
    assert rest.get(f"/v1/jobs/{job}")["progress"]["fraction"] == 0.25
    run(fail)
    assert rest.get(f"/v1/jobs/{job}")["failed_attempts"] == "1"
    given = run(again)["assignments"][0]["chunks"]
    run(chunk_again)
    assert given == told(chunk_again, job)
    counted = run(result)
    assert (counted["accepted"], counted["refused"]) == ("1", "0")
    run(leave)
    done = rest.get(f"/v1/jobs/{job}")
    assert (done["state"], done["handled_by"]) == ("STATE_SUCCEEDED", {"by-hand": "1"})
    # By then silence alone would not have ended it.
    eventually_sync(
        lambda: "my-first-worker" not in json.dumps(rest.get("/v1/health")),
        timeout=4,
        message="the worker having left",
    )


def told(setting: str, job: str) -> Any:
    """The chunk that the document names."""
    return json.loads(setting.partition("=")[2].strip("'").replace(SHOWN_JOB, job))
