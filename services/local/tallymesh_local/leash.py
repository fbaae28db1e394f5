"""Starts a program that ends when its parent does, even when that is killed by -9.

`python -m tallymesh_local.leash PARENT_PID SIGNAL PROGRAM ARGUMENT…` asks the kernel for the signal
and becomes the program. It is a program of its own, because code between fork and exec must not
run in a process that has threads.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Becomes the program that the arguments name."""
    parent, number, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    # The parent may have ended before the kernel was asked.
    if os.getppid() == int(parent):
        os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()
