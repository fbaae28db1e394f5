"""Settings of an abacus node."""

from tallymesh_core.config.settings import StoreSettings


class AbacusSettings(StoreSettings):
    """What an abacus node needs to know. Each attribute is read from TALLYMESH_<NAME>."""

    listen: str = "127.0.0.1:7102"
