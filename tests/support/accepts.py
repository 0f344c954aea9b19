"""A listener whose accepts are written down: nothing of it is a socket."""

import errno
import socket
from collections import deque

from unpd.config.times import ServiceTimes
from unpd.services.echo import Echo, EchoOptions
from unpd.worker.accepting import Accepted, Listener, ListenerSetup
from unpd.worker.terms import Terms

CLIENT = (12345, b"an address")
"""Stands for an accepted connection and its peer's address."""
TERMS = Terms(name="echo", service=Echo(EchoOptions()), times=ServiceTimes(0.0, 0.0, 0.0), words=0)


class Scripted(Listener):
    """A listener whose accepts are written down: an errno fails, None is a connection;
    at the end the queue is empty. ``others``: how much longer the queue seems.
    """

    def __init__(self, *script: int | None, others: int = 0) -> None:
        self.script = deque(script)
        self.others = others
        with socket.socket() as sock:  # for its family only
            setup = ListenerSetup("tcp://nowhere:0", sock, 16, 0)
            super().__init__(setup, TERMS, self.next_of_script)

    def queued(self) -> int:
        """What is left of the script."""
        return len(self.script) + self.others

    def next_of_script(self) -> Accepted:
        """What the script says."""
        if not self.script:
            raise BlockingIOError(errno.EAGAIN, "the queue is empty")
        if (number := self.script.popleft()) is not None:
            raise OSError(number, "as written")
        return CLIENT
