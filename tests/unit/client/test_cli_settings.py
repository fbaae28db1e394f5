"""What every command takes: profiles, forms of output and of times, colours, silence."""

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import grpc
import pytest
from click.testing import CliRunner, Result

from tallymesh.cli.root import root
from tallymesh_core.domain.errors import NotFound
from tests.harness.certificates import make_certificates
from tests.unit.client.fake_mesh import NAME, FakeMesh, ended, running_job, snapshot, succeeded_job

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in process, with a file of profiles of its own and nothing said besides."""
    monkeypatch.setenv("TALLYMESH_CONFIG", str(tmp_path / "tallymesh" / "config.ini"))
    for name in ("TALLYMESH_ADDRESS", "TALLYMESH_PROFILE", "TALLYMESH_TOKEN", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)

    def invoke(*arguments: str, color: bool = False) -> Result:
        return CliRunner().invoke(root, arguments, color=color)

    return invoke


def in_force(run: Run, *options: str) -> dict[str, tuple[str, str]]:
    """Value and source of each setting."""
    shown = json.loads(run("config", "show", "-o", "json", *options).stdout)
    return {one["key"]: (one["value"], one["source"]) for one in shown["settings"]}


def commands() -> Iterator[tuple[str, ...]]:
    """All commands of the client, each as its words."""

    def below(group: click.Group, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            if command.callback and command.callback.__module__.startswith("tallymesh_"):
                continue
            yield (*words, name)
            if isinstance(command, click.Group):
                yield from below(command, (*words, name))

    return below(root, ())


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_every_help_has_an_example(run: Run, words: tuple[str, ...]) -> None:
    told = run(*words, "--help")
    assert told.exit_code == 0
    assert "xample" in told.stdout, told.stdout
    assert f"tallymesh {words[0]}" in told.stdout


def test_a_profile_says_where_the_mesh_is(mesh: FakeMesh, run: Run) -> None:
    assert in_force(run)["address"] == ("localhost:8080", "built in")
    assert run("config", "set", "address", mesh.address).exit_code == 0
    assert in_force(run)["address"] == (mesh.address, "profile default")
    assert run("whoami").exit_code == 0
    assert run("whoami", "--address", "localhost:1").exit_code == 5


def test_options_and_environment_go_before_the_profile(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in (("address", "a:1"), ("output", "json"), ("timeout", "2m")):
        run("config", "set", key, value, "--profile", "work")
    work = ("--profile", "work")
    assert in_force(run, *work)["timeout"] == ("120s", "profile work")
    assert in_force(run, *work, "--timeout", "3s")["timeout"] == ("3s", "option")
    monkeypatch.setenv("TALLYMESH_ADDRESS", "b:2")
    assert in_force(run, *work)["address"] == ("b:2", "TALLYMESH_ADDRESS")
    assert in_force(run, *work, "--address", "c:3")["address"] == ("c:3", "option")
    monkeypatch.setenv("TALLYMESH_PROFILE", "work")
    assert in_force(run)["timeout"] == ("120s", "profile work")


def test_profiles_are_chosen_listed_and_deleted(run: Run) -> None:
    run("config", "set", "address", "a:1", "--profile", "work")
    assert run("config", "use", "work").exit_code == 0
    listed = json.loads(run("config", "list", "-o", "json").stdout)["profiles"]
    assert [(one["name"], one["used"]) for one in listed] == [("default", False), ("work", True)]
    assert in_force(run)["address"] == ("a:1", "profile work")
    assert run("config", "unset", "address").exit_code == 0
    assert in_force(run)["address"] == ("localhost:8080", "built in")
    assert run("config", "delete", "work").exit_code == 0
    assert "* " in run("config", "list").stdout
    listed = json.loads(run("config", "list", "-o", "json").stdout)["profiles"]
    assert [(one["name"], one["used"]) for one in listed] == [("default", True)]


def test_a_profile_that_is_deleted_is_not_chosen_any_more(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("config", "set", "address", "a:1", "--profile", "work")
    run("config", "set", "address", "b:1", "--profile", "other")
    run("config", "use", "work")
    monkeypatch.setenv("TALLYMESH_PROFILE", "other")
    assert "here it says other" in run("config", "use", "work").stderr
    assert run("config", "delete", "work").exit_code == 0
    monkeypatch.delenv("TALLYMESH_PROFILE")
    assert in_force(run)["address"] == ("localhost:8080", "built in")


def test_tls_and_a_token(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # On each Python as on 3.13 and newer, which would refuse this certificate; gRPC accepts it.
    context = ssl.create_default_context

    def strict(**options: Any) -> ssl.SSLContext:
        made = context(**options)
        made.verify_flags |= ssl.VERIFY_X509_STRICT
        return made

    monkeypatch.setattr(ssl, "create_default_context", strict)
    certificates = make_certificates(tmp_path)
    pair = (certificates.key.read_bytes(), certificates.certificate.read_bytes())
    with closing(FakeMesh(grpc.ssl_server_credentials([pair]))) as secure:
        port = secure.address.rpartition(":")[2]
        assert run("config", "set", "address", f"https://localhost:{port}").exit_code == 0
        assert run("config", "set", "ca", str(certificates.authority)).exit_code == 0
        assert "s3cret" not in run("config", "set", "token", "s3cret").output
        assert run("whoami").exit_code == 0
        assert secure.metadata[-1]["authorization"] == "Bearer s3cret"
        monkeypatch.setenv("TALLYMESH_TOKEN", "other")
        assert run("whoami").exit_code == 0
        assert secure.metadata[-1]["authorization"] == "Bearer other"
        shown = run("config", "show").stdout + run("config", "list").stdout
        assert "s3cret" not in shown
        assert "***" in shown
        assert in_force(run)["token"] == ("***", "TALLYMESH_TOKEN")
        examined = run("doctor").stdout
        assert "ok    TLS: spoken, and the certificate is trusted" in examined
        assert "ok    gateway" in examined
        monkeypatch.delenv("TALLYMESH_TOKEN")
        run("config", "delete", "default")
        plain = run("doctor", "--address", f"localhost:{port}")
        assert f"fail  TLS: localhost:{port} speaks nothing but TLS" in plain.stdout
        strange = run("doctor", "--address", f"https://localhost:{port}")
        assert "fail  TLS: no handshake" in strange.stdout
        refused = run("whoami", "--address", f"https://localhost:{port}")
        assert refused.exit_code == 5
        assert refused.stderr == (
            f"error: no mesh answers at https://localhost:{port} over TLS; see: tallymesh doctor\n"
        )


def test_several_at_once_are_one_document_of_json(mesh: FakeMesh, run: Run) -> None:
    address = ("--address", mesh.address, "-o", "json")
    told = json.loads(run("jobs", "cancel", NAME, NAME, "--no-wait", *address).stdout)
    assert [one["name"] for one in told["jobs"]] == [NAME, NAME]
    assert json.loads(run("jobs", "cancel", NAME, "--no-wait", *address).stdout)["name"] == NAME
    mesh.fail("DrainWorker", NotFound("workers/gone"))
    done = run("drain", "gone", "worker-1", *address)
    assert done.exit_code == 1
    assert "workers/gone" in done.stderr
    assert [one["uids"] for one in json.loads(done.stdout)["drained"]] == [["u1", "u2"]]


def test_who_logged_nothing_is_told_beside_the_data(mesh: FakeMesh, run: Run) -> None:
    done = run("jobs", "logs", NAME, "--address", mesh.address)
    assert (done.stdout, done.stderr) == ("", "nothing was logged\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("config", "set", "adress", "a:1"), "adress"),
        (("config", "set", "address", "ftp://x"), "address"),
        (("config", "set", "output", "xml"), "xml"),
        (("config", "set", "timeout", "soon"), "soon"),
        (("config", "set", "timeout", "0"), "'0'"),
        (("config", "set", "ca", "nowhere.pem"), "nowhere.pem"),
        (("config", "set", "output", "json", "--profile", "no good"), "no good"),
        (("config", "set", "output", "json", "--profile", "tallymesh.choice"), "tallymesh.choice"),
        (("config", "unset", "output"), "output"),
        (("config", "use", "nowhere"), "nowhere"),
        (("config", "delete", "nowhere"), "nowhere"),
        (("whoami", "--profile", "nowhere"), "nowhere"),
        (("completion", "tcsh"), "tcsh"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_uses_are_told_in_a_line(run: Run, arguments: tuple[str, ...], said: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert "Traceback" not in done.output


def test_a_broken_file_is_named(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "tallymesh" / "config.ini"
    path.parent.mkdir()
    path.write_text("address = a:1\n")
    done = run("whoami")
    assert done.exit_code == 2
    assert str(path) in done.stderr
    path.write_text("[default]\noutput = xml\n")
    done = run("whoami")
    assert done.exit_code == 2
    assert "'xml' is not one of table, json, jsonl, none" in done.stderr


def test_nothing_but_the_exit_code(mesh: FakeMesh, run: Run) -> None:
    mesh.streams.append([snapshot(running_job()), ended(succeeded_job())])
    done = run("primes", "100", "-o", "none", "--quiet", "--address", mesh.address)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")
    done = run("-q", "jobs", "list", "-o", "none", "--address", mesh.address)
    assert (done.exit_code, done.output) == (0, "")


def test_times_are_written_as_asked(mesh: FakeMesh, run: Run) -> None:
    mesh.job = succeeded_job()
    mesh.job.create_time.FromJsonString("2001-02-03T04:05:06.5Z")
    page = ("jobs", "get", NAME, "--address", mesh.address, "--time-format")
    assert "2001-02-03T04:05:06.500Z" in run(*page, "iso").stdout
    assert " ago" in run(*page, "relative").stdout
    assert "2001-02-0" in run(*page, "local").stdout


def test_colours_can_be_turned_off(
    mesh: FakeMesh, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh.job = succeeded_job()
    page = ("jobs", "get", NAME, "--address", mesh.address)
    assert "\x1b[" in run(*page, color=True).stdout
    assert "\x1b[" not in run(*page, "--no-color", color=True).stdout
    assert "\x1b[" not in run("--no-color", *page, color=True).stdout
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in run(*page, color=True).stdout


def test_a_shell_completes_commands(run: Run, tmp_path: Path) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "_TALLYMESH_COMPLETE" in run("completion", shell).stdout
    script = tmp_path / "completion"
    script.write_text(run("completion", "bash").stdout)
    bash = f"source {script}; COMP_WORDS=(tallymesh jobs ca); COMP_CWORD=2; "
    asked = f"{bash} _tallymesh_completion tallymesh; echo ${{COMPREPLY[@]}}"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", asked],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": path},
    )
    assert done.stdout.split() == ["cancel"], done.stderr
