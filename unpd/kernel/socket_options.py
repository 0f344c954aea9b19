"""Everything about an open socket that any process which shares it can change without a
privilege and without a trace: its options, its filter, the flags and the owner of its
open file description, and its own address.

Workers share the listeners with the master and with each other, and a change outlives
the process that made it. The master notes the state of a listener when it is opened
(:func:`state_of`), compares it later, and restores it.

Options that a kernel does not know, or does not let this socket read, are left out. So
are those that the kernel changes itself (SO_INCOMING_CPU), and those that follow a
sysctl and do little harm (TCP_SYNCNT, TCP_LINGER2).

Owns nothing: each socket belongs to the caller, the master. Calls nothing of unpd.
Raises OSError.

Known gaps: nobody can read which keys of TCP_MD5SIG and TCP_AO a listener demands,
which multicast groups it has joined, or the backlog of a UNIX listener. Before Linux
5.16 (SO_BUF_LOCK) a restored SO_RCVBUF keeps the kernel from adapting the buffer. A
change of net.ipv4.ip_default_ttl looks like one of IP_TTL.
"""

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

Value = int | bytes
Key = tuple[int, int]
"""A level and an option, as setsockopt(2) takes them."""

_SO, _IP, _IP6 = socket.SOL_SOCKET, socket.IPPROTO_IP, socket.IPPROTO_IPV6
_TCP, _UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP
_TIMEVAL = struct.calcsize("@ll")
_TEXT = 16  # TCP_CA_NAME_MAX, TCP_ULP_NAME_MAX

# Python's socket module lacks most of them: <asm-generic/socket.h>, <linux/in.h>,
# <linux/in6.h>, <linux/tcp.h>, <linux/udp.h>. SO_RCVBUF and SO_SNDBUF come before
# SO_BUF_LOCK, because setting them locks the size.
_NUMBERS: Mapping[int, Mapping[str, int]] = MappingProxyType(
    {
        _SO: {
            "SO_REUSEADDR": 2,
            "SO_DONTROUTE": 5,
            "SO_BROADCAST": 6,
            "SO_SNDBUF": 7,
            "SO_RCVBUF": 8,
            "SO_KEEPALIVE": 9,
            "SO_OOBINLINE": 10,
            "SO_NO_CHECK": 11,
            "SO_PRIORITY": 12,
            "SO_REUSEPORT": 15,
            "SO_PASSCRED": 16,
            "SO_RCVLOWAT": 18,
            "SO_TIMESTAMP": 29,
            "SO_PASSSEC": 34,
            "SO_TIMESTAMPNS": 35,
            "SO_MARK": 36,
            "SO_TIMESTAMPING": 37,
            "SO_RXQ_OVFL": 40,
            "SO_PEEK_OFF": 42,
            "SO_LOCK_FILTER": 44,
            "SO_SELECT_ERR_QUEUE": 45,
            "SO_BUSY_POLL": 46,
            "SO_MAX_PACING_RATE": 47,
            "SO_ZEROCOPY": 60,
            "SO_BINDTOIFINDEX": 62,
            "SO_PREFER_BUSY_POLL": 69,
            "SO_BUF_LOCK": 72,
            "SO_RESERVE_MEM": 73,
            "SO_RCVMARK": 75,
            "SO_PASSPIDFD": 76,
            "SO_RCVPRIORITY": 82,
            "SO_PASSRIGHTS": 83,
        },
        _IP: {
            "IP_TOS": 1,
            "IP_TTL": 2,
            "IP_RECVOPTS": 6,
            "IP_RETOPTS": 7,
            "IP_PKTINFO": 8,
            "IP_MTU_DISCOVER": 10,
            "IP_RECVERR": 11,
            "IP_RECVTTL": 12,
            "IP_RECVTOS": 13,
            "IP_FREEBIND": 15,
            "IP_PASSSEC": 18,
            "IP_TRANSPARENT": 19,
            "IP_RECVORIGDSTADDR": 20,
            "IP_MINTTL": 21,
            "IP_CHECKSUM": 23,
            "IP_RECVFRAGSIZE": 25,
            "IP_RECVERR_RFC4884": 26,
            "IP_MULTICAST_ALL": 49,
            "IP_UNICAST_IF": 50,
        },
        _IP6: {
            "IPV6_2292PKTINFO": 2,
            "IPV6_2292HOPOPTS": 3,
            "IPV6_2292DSTOPTS": 4,
            "IPV6_2292RTHDR": 5,
            "IPV6_2292HOPLIMIT": 8,
            "IPV6_FLOWINFO": 11,
            "IPV6_UNICAST_HOPS": 16,
            "IPV6_MTU_DISCOVER": 23,
            "IPV6_RECVERR": 25,
            "IPV6_V6ONLY": 26,
            "IPV6_MULTICAST_ALL": 29,
            "IPV6_RECVERR_RFC4884": 31,
            "IPV6_FLOWINFO_SEND": 33,
            "IPV6_RECVPKTINFO": 49,
            "IPV6_RECVHOPLIMIT": 51,
            "IPV6_RECVHOPOPTS": 53,
            "IPV6_RECVRTHDR": 56,
            "IPV6_RECVDSTOPTS": 58,
            "IPV6_RECVPATHMTU": 60,
            "IPV6_DONTFRAG": 62,
            "IPV6_RECVTCLASS": 66,
            "IPV6_TCLASS": 67,
            "IPV6_ADDR_PREFERENCES": 72,
            "IPV6_MINHOPCOUNT": 73,
            "IPV6_RECVORIGDSTADDR": 74,
            "IPV6_TRANSPARENT": 75,
            "IPV6_UNICAST_IF": 76,
            "IPV6_RECVFRAGSIZE": 77,
            "IPV6_FREEBIND": 78,
        },
        _TCP: {
            "TCP_NODELAY": 1,
            "TCP_MAXSEG": 2,
            "TCP_CORK": 3,
            "TCP_KEEPIDLE": 4,
            "TCP_KEEPINTVL": 5,
            "TCP_KEEPCNT": 6,
            "TCP_DEFER_ACCEPT": 9,
            "TCP_WINDOW_CLAMP": 10,
            "TCP_THIN_LINEAR_TIMEOUTS": 16,
            "TCP_USER_TIMEOUT": 18,
            "TCP_FASTOPEN": 23,
            "TCP_NOTSENT_LOWAT": 25,
            "TCP_SAVE_SYN": 27,
            "TCP_FASTOPEN_NO_COOKIE": 34,
            "TCP_INQ": 36,
            "TCP_TX_DELAY": 37,
        },
        _UDP: {
            "UDP_CORK": 1,
            "UDP_ENCAP": 100,
            "UDP_NO_CHECK6_TX": 101,
            "UDP_NO_CHECK6_RX": 102,
            "UDP_SEGMENT": 103,
            "UDP_GRO": 104,
        },
    }
)
"""The options that are an int, by level."""
_LONGER: Mapping[int, Mapping[str, tuple[int, int]]] = MappingProxyType(
    {
        _SO: {
            "SO_LINGER": (13, 8),
            "SO_RCVTIMEO": (20, _TIMEVAL),
            "SO_SNDTIMEO": (21, _TIMEVAL),
            "SO_TXTIME": (61, 8),
        },
        _IP: {"IP_OPTIONS": (4, 40)},
        _TCP: {"TCP_CONGESTION": (13, _TEXT), "TCP_ULP": (31, _TEXT)},
    }
)
"""The options that are bytes, by level: the option, and its most bytes."""
_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27
BOUND_INTERFACE: Key = (_SO, 62)
"""SO_BINDTOIFINDEX, which bind(2) sets for a link-local address."""
_SO_LINGER = (_SO, 13)
_NO_LINGER = bytes(8)
_TCP_MAXSEG = (_TCP, 2)
_TCP_MSS_DEFAULT = 536
_BUFFERS: Mapping[Key, int] = MappingProxyType({(_SO, 7): 32, (_SO, 8): 33})
"""SO_SNDBUF and SO_RCVBUF, and their forms without a limit (SO_SNDBUFFORCE)."""
_F_SETSIG, _F_GETSIG, _F_SETOWN_EX, _F_GETOWN_EX = 10, 11, 15, 16  # <asm-generic/fcntl.h>
_NO_OWNER = struct.pack("ii", 1, 0)  # F_OWNER_PID, and no process
_LEVELS: Mapping[tuple[int, int], tuple[int, ...]] = MappingProxyType(
    {
        (socket.AF_INET, socket.SOCK_STREAM): (_SO, _IP, _TCP),
        (socket.AF_INET6, socket.SOCK_STREAM): (_SO, _IP, _IP6, _TCP),
        (socket.AF_INET, socket.SOCK_DGRAM): (_SO, _IP, _UDP),
        (socket.AF_INET6, socket.SOCK_DGRAM): (_SO, _IP, _IP6, _UDP),
    }
)
"""The levels of a socket's options; a UNIX socket has SOL_SOCKET alone."""
_libc = ctypes.CDLL(None, use_errno=True)


_NAMES: Mapping[Key, str] = MappingProxyType(
    {
        (level, number): name
        for level, numbers in _NUMBERS.items()
        for name, number in numbers.items()
    }
    | {
        (level, number): name
        for level, longer in _LONGER.items()
        for name, (number, _) in longer.items()
    }
)
_SIZES: Mapping[Key, int] = MappingProxyType(
    {(level, number): size for level, longer in _LONGER.items() for number, size in longer.values()}
)
_WRITES = 2
"""How often the options are written: some change another one, too."""


@dataclass(frozen=True, slots=True)
class SocketState:
    """A socket as it should stay. ``flags``: of its open file description. ``name``:
    its own address. ``instructions``: the length of its filter, 0 for none.
    """

    options: Mapping[Key, Value]
    flags: int
    name: Any
    instructions: int


def state_of(sock: socket.socket) -> SocketState:
    """Read the state of a socket. OSError."""
    levels = _LEVELS.get((sock.family, sock.type), (_SO,))
    options = {
        key: value for key in _NAMES if key[0] in levels and (value := _read(sock, key)) is not None
    }
    return SocketState(
        options=options,
        flags=fcntl.fcntl(sock, fcntl.F_GETFL),
        name=sock.getsockname(),
        instructions=_filter_length(sock),
    )


def changes(sock: socket.socket, wanted: SocketState) -> list[str]:
    """The names of what differs from the ``wanted`` state. OSError."""
    found = [_NAMES[key] for key, value in wanted.options.items() if _read(sock, key) != value]
    found += _changed_flags(fcntl.fcntl(sock, fcntl.F_GETFL) ^ wanted.flags)
    if _is_owned(sock):
        found.append("F_SETOWN")
    if _filter_length(sock) != wanted.instructions:
        found.append("SO_ATTACH_FILTER")
    if sock.getsockname() != wanted.name:
        found.append("bind")
    return found


def restore(sock: socket.socket, wanted: SocketState) -> None:
    """Restore what the kernel lets this process restore; :func:`changes` tells the
    rest. OSError if another socket has taken the address.
    """
    for _ in range(_WRITES):
        for key, value in wanted.options.items():
            if _read(sock, key) != value:
                # Some need a capability: then the difference stays.
                with contextlib.suppress(OSError):
                    _write(sock, key, value)
    fcntl.fcntl(sock, fcntl.F_SETFL, wanted.flags)
    if _is_owned(sock):
        fcntl.fcntl(sock, _F_SETOWN_EX, _NO_OWNER)
        fcntl.fcntl(sock, _F_SETSIG, 0)
    if _filter_length(sock) != wanted.instructions:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
    if sock.getsockname() != wanted.name:
        sock.bind(wanted.name)


def _read(sock: socket.socket, key: Key) -> Value | None:
    """The value of an option; None if the kernel refuses it."""
    try:
        value = sock.getsockopt(*key, _SIZES[key]) if key in _SIZES else sock.getsockopt(*key)
    except OSError:
        return None
    # The kernel keeps the time of an SO_LINGER that was switched off (socket(7)).
    off = key == _SO_LINGER and isinstance(value, bytes) and not any(value[:4])
    return _NO_LINGER if off else value


def _write(sock: socket.socket, key: Key, value: Value) -> None:
    level, option = key
    if key in _BUFFERS and isinstance(value, int):
        value //= 2  # the kernel doubles it (socket(7))
        try:
            sock.setsockopt(level, _BUFFERS[key], value)
        except PermissionError:
            sock.setsockopt(level, option, value)
        return
    # A listener without the option shows the default, which would be a limit if set.
    sock.setsockopt(level, option, 0 if (key, value) == (_TCP_MAXSEG, _TCP_MSS_DEFAULT) else value)


def _changed_flags(changed: int) -> list[str]:
    names = [name for name in ("O_NONBLOCK", "O_ASYNC") if changed & getattr(os, name)]
    return names or (["F_SETFL"] if changed else [])


def _is_owned(sock: socket.socket) -> bool:
    """Whether a signal would tell some process about the socket (F_SETOWN,
    F_SETSIG).
    """
    owner = fcntl.fcntl(sock, _F_GETOWN_EX, bytes(8))
    _, pid = struct.unpack("ii", owner)
    return pid != 0 or fcntl.fcntl(sock, _F_GETSIG) != 0


def _filter_length(sock: socket.socket) -> int:
    """The length of the socket's filter in instructions; 0 for none, -1 for one that
    cannot be read. Python's getsockopt() has no buffer of no length.
    """
    length = ctypes.c_uint(0)
    fd, level = sock.fileno(), socket.SOL_SOCKET
    if _libc.getsockopt(fd, level, _SO_ATTACH_FILTER, None, ctypes.byref(length)) != 0:
        return -1
    return length.value
