"""Privileges: who a child becomes, and that there is no way back.

The order is the one every careful daemon has: supplementary groups, then group, then
user; afterwards the program proves that it cannot become root again.
"""

import ctypes
import grp
import os
import pwd
from dataclasses import dataclass

PR_GET_SECCOMP = 21
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION_3 = 0x20080522


@dataclass(frozen=True, slots=True)
class Identity:
    """A user and group, by name and number."""

    user: str
    uid: int
    group: str
    gid: int


def identify(user: str, group: str | None) -> Identity:
    """Look the names up (group None: the user's own). KeyError with one sentence if
    there is no such user or group.
    """
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise KeyError(f"there is no user {user!r} on this system") from None
    if group is None:
        return Identity(user, account.pw_uid, _group_name(account.pw_gid), account.pw_gid)
    try:
        return Identity(user, account.pw_uid, group, grp.getgrnam(group).gr_gid)
    except KeyError:
        raise KeyError(f"there is no group {group!r} on this system") from None


def has_user(user: str) -> bool:
    """Whether there is such a user; a number that is nobody's is one too if this
    process runs as it (containers).
    """
    try:
        pwd.getpwnam(user)
    except KeyError:
        return user == user_name(os.geteuid())
    return True


def has_group(group: str) -> bool:
    """Whether there is such a group."""
    try:
        grp.getgrnam(group)
    except KeyError:
        return False
    return True


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def user_name(uid: int) -> str:
    """The name of ``uid``, or its digits where the user database does not know it
    (containers).
    """
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def drop_to(identity: Identity) -> None:
    """Become ``identity`` for good: no supplementary group, no capability, no new
    privilege by exec. Only for root. OSError on any failure, and the caller must leave.
    """
    os.setgroups([])
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
    if (
        os.getresuid() != (identity.uid,) * 3
        or os.getresgid() != (identity.gid,) * 3
        or os.getgroups()
    ):
        raise PermissionError(f"the kernel did not make this process {identity.user}")
    if identity.uid != 0:
        _prove_no_return()


def _prove_no_return() -> None:
    try:
        os.setresuid(0, 0, 0)
    except PermissionError:
        return
    raise PermissionError("root could be taken again after the drop")


def give_up_capabilities(*, unless_filtered: bool) -> None:
    """Clear the ambient, permitted, effective and inheritable capabilities and set
    no_new_privs (capabilities(7), prctl(2)). OSError on failure.

    ``unless_filtered``: where a system call filter is in force (seccomp(2)), as in our
    unit, its author has allotted the capabilities too and may well refuse capset(2).
    Then only the ambient set is cleared: no program that is executed gets any.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    # A kernel without ambient capabilities says EINVAL: then there is nothing to clear.
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    if not unless_filtered or libc.prctl(PR_GET_SECCOMP, 0, 0, 0, 0) != SECCOMP_MODE_FILTER:
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        nothing = (ctypes.c_uint32 * 6)()
        if libc.capset(header, nothing) != 0:
            raise OSError(ctypes.get_errno(), "capset: cannot give up capabilities")
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl: cannot set no_new_privs")
