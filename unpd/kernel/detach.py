"""Detaches from the terminal with python-daemon (PEP 3143): session, working directory,
umask, standard descriptors.

Called by unpd.cli.start. Calls nothing of unpd. Lets every error of python-daemon and
of the pid file through.
"""

from typing import Any

from daemon import DaemonContext

UMASK = 0o027


def detach(pidfile: Any, kept_fds: tuple[int, ...]) -> DaemonContext:
    """Become a daemon: continue in a new process with a session of its own.

    That process has entered ``pidfile``; its working directory is /, its umask 027, and
    it has no descriptors but ``kept_fds``. The calling process ends here (python-daemon
    calls os._exit), so fork first. Exceptions of ``pidfile.__enter__`` come through.

    python-daemon's signal handler and its ban on core dumps are switched off: unpd
    installs its own handlers later, and a crash should leave a core dump.
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
