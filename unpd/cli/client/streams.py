"""What both clients need of descriptors: the one wait, and writing to standard output.

Called by ``connect``, ``daytime`` and ``echo``. poll(2), not epoll(7): standard input
may be a regular file, which epoll refuses.

Known gap: a reader of standard output who does not read holds the whole client up. That
is the back-pressure of a pipeline; no byte is lost or piled up.
"""

import errno
import os
import select
from collections.abc import Mapping

from unpd.cli.client.failures import ClientFailure, OutputGone, reason_of
from unpd.names import ClientExit

CHUNK_BYTES = 65_536

READABLE = select.POLLIN
WRITABLE = select.POLLOUT
WATCHED = 0
"""Asks for nothing: poll(2) still reports an error or a hang-up, which is how the loss
of a reader of standard output shows.
"""


def wait(interests: Mapping[int, int], timeout_s: float | None) -> dict[int, int]:
    """Waits until a descriptor is ready; {} if none was within ``timeout_s`` (None: no
    limit).
    """
    poll = select.poll()
    for descriptor, events in interests.items():
        poll.register(descriptor, events)
    return dict(poll.poll(None if timeout_s is None else max(timeout_s, 0.0) * 1000))


def check_output(events: int) -> None:
    """Raises OutputGone if what poll(2) said about standard output means that its
    reader has gone.
    """
    if events & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
        raise OutputGone


def write_output(descriptor: int, chunk: bytes) -> None:
    """Writes all of it, blocking; raises OutputGone or ClientFailure."""
    rest = memoryview(chunk)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            # Somebody who shares this descriptor made it non-blocking; undoing that
            # would change it for them.
            check_output(wait({descriptor: WRITABLE}, None)[descriptor] & ~WRITABLE)
        except OSError as error:
            if error.errno in (errno.EPIPE, errno.EBADF):
                raise OutputGone from None
            raise ClientFailure(
                ClientExit.FAILED, "standard output cannot be written", reason_of(error)
            ) from error
