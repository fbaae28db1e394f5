"""One role of a mesh as a process on a leash.

`python -m tallymesh_local.role PARENT_PID SIGNAL gateway|worker|abacus`
"""

import sys
from importlib import import_module

from tallymesh_local.leash import tie

if __name__ == "__main__":
    tie(*sys.argv[1:3])
    sys.exit(import_module(f"tallymesh_{sys.argv[3]}.app").main(()))
