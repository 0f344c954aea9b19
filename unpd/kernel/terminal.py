"""The controlling terminal of a process (tty_ioctl(4)): how a child leaves it, and
whether it is still there.

A process without a controlling terminal can put no characters into the input of one
(TIOCSTI), and gets no signal of job control from one.

Owns nothing. Called by each new child and by the master. Calls nothing of unpd. Raises
OSError if a child cannot leave.

Known gap: a child leads its own session, so it could acquire a terminal that controls
no session by opening it. It has no right to open one after it dropped root.
"""

import errno
import os

_DEV_TTY = "/dev/tty"
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def leave() -> None:
    """Begin a session without a controlling terminal, and put /dev/null on the
    descriptors 0 and 1: a shell opens its terminal for reading and writing, and gives
    that one description to all three.

    Called in a new child, which leads no process group (setsid(2)). OSError.
    """
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in (0, 1):
        os.dup2(null, fd)
    os.close(null)


def controls_us() -> bool:
    """Whether this process has a controlling terminal."""
    return _error_of_opening() == 0


def has_gone() -> bool:
    """Whether this process has no controlling terminal any more: it was closed, or the
    leader of the session has ended.
    """
    return _error_of_opening() == errno.ENXIO


def _error_of_opening() -> int:
    try:
        os.close(os.open(_DEV_TTY, _FLAGS))
    except OSError as error:
        return error.errno or errno.EIO
    return 0
