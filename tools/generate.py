"""Generates everything that is derived from protos/: run by `make generate`, checked by CI.

Writes the Python stubs and the retry policy (clients/python/tallymesh/v1), Envoy's descriptor set
(services/edge/tallymesh_edge/tallymesh.binpb), the OpenAPI document (clients/web/src/openapi.json)
and, where Go is, the Go stubs of the worker in
examples/go-worker. The TypeScript stubs are made by `npm run generate` in clients/web.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from google.api import annotations_pb2
from google.protobuf import descriptor_pb2
from grpc_tools import protoc

from tools.openapi import describe

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
THIRD_PARTY = ROOT / ".third_party" / "protos"
PACKAGE = "tallymesh/v1"
OPENAPI = ROOT / "clients" / "web" / "src" / "openapi.json"
GO_WORKER = ROOT / "examples" / "go-worker"
#: What a worker needs: of a whole API, the one call.
GO_PROTOS = tuple(f"{PACKAGE}/{name}.proto" for name in ("dispatch_service", "errors", "work"))
#: The only third-party protos that ours import, and what those import in turn.
IMPORTED = (
    "google/api/annotations.proto",
    "google/api/field_behavior.proto",
    "google/api/http.proto",
    "google/rpc/error_details.proto",
)


def copy_third_party() -> None:
    """Puts the protos that ours import where buf finds them (.third_party, not committed)."""
    installed = Path(annotations_pb2.__file__).parents[2]
    for name in IMPORTED:
        target = THIRD_PARTY / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(installed / name, target)


def run_protoc(*options: str, files: Sequence[str] = ()) -> None:
    """Runs protoc over these protos (default: all of ours), or ends with its exit code."""
    well_known = str(resources.files("grpc_tools").joinpath("_proto"))
    files = files or sorted(
        str(path.relative_to(PROTOS)) for path in (PROTOS / PACKAGE).glob("*.proto")
    )
    arguments = ["protoc", f"-I{PROTOS}", f"-I{THIRD_PARTY}", f"-I{well_known}", *options, *files]
    if code := protoc.main(arguments):
        sys.exit(code)


def generate_python() -> None:
    """Generates the Python stubs and the descriptor set afresh."""
    python = ROOT / "clients" / "python"
    package = python / PACKAGE
    shutil.rmtree(package, ignore_errors=True)
    run_protoc(
        f"--python_out={python}",
        f"--mypy_out=quiet:{python}",
        f"--grpc_python_out={python}",
        f"--mypy_grpc_out=quiet:{python}",
    )
    for stub in package.glob("*_pb2_grpc.py*"):
        # A file without a service has no gRPC stubs worth importing.
        if not stub.name.startswith(
            tuple(p.stem for p in (PROTOS / PACKAGE).glob("*_service.proto"))
        ):
            stub.unlink()
    (package / "__init__.py").write_text(
        '"""Generated from protos/tallymesh/v1 by `make generate`."""\n'
    )
    shutil.copyfile(PROTOS / PACKAGE / "service_config.json", package / "service_config.json")
    descriptor = ROOT / "services" / "edge" / "tallymesh_edge" / "tallymesh.binpb"
    run_protoc("--include_imports", f"--descriptor_set_out={descriptor}")


def generate_openapi() -> None:
    """Describes the REST API for the page that serves it."""
    with tempfile.TemporaryDirectory() as folder:
        described = Path(folder) / "described.binpb"
        run_protoc(
            "--include_imports", "--include_source_info", f"--descriptor_set_out={described}"
        )
        files = descriptor_pb2.FileDescriptorSet.FromString(described.read_bytes())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    OPENAPI.write_text(describe(files, version))


def generate_go() -> None:
    """Generates the Go stubs afresh, by the plugins that go.mod pins.

    The protos name no Go package, as that is the affair of who uses them: it is told here.
    """
    options = ["paths=source_relative"]
    options += [f"M{name}=tallymesh.dev/examples/go-worker/{PACKAGE}" for name in GO_PROTOS]
    with tempfile.TemporaryDirectory() as plugins:
        installed = subprocess.run(
            ["go", "install", "tool"],  # noqa: S607 - the one on PATH is meant
            cwd=GO_WORKER,
            env={**os.environ, "GOBIN": plugins},
            check=False,
        )
        if installed.returncode:
            sys.exit(installed.returncode)
        shutil.rmtree(GO_WORKER / PACKAGE, ignore_errors=True)
        run_protoc(
            *(f"--plugin={path}" for path in sorted(Path(plugins).iterdir())),
            f"--go_out={','.join(options)}:{GO_WORKER}",
            f"--go-grpc_out={','.join(options)}:{GO_WORKER}",
            files=GO_PROTOS,
        )


def main() -> None:
    """Generates everything."""
    copy_third_party()
    generate_python()
    generate_openapi()
    if shutil.which("go"):
        generate_go()


if __name__ == "__main__":
    main()
