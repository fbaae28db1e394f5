"""Writes an edge's folder: `python -m tallymesh_edge DIRECTORY --gateway … --abacus …`."""

import argparse
import sys
from pathlib import Path

from tallymesh_edge.bundle import write_bundle
from tallymesh_edge.config import EdgeConfig


def main() -> int:
    """Writes the folder that the arguments ask for; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tallymesh_edge",
        description="Writes a folder with all that Envoy needs to be the edge of a mesh.",
    )
    parser.add_argument("directory", type=Path, help="an existing folder, at the path it will have")
    parser.add_argument(
        "--gateway", action="append", required=True, help="host:port or unix:/path; may repeat"
    )
    parser.add_argument(
        "--abacus", action="append", required=True, help="host:port or unix:/path; may repeat"
    )
    parser.add_argument("--host", default="127.0.0.1", help="IP address to listen on")
    parser.add_argument("--port", type=int, default=8080, help="port to listen on")
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        help="host name by which clients call it, besides those of this machine; may repeat",
    )
    parser.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        help="origin whose pages may call it, such as https://app.example; may repeat",
    )
    given = parser.parse_args()
    if not given.directory.is_dir():
        parser.error(f"{given.directory} is not a folder")
    try:
        config = EdgeConfig(
            gateways=given.gateway,
            abaci=given.abacus,
            host=given.host,
            port=given.port,
            names=given.name,
            origins=given.allow_origin,
        )
        write_bundle(given.directory, config)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
