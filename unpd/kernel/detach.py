"""Detaches from the terminal with the steps of python-daemon (PEP 3143): session,
working directory, umask, standard descriptors.

Called by unpd.cli.start. Calls nothing of unpd. Lets every error of python-daemon
through.

The steps are taken one by one, because ``DaemonContext.open`` closes every number up to
the descriptor limit: where close_range(2) is refused, and the limit is that of a
container, that takes minutes. It would also install a signal handler and forbid core
dumps; unpd installs its own handlers later.
"""

import os
from collections.abc import Callable, Iterable

from daemon import daemon as steps

UMASK = 0o027


def detach(kept_fds: Iterable[int], close_all_but: Callable[[Iterable[int]], None]) -> None:
    """Become a daemon: continue in a new process with a session of its own.

    Its working directory is /, its umask 027, and it has no descriptors but the
    standard ones, which lead to /dev/null, and ``kept_fds``. The calling process ends
    here (python-daemon calls os._exit), so fork first.
    """
    steps.change_file_creation_mask(UMASK)
    steps.change_working_directory("/")
    steps.detach_process_context()
    close_all_but((0, 1, 2, *kept_fds))
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    if null > 2:
        os.close(null)
