"""An edge as one folder: for an Envoy that runs in a container or on a machine of its own."""

import shutil
from dataclasses import replace
from pathlib import Path

from tallymesh_edge.config import EdgeConfig, default_descriptor_set, default_page, render


def write_bundle(directory: Path, config: EdgeConfig) -> Path:
    """Writes Envoy's configuration and every file that it names into `directory`.

    The folder is to be found under the same path where Envoy runs.

    Returns:
        The path of the configuration, `envoy.yaml`.
    """
    page = directory / "page"
    descriptor_set = directory / "tallymesh.binpb"
    shutil.copytree(config.page or default_page(), page, dirs_exist_ok=True)
    shutil.copyfile(config.descriptor_set or default_descriptor_set(), descriptor_set)
    path = directory / "envoy.yaml"
    path.write_text(render(replace(config, page=page, descriptor_set=descriptor_set)))
    return path
