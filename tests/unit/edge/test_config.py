"""Every configuration that can be rendered is one that Envoy takes."""

import subprocess
import sys
from pathlib import Path

import pytest

from tallymesh_edge import EdgeConfig, render, write_bundle
from tests.harness.tools import require

CONFIGS = {
    "sockets": EdgeConfig(gateways=["unix:/run/g1.sock", "unix:/run/g2.sock"], abaci=["unix:/a"]),
    "addresses": EdgeConfig(gateways=["127.0.0.1:7001", "[::1]:7001"], abaci=["10.0.0.1:1"]),
    "names": EdgeConfig(gateways=["gateway:7001"], abaci=["abacus.mesh.internal:7002"]),
    "everything": EdgeConfig(
        gateways=["unix:/run/g1.sock"],
        abaci=["abacus:7002"],
        host="::",
        port=443,
        node="edge-1",
        admin_socket=Path("/tmp/tallymesh-test-admin.sock"),
        access_log=Path("/dev/stdout"),
    ),
}


def validate(path: Path) -> None:
    checked = subprocess.run(
        [require("envoy"), "--mode", "validate", "--log-level", "error", "-c", path],
        check=False,
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("name", CONFIGS)
def test_envoy_takes_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / "envoy.yaml"
    path.write_text(render(CONFIGS[name]))
    validate(path)


def test_names_are_looked_up_and_addresses_are_not() -> None:
    assert "STRICT_DNS" not in render(CONFIGS["sockets"])
    assert "STRICT_DNS" not in render(CONFIGS["addresses"])
    assert render(CONFIGS["names"]).count("STRICT_DNS") == 2


@pytest.mark.parametrize("address", ["gateway", "gateway:", ":7001", "gateway:0", "gateway:65536"])
def test_an_address_that_is_none_is_named(address: str) -> None:
    with pytest.raises(ValueError, match=f"'{address}' is neither unix:/path nor host:port"):
        render(EdgeConfig(gateways=[address], abaci=["unix:/a"]))


def test_a_bundle_needs_nothing_outside_itself(tmp_path: Path) -> None:
    page = tmp_path / "page"
    page.mkdir()
    (page / "index.html").write_text("page")
    bundle = tmp_path / "bundle"
    bundle.mkdir()

    path = write_bundle(bundle, EdgeConfig(gateways=["g:1"], abaci=["a:2"], page=page))

    validate(path)
    assert (bundle / "page" / "index.html").read_text() == "page"
    assert str(bundle / "tallymesh.binpb") in path.read_text()
    assert f"{bundle}/page/" in path.read_text()


def test_the_command_names_what_is_wrong(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tallymesh_edge",
        str(tmp_path),
        "--gateway",
        "g",
        "--abacus",
        "a:1",
    ]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "'g' is neither unix:/path nor host:port" in ended.stderr
