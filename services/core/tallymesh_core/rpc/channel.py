"""Channels between the services of a mesh."""

import re
from collections.abc import Sequence

import grpc
import grpc.aio

#: Messages to or from the public are at most this long; gRPC's own default.
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
#: A worker receives all partials of a job at once, at most 64 MiB of them, plus framing.
MAX_DISPATCH_BYTES = 80 * 1024 * 1024
#: Seconds between the pings of an idle connection. One constant for both sides: a server cuts who
#: pings more often than it tolerates.
KEEPALIVE_SECONDS = 20
_KEEPALIVE_TIMEOUT_SECONDS = 10

#: What a worker's address may look like, in words.
WORKER_ADDRESS_FORMS = "host:port, dns:///name:port or unix:/path of at most 255 characters"

_WORKER_ADDRESS = re.compile(
    r"unix:/[!-~]{1,107}|(dns:///)?([A-Za-z0-9._-]{1,230}|\[[0-9a-fA-F:.]{2,45}\]):[0-9]{1,5}"
)
# Without a retry policy: gRPC's own retry of a stream and its deadline do not go together.
_SERVICE_CONFIG = '{"loadBalancingConfig": [{"round_robin": {}}]}'


def keepalive_options() -> list[tuple[str, int]]:
    """Returns the options by which a client pings its server."""
    return [
        ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_SECONDS * 1000),
        ("grpc.http2.max_pings_without_data", 0),
    ]


def tolerance_options() -> list[tuple[str, int]]:
    """Returns the options by which a server tolerates such pings, from anyone's client too."""
    return [
        ("grpc.http2.min_recv_ping_interval_without_data_ms", KEEPALIVE_SECONDS * 500),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_ping_strikes", 0),
    ]


def is_worker_address(address: str) -> bool:
    """Tells whether gateways take it for the address of a worker."""
    return _WORKER_ADDRESS.fullmatch(address) is not None


def open_channel(address: str, *, max_receive_bytes: int = MAX_MESSAGE_BYTES) -> grpc.aio.Channel:
    """Opens a channel to one server of the mesh, or to all that a DNS name stands for in turn.

    Args:
        address: A gRPC target: `host:port`, `dns:///name:port` or `unix:/path`.
        max_receive_bytes: Longest answer taken.
    """
    return grpc.aio.insecure_channel(
        address,
        options=[
            *keepalive_options(),
            ("grpc.max_receive_message_length", max_receive_bytes),
            ("grpc.service_config", _SERVICE_CONFIG),
            # A restarted server is to be found again at once; by default it may take 2 min.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ],
    )


def split_addresses(addresses: str) -> Sequence[str]:
    """Returns the addresses of a comma-separated list, as settings hold them."""
    return tuple(part.strip() for part in addresses.split(",") if part.strip())
