"""Makes this process like another one: its view of the file system, its user and its
groups. A check that runs so finds what the other process would find.

Owns nothing. Called by the command line. Calls nothing of unpd. Raises OSError: if the
other process is gone, or this one may not become like it.

Known gaps: the system calls and the network of the other process are not taken over,
nor are capabilities that it has without being root.
"""

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path

CLONE_NEWNS = 0x00020000


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
    rights = rights_of(pid)
    if not _shares_mounts(pid):
        _enter_mounts(pid)
    if rights != rights_of(os.getpid()):
        os.setgroups(rights.groups)
        os.setresgid(rights.gid, rights.gid, rights.gid)
        os.setresuid(rights.uid, rights.uid, rights.uid)


def rights_of(pid: int) -> Rights:
    """The rights of the process ``pid`` (proc(5), /proc/PID/status). OSError if it is
    gone.
    """
    rows = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    # Each row has the real, the effective, the saved and the file system's number.
    return Rights(
        uid=int(rows["Uid"].split()[1]),
        gid=int(rows["Gid"].split()[1]),
        groups=tuple(sorted(map(int, rows["Groups"].split()))),
    )


def _shares_mounts(pid: int) -> bool:
    ours, theirs = os.stat("/proc/self/ns/mnt"), os.stat(f"/proc/{pid}/ns/mnt")
    return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)


def _enter_mounts(pid: int) -> None:
    """Enter the mount namespace of ``pid`` (setns(2)); root and working directory
    become those of the namespace.
    """
    fd = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        # os.setns() came with Python 3.12.
        if ctypes.CDLL(None, use_errno=True).setns(fd, CLONE_NEWNS) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(fd)
