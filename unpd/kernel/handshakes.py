"""Stops the handshakes of new connections to a TCP listener that is about to close, and
allows them again.

Owns nothing: each socket belongs to the caller, the master. Calls nothing of unpd.
Raises OSError.
"""

import ctypes
import errno
import socket
import struct

# From <asm-generic/socket.h>: Python's socket module lacks them.
_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27
# Classic BPF (linux/filter.h) over a segment from its TCP header on: load the flags
# (byte 13), keep SYN, drop the segment if it is set, else pass the whole segment.
_DROP_SYN = b"".join(
    struct.pack("=HBBI", *step)
    for step in (
        (0x30, 0, 0, 13),
        (0x54, 0, 0, 0x02),
        (0x15, 0, 1, 0x02),
        (0x06, 0, 0, 0),
        (0x06, 0, 0, 0xFFFFFFFF),
    )
)


def stop_new_handshakes(sock: socket.socket) -> None:
    """Drop the SYNs of new connections to a TCP listener that every process is about to
    close; handshakes under way complete. Does nothing to a UNIX listener.

    Closing a listener resets the connections in its queue, and one more can always
    arrive between the last accept(2) and the last close(2). With SYNs dropped, the
    queue runs empty. A new client sends its SYN again after a second, and then gets a
    refusal or meets the next daemon. A listener that stays open must not be treated so:
    see :func:`allow_new_handshakes`.

    Some kernels require CAP_NET_ADMIN for the filter. If it is refused, the backlog
    becomes 0 instead: the kernel then drops SYNs while one connection is queued. It
    also drops the last segment of a handshake under way, whose client believes that it
    is connected and is reset at the close. That makes the backlog the second choice,
    and it is never combined with the filter. OSError if both fail.
    """
    if sock.family != socket.AF_UNIX:
        program = ctypes.create_string_buffer(_DROP_SYN, len(_DROP_SYN))
        try:
            sock.setsockopt(
                socket.SOL_SOCKET,
                _SO_ATTACH_FILTER,
                struct.pack("HP", len(_DROP_SYN) // 8, ctypes.addressof(program)),
            )
        except OSError:
            sock.listen(0)


def allow_new_handshakes(sock: socket.socket) -> bool:
    """Remove the filter of :func:`stop_new_handshakes`, if the listener has it.

    Its last owner may have died before it closed the listener. False if the filter
    cannot be removed.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
    except OSError as error:
        return error.errno == errno.ENOENT  # the listener has no filter
    return True
