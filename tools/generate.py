"""Generates everything that is derived from protos/: run by `make generate`, checked by CI.

Writes the Python stubs and the retry policy (clients/python/tallymesh/v1) and Envoy's descriptor
set (services/edge/tallymesh_edge/tallymesh.binpb). The TypeScript stubs are made by
`npm run generate` in clients/web.
"""

import shutil
import sys
from importlib import resources
from pathlib import Path

from google.api import annotations_pb2
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
THIRD_PARTY = ROOT / ".third_party" / "protos"
PACKAGE = "tallymesh/v1"
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


def run_protoc(*options: str) -> None:
    """Runs protoc over all our protos, or ends the process with its exit code."""
    well_known = str(resources.files("grpc_tools").joinpath("_proto"))
    files = sorted(str(path.relative_to(PROTOS)) for path in (PROTOS / PACKAGE).glob("*.proto"))
    arguments = ["protoc", f"-I{PROTOS}", f"-I{THIRD_PARTY}", f"-I{well_known}", *options, *files]
    if code := protoc.main(arguments):
        sys.exit(code)


def main() -> None:
    """Generates the Python stubs and the descriptor set afresh."""
    copy_third_party()
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


if __name__ == "__main__":
    main()
