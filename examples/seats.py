"""Sells seats until there are none left, from any number of places at once.

An add is made only while the sum is the one that was looked at: who loses against another looks
again. Run it twice beside each other against a mesh that is up:

    python examples/seats.py 100
"""

import sys
from uuid import uuid4

from tallymesh import Client, EtagMismatch
from tallymesh.abacus import Abacus


def sell(sold: Abacus, seats: int) -> bool:
    """Sells one seat, if there is one left."""
    while True:
        current = sold.read()
        if current.number >= seats:
            return False
        try:
            sold.add(1, expected_etag=current.etag)
        except EtagMismatch:
            continue
        return True


if __name__ == "__main__":
    seats = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    show = sys.argv[2] if len(sys.argv) > 2 else f"show-{uuid4().hex}"
    with Client() as client:
        mine = sum(iter(lambda: sell(client.abacus(show), seats), False))
        print(f"sold {mine} of the {client.abacus(show).sum} seats of {show}")
