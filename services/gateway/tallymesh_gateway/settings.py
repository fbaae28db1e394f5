"""What a gateway needs to know."""

from pydantic import Field

from tallymesh_core.config.settings import KernelSettings, StoreSettings
from tallymesh_core.domain.jobs import TTL_SECONDS


class GatewaySettings(StoreSettings, KernelSettings):
    """Settings of a gateway.

    Attributes:
        listen: Default 127.0.0.1:7101.
        abacus: gRPC address of the abacus service; where jobs' totals are entered.
        backlog_limit: Most unfinished jobs of a tenant on a shard: at least 1.
        job_ttl: Seconds for which a job is kept after its end, unless it says otherwise: 1 to
            31,536,000 (365 days).
    """

    listen: str = "127.0.0.1:7101"
    abacus: str = "127.0.0.1:7102"
    backlog_limit: int = Field(default=1_000_000, ge=1)
    job_ttl: float = Field(default=TTL_SECONDS, ge=1, le=365 * 86_400)
