"""What a gateway needs to know."""

from pydantic import Field

from tallymesh_core.config.settings import StoreSettings


class GatewaySettings(StoreSettings):
    """Settings of a gateway.

    Attributes:
        listen: Default 127.0.0.1:7101.
        abacus: gRPC address of the abacus service; where jobs' totals are entered.
        backlog_limit: Most unfinished jobs of a tenant on a shard: at least 1.
    """

    listen: str = "127.0.0.1:7101"
    abacus: str = "127.0.0.1:7102"
    backlog_limit: int = Field(default=1_000_000, ge=1)
