"""Receives datagrams and sends the answers, for all datagram sockets of a worker, one
after the other.

:class:`PlainBatch` is the plain version: recvmsg(2) and sendmsg(2) of the module
socket, a datagram a call. :class:`Batch` receives a batch by one system call and sends
the answers by another (recvmmsg(2), sendmmsg(2)), and never makes text of the bytes of
an address. That saves a quarter of the processor time: with 50 clients that echo 64
bytes, a datagram takes 7.9 us and 10.4 with the plain version, where a C server with
recvmsg and sendmsg takes 5.7 (make bench, row udp-64-50, on a busy machine). From a
single client there is no batch, and both take nearly the same. :func:`make_batch`
chooses.

Both search a UDP datagram's control messages for those that
:func:`unpd.kernel.datagrams.prepare` asks for, and give them back with the answer, so
that it leaves from the address that was asked. From a UNIX socket both take no control
message at all: its senders could put descriptors into this process (unix(7)).

Owns the buffers; each socket belongs to the caller, which is the worker. Calls nothing
else of unpd. Raises OSError with the errno of the man page.
"""

from unpd.kernel.batches.batch import BATCH, MAX_DATAGRAM_BYTES, AnyBatch, Came, Sent
from unpd.kernel.batches.many import Batch, takes_batches
from unpd.kernel.batches.plain import PlainBatch

__all__ = ["BATCH", "MAX_DATAGRAM_BYTES", "AnyBatch", "Came", "PlainBatch", "Sent", "make_batch"]


def make_batch(*, plain: bool = False) -> AnyBatch:
    """Make the plain version if ``plain``, or if the kernel or a filter (seccomp(2))
    refuses one of the calls of the other one.
    """
    return PlainBatch() if plain or not takes_batches() else Batch()
