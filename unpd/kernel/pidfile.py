"""The pid file: a lock, not a source of truth.

flock(2) on the open file decides who runs; the number in it is for people and is never
trusted (it may be stale, recycled or forged). The lock goes with the descriptor, so a
crash frees it; children close theirs.
"""

import errno
import fcntl
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

from unpd.errors import AlreadyRunningError, CannotCreateError

MODE = 0o600
"""Whoever can read a file can lock it, and a lock is all that it takes to keep a daemon
from starting.
"""


class PidFile:
    """The locked pid file of one daemon; also the context manager that python-daemon
    wants for its ``pidfile``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def acquire(self) -> bool:
        """Lock the file and write our pid; False if another instance holds the lock.
        OSError if it cannot be made (ELOOP: somebody put a symbolic link there).
        """
        while True:
            fd = self._open()
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(fd)
                if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                    return False
                raise
            if self._is_still_there(fd) and self._is_ours(fd):
                self._fd = fd
                self._write(fd)
                return True
            # The one before us removed the file between our open and our lock, or it
            # was a stranger's and we removed it: that lock guards nothing.
            os.close(fd)

    def _open(self) -> int:
        fd = os.open(
            self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, MODE
        )
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(
                errno.EEXIST, "something that is not a file is there, and it stays", str(self.path)
            )
        return fd

    def _is_ours(self, fd: int) -> bool:
        """False after removing a stranger's file (stale: we hold its lock). He could
        write any number into it, for an administrator to kill.
        """
        if os.fstat(fd).st_uid == os.geteuid():
            return True
        try:
            self.path.unlink(missing_ok=True)
        except OSError:
            os.close(fd)
            raise
        return False

    def _is_still_there(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.lstat(self.path))
        except FileNotFoundError:
            return False

    def _write(self, fd: int) -> None:
        try:
            os.fchmod(fd, MODE)
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            self.release()
            raise

    def release(self) -> None:
        """Remove the file, if it is still ours, and give up the lock, in this order:
        nobody can lock a file that is about to vanish and believe it.
        """
        if self._fd is not None:
            if self._is_still_there(self._fd):
                self.path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = None

    def read(self) -> str:
        """What the file says, for a message only; "unknown" if it says nothing."""
        try:
            return self.path.read_text(errors="replace").strip()[:20] or "unknown"
        except OSError:
            return "unknown"

    def __enter__(self) -> Self:
        """Acquire. AlreadyRunningError if another instance runs, CannotCreateError if
        the file cannot be made.
        """
        try:
            acquired = self.acquire()
        except OSError as error:
            raise CannotCreateError(
                f"cannot make the pid file {self.path}: {error.strerror}"
            ) from error
        if not acquired:
            raise AlreadyRunningError(
                f"unpd is already running (pid {self.read()}): it holds the lock on {self.path}"
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
