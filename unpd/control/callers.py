"""Decides which processes may command the daemon over the control socket, and which may
only look.

The mode of the socket's file decides which users can connect. A child of the master
talks to clients, and an attacker may have taken it over: it must not command its
master, whatever user it runs as. So the user that the children became is refused; if
they run as the master's own user, every descendant of the master is.

With control.read_group there are two levels. Root, the daemon's user and the group of
the socket's file may use every verb, and the members of that group those that change
nothing. Without the key, the mode of the file alone decides: a process that can connect
may use every verb.

Called by :mod:`unpd.control.server`; made by boot. Calls :mod:`unpd.kernel.procfs`.
Raises nothing.

A cgroup would tell less: ``systemctl reload`` runs its command in that of the service.

Known gaps: a pid that another process gets in the moment between connect(2) and the
look-up. A child that shares the master's user could still look into such a command
while it runs. In a container that sets no_new_privs for all, process 1 refuses an
administrator's command whose shell has ended, because it looks like an orphan of a
child. A program of a service may look if its user is in the group that may look.
"""

import os
from dataclasses import dataclass, field

from unpd.config.control import ReadGroup
from unpd.control.verb import Verb
from unpd.errors import quoted
from unpd.kernel.credentials import Credentials
from unpd.kernel.procfs import may_descend, ticks_since_boot


@dataclass(slots=True)
class Callers:
    """The rule of one daemon. ``children_uid``: the user of its children. ``path``: the
    socket's file. ``since``: a time before its first fork. ``readers``: the group that
    may look, which a reload may change; None: there are no two levels.
    """

    children_uid: int
    path: str
    since: int = field(default_factory=ticks_since_boot)
    readers: ReadGroup | None = None

    def refusal(self, caller: Credentials) -> str:
        """Say why the caller is refused; "" if it may ask."""
        if caller.uid != self.children_uid:
            return ""
        if self.children_uid != os.geteuid():
            return f"user {caller.uid} may not control this daemon"
        if may_descend(caller.pid, self.since):
            return (
                f"process {caller.pid} may not control this daemon: it descends from it, or /proc"
                " does not show its ancestors"
            )
        return ""

    def may_change(self, caller: Credentials) -> bool:
        """Whether the caller may use every verb, and not only look."""
        if self.readers is None or caller.uid in (0, os.geteuid()):
            return True
        return self._group_of_file() in (caller.gid, *caller.groups)

    def refusal_of(self, verb: Verb, caller: Credentials) -> str:
        """Say why the caller may not use this verb; "" if it may."""
        readers = self.readers
        if readers is None or self.may_change(caller):
            return ""
        group = f"the group {quoted(readers.name)} (control.read_group)"
        if readers.gid not in (caller.gid, *caller.groups):
            return (
                f"user {caller.uid} may not use unpd {verb.name}: only root, the daemon's user, the"
                f" group of its control socket and {group} may"
            )
        if verb.changes:
            return (
                f"user {caller.uid} may not use unpd {verb.name}: {group} may only look, so ask as"
                " root, as the daemon's user or with the group of its control socket"
            )
        return ""

    def _group_of_file(self) -> int:
        """The group of the socket's file; that of the daemon while the file is gone."""
        try:
            return os.lstat(self.path).st_gid
        except OSError:
            return os.getegid()
