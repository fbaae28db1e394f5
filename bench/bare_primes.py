"""libprimesieve without a mesh: `python -m bench.bare_primes STOP THREADS [CHUNKS]`.

Prints the count of the primes to STOP and the seconds that it took, without those of the start of
Python. With CHUNKS the threads count slice by slice, each slice by the one thread that takes it.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from ctypes import CDLL, c_int, c_uint64
from ctypes.util import find_library

from tallymesh_kernels.kernel import Chunk
from tallymesh_kernels.shared_library import wheel_library


def _main(stop: int, threads: int, chunks: int = 1) -> None:
    library = CDLL(find_library("primesieve") or wheel_library("primesieve"))
    count = library.primesieve_count_primes
    count.argtypes, count.restype = (c_uint64, c_uint64), c_uint64
    library.primesieve_set_num_threads.argtypes = (c_int,)
    library.primesieve_set_num_threads(threads if chunks == 1 else 1)

    def count_slice(index: int) -> int:
        begin, end = Chunk(index, chunks).of(stop + 1)
        return int(count(begin, end - 1))

    begun = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        total = sum(pool.map(count_slice, range(chunks)))
    print(total, time.perf_counter() - begun)


if __name__ == "__main__":
    _main(*map(int, sys.argv[1:]))
