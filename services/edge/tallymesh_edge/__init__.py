"""The edge: Envoy's configuration, rendered from a template for where the services listen."""

from tallymesh_edge.bundle import write_bundle
from tallymesh_edge.config import EdgeConfig, is_origin, render

__all__ = ["EdgeConfig", "is_origin", "render", "write_bundle"]
