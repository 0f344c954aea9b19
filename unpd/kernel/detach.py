"""Detaching from the terminal, with python-daemon (PEP 3143): session, working
directory, umask, standard descriptors.
"""

from typing import Any

from daemon import DaemonContext

UMASK = 0o027


def detach(pidfile: Any, kept_fds: tuple[int, ...]) -> DaemonContext:
    """Become a daemon: return in a process of its own session with ``pidfile`` entered,
    working directory /, umask 027 and no other descriptor than ``kept_fds``.

    The calling process ends (python-daemon leaves through os._exit), so fork first.
    What ``pidfile.__enter__`` raises comes through. python-daemon's own signal handler
    and its ban on core dumps are declined: ours are installed later, and a crash should
    be found.
    """
    context = DaemonContext(
        detach_process=True,
        umask=UMASK,
        signal_map={},
        prevent_core=False,
        files_preserve=list(kept_fds),
        pidfile=pidfile,
    )
    context.open()
    return context
