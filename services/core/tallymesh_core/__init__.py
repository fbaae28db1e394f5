"""What the services of a mesh share: domain, store, rpc, config and telemetry."""

from importlib.metadata import version

#: Version of the running program.
__version__ = version("tallymesh")
