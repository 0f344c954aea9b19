"""The standard descriptors 0, 1 and 2, some of which the caller may have closed.

Owns nothing. Called first of all by the command line: before a file or a socket of ours
can take one of these numbers. Calls nothing of unpd, and imports next to nothing.
Raises OSError if /dev/null cannot be opened.
"""

import os

_MODES = (os.O_WRONLY, os.O_RDONLY, os.O_RDWR)
"""How each is opened. A command must not take the end of a file for its input, nor
believe that somebody got its answer: so reading 0 fails, and writing 1 (as in the C
library, for programs with set-user-ID). A message to 2 is lost without a failure.
"""


def occupy() -> None:
    """Open /dev/null as each of the three that is closed. Programs inherit it."""
    for fd, mode in enumerate(_MODES):
        try:
            os.fstat(fd)
        except OSError:
            # open(2) takes the lowest free number, which is this one.
            os.set_inheritable(os.open(os.devnull, mode), True)
