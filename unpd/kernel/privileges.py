"""Users, groups and privileges: looks accounts up, drops root for good, and opens files
with the rights of another user.

The order of a drop is that of every careful daemon: supplementary groups, then group,
then user. Afterwards the process proves that it cannot become root again.

Owns nothing. Called by unpd.config, by the master's boot, by each new child, by
launchers, and by the command line. Calls nothing of unpd. Raises KeyError with one
sentence for an unknown account, OSError (PermissionError) for a drop that failed: the
process must then exit.
"""

import contextlib
import ctypes
import grp
import os
import pwd
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_GET_SECCOMP = 21
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION_3 = 0x20080522


@dataclass(frozen=True, slots=True)
class Identity:
    """A user and group, by name and number, and supplementary groups."""

    user: str
    uid: int
    group: str
    gid: int
    groups: tuple[int, ...] = ()


def identify(user: str, group: str | None, groups: Iterable[str] = ()) -> Identity:
    """Look up a user and group; with ``group`` None, the user's own group. ``groups``:
    the supplementary ones.

    KeyError with one sentence if the user or a group does not exist.
    """
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise KeyError(f"there is no user {user!r} on this system") from None
    more = tuple(map(_group_id, groups))
    if group is None:
        own = account.pw_gid
        return Identity(user, account.pw_uid, group_name(own), own, more)
    return Identity(user, account.pw_uid, group, _group_id(group), more)


def has_user(user: str) -> bool:
    """Whether the user exists.

    The digits of a uid without an entry in the user database count as a user if this
    process runs as that uid (containers).
    """
    try:
        pwd.getpwnam(user)
    except (KeyError, UnicodeEncodeError):  # the latter: the locale lacks a character
        return user == user_name(os.geteuid())
    return True


def is_root(user: str) -> bool:
    """Whether the user has the uid 0; False for one that does not exist."""
    try:
        return pwd.getpwnam(user).pw_uid == 0
    except (KeyError, UnicodeEncodeError):
        return False


def has_group(group: str) -> bool:
    """Whether the group exists."""
    try:
        grp.getgrnam(group)
    except (KeyError, UnicodeEncodeError):  # as above
        return False
    return True


def _group_id(group: str) -> int:
    """The number of a group. KeyError with one sentence if it does not exist."""
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise KeyError(f"there is no group {group!r} on this system") from None


def group_name(gid: int) -> str:
    """The name of ``gid``, or its digits, as of a user."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def user_name(uid: int) -> str:
    """The name of ``uid``, or its digits if the user database has no entry for it
    (containers).
    """
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def unprivileged_user() -> str:
    """The user that the children of root become by default: nobody. A user namespace
    without nobody has only its root, which is an ordinary user outside of it.
    """
    try:
        nobody = pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return "nobody"
    return "nobody" if is_mapped(nobody, "uid") else user_name(0)


def drop_to(identity: Identity) -> None:
    """Become ``identity`` for good: no other supplementary groups than its own, no way
    back to root.

    Works for root only. OSError on any failure; the caller must then exit.
    """
    if not (is_mapped(identity.uid, "uid") and is_mapped(identity.gid, "gid")):
        raise PermissionError(
            f"this user namespace has no user {identity.user} (uid {identity.uid}) or no group"
            f" {identity.group} (gid {identity.gid}): map them, or set daemon.user ="
            f' "{user_name(os.geteuid())}"'
        )
    kept_groups = _drop_groups(identity)
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
    if (
        os.getresuid() != (identity.uid,) * 3
        or os.getresgid() != (identity.gid,) * 3
        or not set(os.getgroups()) <= {identity.gid, *identity.groups, *kept_groups}
    ):
        raise PermissionError(f"the kernel did not change this process to user {identity.user}")
    if identity.uid != 0:
        _prove_no_return()


def become(identity: Identity) -> None:
    """Become ``identity`` without the proofs of :func:`drop_to`, because another
    program follows at once, or this process only looks, as a child of unpd doctor.
    OSError, after which this process must do nothing but exit.
    """
    os.setgroups(identity.groups)
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)


@contextlib.contextmanager
def file_rights_of(identity: Identity) -> Iterator[None]:
    """Have this process open files as a child can that became ``identity``. It changes
    nothing if this process is not root, or if ``identity`` is.

    Only the ids of the file system change (setfsuid(2)). With effective ids, that user
    could set the priority and the CPUs of this process meanwhile
    (sched_setscheduler(2)). PermissionError if the kernel refuses the change.
    """
    if os.geteuid() != 0 or identity.uid == 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    groups = os.getgroups()
    was_inspectable = libc.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1
    kept_groups = _drop_groups(identity)
    try:
        _set_file_ids(libc, identity.uid, identity.gid)
        yield
    finally:
        _set_file_ids(libc, os.geteuid(), os.getegid())
        if not kept_groups:
            os.setgroups(groups)
        if was_inspectable:  # each change of these ids ends that
            set_inspectable(inspectable=True)


def _set_file_ids(libc: ctypes.CDLL, uid: int, gid: int) -> None:
    # These calls return the former id, whether they fail or not; an invalid id asks.
    libc.setfsgid(ctypes.c_uint(gid))
    libc.setfsuid(ctypes.c_uint(uid))
    if (libc.setfsuid(-1) & 0xFFFFFFFF, libc.setfsgid(-1) & 0xFFFFFFFF) != (uid, gid):
        raise PermissionError(f"the kernel did not change to the file rights of uid {uid}")


def _drop_groups(identity: Identity) -> list[int]:
    """Drop all supplementary groups but those of ``identity``; return those that stay.

    A user namespace that an ordinary user made denies setgroups(2)
    (user_namespaces(7)). If its root stays root, its groups stay too, as they do for a
    daemon of that user outside. Another user must not keep them: they would be a way to
    files that the children must not reach.
    """
    try:
        os.setgroups(identity.groups)
    except PermissionError as error:
        if not _are_groups_fixed():
            raise
        kept = os.getgroups()
        others = sorted(set(kept) - {identity.gid})
        if others and identity.uid != os.geteuid():
            raise PermissionError(
                "this user namespace denies setgroups(2), and supplementary groups would stay (gid"
                f' {", ".join(map(str, others))}): set daemon.user = "{user_name(os.geteuid())}"'
            ) from error
        return kept
    return []


def _are_groups_fixed() -> bool:
    try:
        with open("/proc/self/setgroups") as text:
            return text.read().strip() == "deny"
    except OSError:
        return False


def is_mapped(number: int, kind: Literal["uid", "gid"]) -> bool:
    """Whether the user namespace of this process has the user or group ``number``; True
    if that cannot be found out.
    """
    return any(first <= number < first + count for first, _, count in _mapping(kind))


def uid_outside(uid: int) -> int:
    """The user ``uid`` as the parent of this user namespace knows it: another number
    than 0 shows that root here is an ordinary user there.
    """
    for first, outside, count in _mapping("uid"):
        if first <= uid < first + count:
            return uid - first + outside
    return uid


def owner_here(uid: int) -> int:
    """The owner ``uid`` of a file, with 0 for a user that this namespace has no number
    for: nobody in the namespace can become that user, and it may be the real root.
    """
    if uid == _overflow_uid() and not is_mapped(uid, "uid"):
        return 0
    return uid


def _mapping(kind: str) -> list[tuple[int, int, int]]:
    """The ranges of numbers in this namespace: first, first outside, count. All numbers
    if that cannot be found out.
    """
    try:
        with open(f"/proc/self/{kind}_map") as lines:
            rows = [line.split() for line in lines]
        return [(int(first), int(outside), int(count)) for first, outside, count in rows]
    except (OSError, ValueError):
        return [(0, 0, 1 << 32)]


def _overflow_uid() -> int:
    """The number that the kernel shows for users that the namespace lacks (proc(5))."""
    try:
        with open("/proc/sys/kernel/overflowuid") as text:
            return int(text.read())
    except (OSError, ValueError):
        return 65534


def _prove_no_return() -> None:
    try:
        os.setresuid(0, 0, 0)
    except PermissionError:
        return
    raise PermissionError("this process could become root again after it dropped root")


def give_up_capabilities(*, required: bool) -> None:
    """Clear the ambient, permitted, effective and inheritable capabilities and set
    no_new_privs (capabilities(7), prctl(2)). OSError on failure.

    Unless ``required``, it is no failure if a system call filter (seccomp(2)) refuses
    capset(2): the author of the filter has chosen the capabilities too, and with an
    empty ambient set no program that is executed gets one.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    # A kernel without ambient capabilities returns EINVAL: it has nothing to clear.
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    capabilities = (ctypes.c_uint32 * 6)()
    # A filter may log each call that it refuses, so it is not called in vain.
    needed = required or libc.capget(header, capabilities) != 0 or any(capabilities)
    if needed and libc.capset(header, (ctypes.c_uint32 * 6)()) != 0:
        error = ctypes.get_errno()
        if required or libc.prctl(PR_GET_SECCOMP, 0, 0, 0, 0) != SECCOMP_MODE_FILTER:
            raise OSError(error, "capset: cannot give up capabilities")
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl: cannot set no_new_privs")


def set_inspectable(*, inspectable: bool) -> None:
    """Whether other processes of our user may look into this one: its memory and its
    descriptors, through /proc or ptrace(2) (PR_SET_DUMPABLE of prctl(2)).

    A process that is not inspectable dumps no core, and /proc mounted with
    hidepid=invisible hides it from its own user. Its children inherit the setting.
    OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_DUMPABLE, int(inspectable), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl: cannot set the dumpable flag")
