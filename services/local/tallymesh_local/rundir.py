"""Folders that one mesh has to itself, for as long as it runs."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tallymesh_local.errors import CannotStart

_PREFIX = "tallymesh-up-"
#: A unix socket's path may be 107 bytes long; the names of the sockets need some of them.
_LONGEST_DIRECTORY = 80


@contextmanager
def run_directory() -> Iterator[Path]:
    """Makes a private folder for sockets, and removes it in the end.

    What meshes that were killed left behind is removed too: their folders are locked no more.
    """
    base = _base()
    _remove_stale(base)
    directory, lock = _create(base)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


@contextmanager
def data_directory(directory: Path) -> Iterator[None]:
    """Keeps a folder of data from being used by two meshes at once; makes it if need be.

    Raises:
        CannotStart: Another mesh uses it, or it cannot be written to.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CannotStart(f"data folder {directory} cannot be used: {error.strerror}") from error
    try:
        if not _try_lock(lock):
            raise CannotStart(f"data folder {directory} is in use by another mesh")
        yield
    finally:
        os.close(lock)


def _base() -> Path:
    base = Path(tempfile.gettempdir())
    return base if len(bytes(base)) < _LONGEST_DIRECTORY else Path("/tmp")  # noqa: S108


def _create(base: Path) -> tuple[Path, int]:
    while True:
        directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        lock = os.open(directory, os.O_RDONLY)
        # Another mesh that starts may have taken the folder for a stale one just before the lock.
        if _try_lock(lock) and directory.exists():
            return directory, lock
        os.close(lock)


def _remove_stale(base: Path) -> None:
    for directory in base.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if directory.is_symlink() or directory.stat().st_uid != os.getuid():
                continue
            lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                if _try_lock(lock):
                    shutil.rmtree(directory, ignore_errors=True)
            finally:
                os.close(lock)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
