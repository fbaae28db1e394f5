"""What is asked of a store, by name."""

from enum import Enum


class Condition(Enum):
    """What is asked of a store, by the names of TALLYMESH_STORE_TOLERATE."""

    #: It evicts no keys, and has evicted none.
    EVICTION = "eviction"
    #: It is Valkey, or a Redis that is new enough.
    VERSION = "version"
    #: What stands under Tallymesh's keys is Tallymesh's.
    KEYS = "keys"
    #: It has lost nothing while it was in use.
    LOSS = "loss"
