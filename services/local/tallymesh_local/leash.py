"""What ends when its parent does, even when that is killed by -9.

`python -m tallymesh_local.leash PARENT_PID SIGNAL PROGRAM ARGUMENT…` asks the kernel for the signal
and becomes the program. It is a program of its own, because code between fork and exec must not
run in a process that has threads.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def tie(parent: str, number: str) -> None:
    """Has the kernel send this process a signal when its parent ends, also through an exec.

    Args:
        parent: Process id of the parent; where it has ended already, so does this process.
        number: The signal.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit(1)


if __name__ == "__main__":
    tie(*sys.argv[1:3])
    os.execv(sys.argv[3], sys.argv[3:])  # noqa: S606
