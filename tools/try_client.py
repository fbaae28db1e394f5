"""Tries a client that is installed by itself, without the services, on a mesh of this checkout."""

import os
import subprocess
import sys

from tallymesh.testing import mesh

_PROGRAM = """
import asyncio
from decimal import Decimal
from tallymesh import AsyncClient, Client

async def add():
    async with AsyncClient() as client:
        return await client.add("0.1", "0.2")

with Client() as client:
    assert client.count_primes(10**6) == 78498
assert asyncio.run(add()) == Decimal("0.3")
"""


def main() -> None:
    """Uses the client whose programs are in the folder that the first argument names."""
    folder = sys.argv[1]
    with mesh() as running:
        environment = os.environ | {"TALLYMESH_ADDRESS": running.address}
        for command in (["python", "-c", _PROGRAM], ["tallymesh", "primes", "1e6"]):
            command[0] = f"{folder}/{command[0]}"
            subprocess.run(command, env=environment, timeout=120, check=True)  # noqa: S603


if __name__ == "__main__":
    main()
