"""The channel to a mesh."""

from __future__ import annotations

import json
from importlib import resources

import grpc

from tallymesh.address import Target, parse_address

# Services of the mesh tolerate a ping every 10 s.
_KEEPALIVE_MILLISECONDS = 20_000
_KEEPALIVE_TIMEOUT_MILLISECONDS = 10_000


def open_channel(address: str) -> grpc.Channel:
    """Opens a channel with the mesh's retry policy, without yet connecting.

    Args:
        address: As parse_address takes it; its errors apply.
    """
    target = parse_address(address)
    return grpc.insecure_channel(target.name, options=make_options(target))


def make_options(target: Target) -> list[tuple[str, str | int]]:
    """Returns the options of a channel to a target."""
    config = json.loads(resources.files("tallymesh.v1").joinpath("service_config.json").read_text())
    if target.shared:
        config["loadBalancingConfig"] = [{"round_robin": {}}]
    options: list[tuple[str, str | int]] = [
        ("grpc.service_config", json.dumps(config)),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MILLISECONDS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MILLISECONDS),
        # Results of up to 1 MiB come many in a message; gRPC alone would take 4 MiB.
        ("grpc.max_receive_message_length", -1),
        # A mesh that comes back is found within a second; gRPC would wait up to 2 min.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
    ]
    if target.local:
        # A proxy of the environment is for the way out, not for this machine.
        options.append(("grpc.enable_http_proxy", 0))
    return options
