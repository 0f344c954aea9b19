"""Checks of the rights of files and directories. Pure.

Known gap: access control lists of files are not read.
"""

import stat
from collections.abc import Callable, Iterator

from unpd.cli.doctor.facts import Entry, Facts, UnknownFactError
from unpd.cli.doctor.finding import Finding
from unpd.kernel.privileges import user_name
from unpd.services.program import ProcessOptions


def writable(facts: Facts) -> Iterator[Finding]:
    """A user who may replace the configuration, a list or a program rules unpd."""
    seen: set[str] = set()
    for entry in facts.entries:
        problem = _why_writable(entry, facts.gid)
        if problem and entry.key != "daemon.control" and entry.path not in seen:
            seen.add(entry.path)
            yield Finding(
                subject=entry.path,
                problem=f"{problem}, and so what {entry.key} names",
                found=f"mode {stat.S_IMODE(entry.mode):04o}, user {user_name(entry.uid)}",
                right="a file, and directories above it, that only root and unpd's user can change",
                mend=_closed(entry),
            )
    _refuse_hidden(facts, lambda key: key != "daemon.control")


def _closed(entry: Entry) -> str:
    """The command that takes the file from those who should not change it. Its owner
    stays, if it is one that may.
    """
    others = f"chmod go-w {entry.path}"
    if entry.uid in entry.owners:
        return others
    owner = user_name(min(entry.owners))
    is_open = entry.mode & (stat.S_IWGRP | stat.S_IWOTH)
    return f"chown {owner} {entry.path}" + (f"; {others}" if is_open else "")


def _refuse_hidden(facts: Facts, concerns: Callable[[str], bool]) -> None:
    """UnknownFactError if an entry of these keys cannot be looked at."""
    paths = sorted({path for key, path in facts.hidden if concerns(key)})
    if paths:
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        raise UnknownFactError(f"this user cannot look at {paths[0]}{more}")


def _why_writable(entry: Entry, gid: int) -> str:
    if entry.uid not in entry.owners:
        return f"user {user_name(entry.uid)} can change it"
    if stat.S_ISDIR(entry.mode) and entry.mode & stat.S_ISVTX:
        return ""  # nobody can replace what belongs to others there
    if entry.mode & stat.S_IWOTH:
        return "every user can change it"
    if entry.mode & stat.S_IWGRP and entry.gid not in (0, gid):
        return f"the members of group {entry.gid} can change it"
    return ""


def usable(facts: Facts) -> Iterator[Finding]:
    """What the user of the daemon could not read, write or make at a start, and why it
    would refuse the configuration.
    """
    for sentence in facts.refused_to_user:
        yield Finding(
            subject="the user of the daemon",
            problem=sentence,
            found="a configuration that is refused with the rights of this user",
            right="one that this user accepts too",
            mend="correct what the sentence names, or let this user read it",
        )
    for sentence in facts.unusable:
        yield Finding(
            subject="the user of the daemon",
            problem=sentence,
            found="a place that this user cannot use",
            right="one that unpd check --as-daemon accepts",
            mend="make the directory if it is missing, chown or chmod what the sentence names, or"
            " write another path into the key",
        )
    if facts.unusable_unknown:
        raise UnknownFactError(facts.unusable_unknown)


def readable_secrets(facts: Facts) -> Iterator[Finding]:
    """A variable of a program may be a password."""
    with_variables = [
        name
        for name, service in facts.config.services.items()
        if isinstance(service.options, ProcessOptions) and service.options.environment
    ]
    for entry in facts.entries:
        plain = stat.S_ISREG(entry.mode) and entry.key == "--config"
        if with_variables and plain and entry.mode & stat.S_IROTH:
            yield Finding(
                subject=entry.path,
                problem="every user can read the variables of programs in it",
                found=f"mode {stat.S_IMODE(entry.mode):04o}, environment of"
                f" {', '.join(with_variables)}",
                right="0640, if a variable is a secret",
                mend=f"chmod o-r {entry.path}, with the group of unpd's user",
                note=True,
            )
    if with_variables:
        _refuse_hidden(facts, lambda key: key == "--config")


def control_directory(facts: Facts) -> Iterator[Finding]:
    """The group that may look must reach the control socket."""
    readers = facts.config.control.read_group
    if readers is None:
        return
    for entry in facts.entries:
        of_control = entry.key == "daemon.control" and stat.S_ISDIR(entry.mode)
        in_group = entry.gid == readers.gid and entry.mode & stat.S_IXGRP
        if of_control and not (in_group or entry.mode & stat.S_IXOTH):
            yield Finding(
                subject=entry.path,
                problem=f"the group {readers.name} (control.read_group) cannot reach the control"
                f" socket {facts.config.daemon.control}",
                found=f"mode {stat.S_IMODE(entry.mode):04o}, group {entry.gid}",
                right="a directory that the group may search",
                mend=f"chmod o+x {entry.path}, or setfacl -m g:{readers.name}:x {entry.path}",
            )
    _refuse_hidden(facts, lambda key: key == "daemon.control")
