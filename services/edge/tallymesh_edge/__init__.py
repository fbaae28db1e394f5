"""The edge: Envoy's configuration, rendered from a template for where the services listen."""

from tallymesh_edge.bundle import write_bundle
from tallymesh_edge.config import EdgeConfig, render

__all__ = ["EdgeConfig", "render", "write_bundle"]
