"""Makes this process like another one: its view of the file system, its user and its
groups. A check that runs so finds what the other process would find.

Owns nothing. Called by the command line, as root. Calls nothing of unpd. Raises OSError
if the other process is gone or this one may not become like it, and
:class:`ForeignError` if that would be dangerous.

The other process may be an intruder's, and so may be the file system that it sees: with
a user namespace of its own, every user can mount anything anywhere, also the libraries
that this process loads next (nsswitch.conf(5)). So root never enters a mount namespace
that belongs to another user namespace, and never stays root in one that is not its own,
such as that of a container. Rights are read before it enters.

Known gaps: the system calls and the network of the other process are not taken over,
nor are capabilities that it has without being root.
"""

import contextlib
import ctypes
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass

CLONE_NEWNS = 0x00020000
NS_GET_USERNS = 0xB701
TITLE_BYTES = 200


class ForeignError(Exception):
    """The other process lives where this one must not follow. The text says where."""


@dataclass(frozen=True, slots=True)
class Rights:
    """The effective user, the effective group and the supplementary groups of a
    process.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]


def become_like(pid: int) -> None:
    """Take over the mounts and the rights of the process ``pid``, for good.

    Does nothing if they are the same already, so that any user may check a daemon of
    their own. Otherwise it takes root. OSError; this process is then of no use.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    # One descriptor of its directory: the pid may be another process's in a moment.
    with _opened(f"/proc/{pid}", os.O_DIRECTORY) as process:
        theirs = _rights(process)
        ours = rights_of(os.getpid())
        with _opened("ns/mnt", dir_fd=process) as mounts:
            shared = _same_file(mounts, "/proc/self/ns/mnt")
            if not shared:
                _refuse_foreign(mounts, theirs)
                # os.setns() came with Python 3.12.
                if libc.setns(mounts, CLONE_NEWNS) != 0:
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    if not shared or theirs != ours:
        os.setgroups(theirs.groups)
        os.setresgid(theirs.gid, theirs.gid, theirs.gid)
        os.setresuid(theirs.uid, theirs.uid, theirs.uid)


def _refuse_foreign(mounts: int, theirs: Rights) -> None:
    owner = fcntl.ioctl(mounts, NS_GET_USERNS)
    try:
        if not _same_file(owner, "/proc/self/ns/user"):
            raise ForeignError(
                "its file system belongs to another user namespace, which can deceive root: run the"
                " check inside"
            )
    finally:
        os.close(owner)
    if theirs.uid == 0:
        raise ForeignError(
            "it is root with another view of the file system: run the check inside its container,"
            " or, under unpd.service with programs.conf, unpd check without --as-daemon"
        )


def title_of(pid: int) -> str:
    """The process title, or the command line, of the process ``pid``; "" of a zombie.
    OSError if it is gone.
    """
    with _opened(f"/proc/{pid}/cmdline") as cmdline:
        return os.read(cmdline, TITLE_BYTES).replace(b"\0", b" ").decode(errors="replace")


def rights_of(pid: int) -> Rights:
    """The rights of the process ``pid``. OSError if it is gone."""
    with _opened(f"/proc/{pid}", os.O_DIRECTORY) as process:
        return _rights(process)


def _rights(process: int) -> Rights:
    """The rights of the process whose directory ``process`` is (proc(5))."""
    with _opened("status", dir_fd=process) as status:
        text = os.read(status, 1 << 20).decode()
    rows = dict(line.split(":", 1) for line in text.splitlines())
    # Each row has the real, the effective, the saved and the file system's number.
    return Rights(
        uid=int(rows["Uid"].split()[1]),
        gid=int(rows["Gid"].split()[1]),
        groups=tuple(sorted(map(int, rows["Groups"].split()))),
    )


@contextlib.contextmanager
def _opened(path: str, flags: int = 0, dir_fd: int | None = None) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags, dir_fd=dir_fd)
    try:
        yield fd
    finally:
        os.close(fd)


def _same_file(fd: int, path: str) -> bool:
    ours, theirs = os.stat(path), os.fstat(fd)
    return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)
