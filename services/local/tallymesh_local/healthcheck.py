"""Asks one service for its health, for container engines: exit code 0 if it serves, else 1.

`python -m tallymesh_local.healthcheck ADDRESS SERVICE`
"""

import asyncio
import sys

from tallymesh_local.probes import serves

if __name__ == "__main__":
    sys.exit(0 if asyncio.run(serves(*sys.argv[1:3])) else 1)
