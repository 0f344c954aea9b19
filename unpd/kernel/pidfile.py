"""The pid file: a lock, not a source of truth.

flock(2) on the open file decides which daemon runs. The number in the file is for
people: no code trusts it, because it may be stale, reused or forged. The kernel drops
the lock when the process ends, so a crash leaves none; children close the descriptor.

Owns the file, its lock and its descriptor. Called by unpd.cli, and by
the master's sweep, which mends it. Calls unpd.errors for
what ``with`` raises. Raises OSError, and as a context manager AlreadyRunningError and
CannotCreateError.
"""

import contextlib
import errno
import fcntl
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

from unpd.errors import AlreadyRunningError, CannotCreateError

MODE = 0o600
"""Readable by the owner only: anybody who can open the file can lock it, and a locked
file keeps the daemon from starting.
"""


class PidFile:
    """The locked pid file of one daemon.

    It is also the context manager that python-daemon takes as its ``pidfile``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def acquire(self) -> bool:
        """Lock the file and write our pid; False if another daemon holds the lock.

        OSError if the file cannot be created (ELOOP: the path is a symbolic link).
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
            if self._is_still_there(fd) and self._is_ours_or_removed(fd):
                self._fd = fd
                self._write(fd)
                return True
            # This lock protects nothing: between our open and our lock another daemon
            # removed the file, or we removed it because another user owned it.
            os.close(fd)

    def mend(self) -> bool:
        """Make and lock the file again if it was removed; return whether that was
        needed. Without it a second daemon could start. The caller holds the lock.

        OSError if it cannot be made: FileExistsError for a file of somebody else, which
        stays, and BlockingIOError if another daemon was faster.
        """
        if self._fd is None or self._is_still_there(self._fd):
            return False
        fd = self._open_with(os.O_EXCL)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise
        os.close(self._fd)
        self._fd = fd
        self._fill(fd)
        return True

    def _open(self) -> int:
        return self._open_with(0)

    def _open_with(self, more: int) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        fd = os.open(self.path, flags | more, MODE)
        reason = _why_not_ours(os.fstat(fd))
        if reason:
            os.close(fd)
            raise OSError(errno.EEXIST, f"{reason}, and unpd leaves it alone", str(self.path))
        return fd

    def _is_ours_or_removed(self, fd: int) -> bool:
        """True if our user owns the file; else remove it and return False.

        The file is stale, because we hold its lock. Another owner could write any
        number into it, and an administrator might kill that process.
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
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _write(self, fd: int) -> None:
        try:
            self._fill(fd)
        except OSError:
            self.release()
            raise

    def _fill(self, fd: int) -> None:
        os.fchmod(fd, MODE)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Remove the file if it is still ours, then give up the lock. A file in a
        directory that was closed to us meanwhile stays.

        In this order no other daemon can lock a file that we are about to remove.
        """
        if self._fd is not None:
            with contextlib.suppress(OSError):
                if self._is_still_there(self._fd):
                    self.path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = None

    def read(self) -> str:
        """The text of the file, at most 20 characters, for a message only; "unknown" if
        it is empty or cannot be read.
        """
        try:
            return self.path.read_text(errors="replace").strip()[:20] or "unknown"
        except OSError:
            return "unknown"

    def __enter__(self) -> Self:
        """Acquire the lock. AlreadyRunningError if another daemon holds it,
        CannotCreateError if the file cannot be created.
        """
        try:
            acquired = self.acquire()
        except OSError as error:
            raise CannotCreateError(
                f"cannot create the pid file {self.path}: {error.strerror}"
            ) from error
        if not acquired:
            raise AlreadyRunningError(
                f"unpd is already running (pid {self.read()}): it holds the lock on {self.path};"
                " a second instance needs a daemon.pid_file and a daemon.control of its own, which"
                " /etc/unpd/NAME/unpd.toml, the configuration of unpd@NAME, has by leaving both"
                " keys out"
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _why_not_ours(status: os.stat_result) -> str:
    """Say why a file cannot be a pid file of unpd, "" if it can. A hard link may lead
    to any file of our user: to write would destroy it (fs.protected_hardlinks may be
    off).
    """
    if not stat.S_ISREG(status.st_mode):
        return "this is not a regular file"
    if status.st_nlink > 1:
        return f"this file has {status.st_nlink} names (hard links)"
    return ""
