"""Owns the rows of the table. Each is one kind of work for the generator, and the
servers that do it.
"""

from dataclasses import dataclass

from tests.benchmarks.configs import Service
from tests.benchmarks.servers import GUARDED, OTHER, UNPD

EVENT_LOOPS = (UNPD, OTHER, "epoll", "uvloop", "go", "asyncio")
ALL = (*EVENT_LOOPS, "xinetd", "fork")
"""The two servers that fork per connection are left out of rows with 500 connections
and more.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One row. ``mode``, ``connections`` and ``size`` are the generator's. ``unit`` is
    one operation of the table, ``operations_in_one`` the number of the generator's
    operations in it. ``service``: what the servers are asked for.
    """

    name: str
    title: str
    mode: str
    connections: int
    size: int
    servers: tuple[str, ...]
    unit: str
    operations_in_one: int = 1
    service: Service = Service.ECHO

    @property
    def loses(self) -> bool:
        """Whether an operation may be lost, which is no fault."""
        return self.service is Service.UDP


RELAYS = (UNPD, OTHER, "haproxy", "socat", "proxyd")
"""The servers that relay to an echo behind them, which shares the processor of the
load: so the processor time is that of the relay alone.
"""
FORK = Row(
    "fork-50",
    "a process per client: connect, echo 64 bytes, close; 50 at a time",
    "turnover",
    50,
    64,
    (UNPD, OTHER, "fork", "xinetd", "pyfork"),
    "connection",
    service=Service.FORKED,
)
FUNCTION = Row(
    "function-50",
    "a call of a Python function per client: connect, echo 64 bytes, close; 50 at a time",
    "turnover",
    50,
    64,
    (UNPD, OTHER, "fork", "pyfork"),
    "connection",
    service=Service.FUNCTION,
)
PROGRAM = Row(
    "program-50",
    "a program per client, which answers a line; 50 at a time",
    "daytime",
    50,
    64,
    (UNPD, OTHER, "exec", "xinetd", "pyexec"),
    "program",
    service=Service.PROGRAM,
)
PROGRAM_USER = Row(
    "program-user-50",
    "a program per client, as another user, which answers a line; 50 at a time",
    "daytime",
    50,
    64,
    PROGRAM.servers,
    "program",
    service=Service.PROGRAM_USER,
)
ROWS = (
    Row(
        "echo-64-1", "echo, round trips of 64 bytes, 1 connection", "echo", 1, 64, ALL, "round trip"
    ),
    Row(
        "echo-64-50",
        "echo, round trips of 64 bytes, 50 connections",
        "echo",
        50,
        64,
        ALL,
        "round trip",
    ),
    Row(
        "echo-64-500",
        "echo, round trips of 64 bytes, 500 connections",
        "echo",
        500,
        64,
        EVENT_LOOPS,
        "round trip",
    ),
    Row(
        "echo-64-5000",
        "echo, round trips of 64 bytes, 5,000 connections",
        "echo",
        5000,
        64,
        EVENT_LOOPS,
        "round trip",
    ),
    Row(
        "echo-16k-50",
        "echo, round trips of 16 KiB, 50 connections",
        "echo",
        50,
        16384,
        ALL,
        "round trip",
    ),
    Row(
        "bulk-4",
        "bulk echo, writes of 256 KiB, 4 connections",
        "bulk",
        4,
        262144,
        (*EVENT_LOOPS, "splice", "xinetd", "fork"),
        "MiB",
        1 << 20,
    ),
    Row(
        "turnover-50",
        "connect, echo 64 bytes, close; 50 at a time",
        "turnover",
        50,
        64,
        (*ALL, GUARDED),
        "connection",
    ),
    Row(
        "daytime-50",
        "daytime; 50 at a time",
        "daytime",
        50,
        64,
        (*ALL, "corked", GUARDED),
        "connection",
        service=Service.DAYTIME,
    ),
    Row("time-50", "time; 50 at a time", "time", 50, 64, ALL, "connection", service=Service.TIME),
    Row(
        "udp-64-50",
        "UDP echo, datagrams of 64 bytes, 50 clients",
        "udp",
        50,
        64,
        (UNPD, OTHER, "plain", *EVENT_LOOPS[2:], "xinetd"),
        "datagram",
        service=Service.UDP,
    ),
    Row(
        "chargen-4",
        "chargen, 4 connections",
        "chargen",
        4,
        64,
        (UNPD, OTHER, "epoll", "xinetd"),
        "MiB",
        1 << 20,
        service=Service.CHARGEN,
    ),
    Row(
        "relay-64-50",
        "redirect to an echo, round trips of 64 bytes, 50 connections",
        "echo",
        50,
        64,
        RELAYS,
        "round trip",
        service=Service.REDIRECT,
    ),
    Row(
        "relay-bulk-4",
        "redirect to an echo, bulk, writes of 256 KiB, 4 connections",
        "bulk",
        4,
        262144,
        RELAYS,
        "MiB",
        1 << 20,
        service=Service.REDIRECT,
    ),
    FORK,
    FUNCTION,
    PROGRAM,
    PROGRAM_USER,
)

IDLE = Row(
    "idle-10000",
    "10,000 idle connections, and one active beside them",
    "idle",
    10_000,
    64,
    EVENT_LOOPS,
    "round trip",
)
EVERY = (*ROWS, IDLE)
