"""Decides which processes may command the daemon over the control socket.

The mode of the socket's file decides which users can connect. A child of the master
talks to clients, and an attacker may have taken it over: it must not command its
master, whatever user it runs as. So the user that the children became is refused; if
they run as the master's own user, every descendant of the master is.

Called by :mod:`unpd.control.server`; made by boot. Calls :mod:`unpd.kernel.procfs`.
Raises nothing.

A cgroup would tell less: ``systemctl reload`` runs its command in that of the service.

Known gaps: a pid that another process gets in the moment between connect(2) and the
look-up. A child that shares the master's user could still look into such a command
while it runs. In a container that sets no_new_privs for all, process 1 refuses an
administrator's command whose shell has ended, because it looks like an orphan of a
child.
"""

import os
from dataclasses import dataclass, field

from unpd.kernel.credentials import Credentials
from unpd.kernel.procfs import may_descend, ticks_since_boot


@dataclass(frozen=True, slots=True)
class Callers:
    """The rule of one daemon. ``children_uid``: the user of its children. ``since``: a
    time before its first fork.
    """

    children_uid: int
    since: int = field(default_factory=ticks_since_boot)

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
