"""A shared sum as it is usually built: FastAPI, and WATCH/MULTI/EXEC until it succeeds.

The sum is a number in Redis. No add is remembered, so one that is sent again counts again.
"""

import os

from fastapi import FastAPI
from pydantic import BaseModel
from redis.asyncio import Redis
from redis.exceptions import WatchError

#: Where the sums are kept; PREFIX before their names keeps them apart from the mesh's own.
STORE_VARIABLE = "PEER_STORE_URL"
PREFIX = "peer:"


class Amount(BaseModel):
    """What is to be added."""

    number: int


class Sum(BaseModel):
    """The sum just after."""

    value: int


def create_app() -> FastAPI:
    """Makes the service."""
    app = FastAPI()
    redis = Redis.from_url(os.environ[STORE_VARIABLE])

    @app.post("/sums/{name}")
    async def add(name: str, amount: Amount) -> Sum:
        key = PREFIX + name
        async with redis.pipeline() as pipe:
            while True:
                try:
                    await pipe.watch(key)
                    value = int(await pipe.get(key) or 0) + amount.number
                    pipe.multi()  # type: ignore[no-untyped-call]
                    pipe.set(key, value)
                    await pipe.execute()
                except WatchError:
                    continue
                return Sum(value=value)

    return app
