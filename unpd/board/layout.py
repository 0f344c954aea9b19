"""The layout of the scoreboard: the tables that name every word once.

Owns the tables :class:`Master`, :class:`Directory`, :class:`Row`, :class:`Service` and
:class:`Target`, and :class:`Board`, which puts them together; :class:`Session`, an
entry of a table of sessions (:mod:`unpd.board.sessions`); :class:`Ring` with its
:class:`Ended` (:mod:`unpd.board.ended`); :class:`Denied` with its
:class:`DeniedHalf` (:mod:`unpd.board.denied`); :class:`Halted`
(:mod:`unpd.board.halted`); :class:`History` with :class:`HistoryTotals` and
:class:`HistoryService` (:mod:`unpd.board.history`); and :class:`LaneSums`,
:class:`Bucket` and :class:`Source`, the parts of the counts of sources
(:mod:`unpd.board.sources`).
Offsets, sizes and the fingerprint are computed from these tables, in the order in which
the words stand here. Code that reads or writes a word names it by its table, such as
``Service.ACCEPTED``. :mod:`unpd.board.memory` maps the board.

A word is 64 bits wide and has one writer: a child for its own row, the master for the
rest. When the master has reaped a child, the master writes that row until the next
birth gets it. Only ``Master.RENDERINGS`` has several writers.
"""

import zlib
from collections.abc import Iterable
from typing import ClassVar

from unpd.names import (
    ACCEPT_ERRNOS,
    CONNECT_FAILURES,
    MAX_CHILDREN,
    MAX_DENIALS,
    ChildKind,
    ChildPhase,
    EndCause,
    Fault,
    Halt,
    HeaderResult,
    MasterPhase,
    ProgramResult,
    ReapReason,
    RefusalReason,
    ReloadResult,
    Resource,
    StartStep,
    Unanswered,
)

MAX_ROWS = MAX_CHILDREN
MAX_SERVICES = 64
MAX_POOLS = 32
MAX_LISTENERS = 256
MAX_TARGETS = 128
"""The most targets of all redirects together."""

WORD_BYTES = 8
NAME_WORDS = 16
"""The length of a column's name: UTF-8, filled up with zeros."""
NAME_BYTES = NAME_WORDS * WORD_BYTES
TARGET_NAME_WORDS = 40
"""The same for a target, whose name has a service and a domain name of 253 bytes."""
NS = 1_000_000_000
SANE_COUNT = 1 << 62
"""No honest counter reaches this number. Only a faulty child writes one that does."""

END_CAUSES: tuple[EndCause, ...] = tuple(EndCause)
KINDS: tuple[ChildKind, ...] = tuple(ChildKind)
SERVING_KINDS = tuple(kind for kind in KINDS if kind is not ChildKind.EXPORTER)
"""The kinds of children that serve clients."""
PHASES: tuple[ChildPhase, ...] = tuple(ChildPhase)
FAULTS: tuple[Fault, ...] = tuple(Fault)
RESOURCES: tuple[Resource, ...] = tuple(Resource)
MASTER_PHASES: tuple[MasterPhase, ...] = tuple(MasterPhase)
REAP_REASONS: tuple[ReapReason, ...] = tuple(ReapReason)
UNANSWERED: tuple[Unanswered, ...] = tuple(Unanswered)
REFUSAL_REASONS: tuple[RefusalReason, ...] = tuple(RefusalReason)
HALTS: tuple[Halt, ...] = tuple(Halt)
HEADER_RESULTS: tuple[HeaderResult, ...] = tuple(HeaderResult)
RELOAD_RESULTS: tuple[ReloadResult, ...] = tuple(ReloadResult)
PROGRAM_RESULTS: tuple[ProgramResult, ...] = tuple(ProgramResult)
START_STEPS: tuple[StartStep, ...] = tuple(StartStep)

_SHORT_BOUNDS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5)
DURATION_BOUNDS_S: tuple[float, ...] = (*_SHORT_BOUNDS_S, 1.0, 5.0, 10.0, 60.0, 600.0, 3600.0)
"""The upper bounds of the buckets of connection durations."""
REAP_BOUNDS_S: tuple[float, ...] = (0.0001, 0.0005, *_SHORT_BOUNDS_S, 1.0, 5.0)
"""The upper bounds of the buckets of delays from death to reaping."""
RTT_BOUNDS_S: tuple[float, ...] = (0.0001, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
"""The upper bounds of the buckets of round-trip times: a host, a house, a country, the
world, a satellite, a full queue.
"""
LAG_BOUNDS_S: tuple[float, ...] = (0.0001, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)
"""The upper bounds of the buckets of the longest turns of loops."""

MOST_ENDED = 1000
"""How many connections that have ended are remembered."""
RING_ENTRIES = 1024
"""The room for them in the ring of one child; a few are being overwritten."""

LANE_BUCKETS = 4096
BUCKET_SOURCES = 8
"""How many entries a bucket has. With 10,000 sources, the most connections that a
worker has by default, one bucket in 1,000 overflows.
"""

HISTORY_SAMPLES = 600
"""How many samples of the history can be read: one a second, of ten minutes."""
HISTORY_SLOTS = HISTORY_SAMPLES + 1
"""One more than that: the one that the master may be writing."""

Table = tuple[str, tuple[tuple[str, tuple[str, ...]], ...]]
"""An area as plain data: its name, then for each entry its name and its labels and
values.
"""


class Word:
    """One entry of an area: ``count`` times one word, or one for each of ``labels``.

    As an attribute of its area it reads as its offset, in words from the area's start.
    """

    def __init__(
        self,
        meaning: str,
        labels: Iterable[object] = ("",),
        *,
        count: int = 1,
        values: Iterable[object] = (),
    ) -> None:
        """Describe the entry. ``values``: the table, if the number in the word is the
        index of one.
        """
        self.meaning = meaning
        self.labels = tuple(str(label) for label in labels)
        self.count = count
        self.values = tuple(str(value) for value in values)
        self.name = ""
        self.offset = -1

    def __set_name__(self, area: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: None, area: type) -> int:
        return self.offset

    @property
    def size(self) -> int:
        """The length of the entry, in words."""
        return self.count * len(self.labels)


class Area:
    """A run of words. A subclass is a table; its order is the order in memory."""

    words: ClassVar[tuple[Word, ...]] = ()
    size: ClassVar[int] = 0
    """The length of the area, in words."""

    def __init_subclass__(cls) -> None:
        """Give each entry its offset."""
        cls.words = tuple(word for word in vars(cls).values() if isinstance(word, Word))
        cls.size = 0
        for word in cls.words:
            word.offset = cls.size
            cls.size += word.size

    @classmethod
    def span(cls, offset: int) -> slice:
        """Return the slice of the entry that begins at ``offset``."""
        (size,) = (word.size for word in cls.words if word.offset == offset)
        return slice(offset, offset + size)

    @classmethod
    def table(cls) -> Table:
        """This area as plain data, for the fingerprint."""
        entries = tuple(
            (word.name, (word.meaning, str(word.count), *word.labels, *word.values))
            for word in cls.words
        )
        return cls.__name__, entries


class Master(Area):
    """The master's own words."""

    MAGIC = Word("marks a board of unpd")
    LAYOUT = Word("the fingerprint of the layout")
    PHASE = Word("index of the phase", values=MASTER_PHASES)
    GENERATION = Word("the generation of the configuration in use")
    START_WALL_NS = Word("when the master started, since the epoch")
    START_NS = Word("when the master started, on the monotonic clock")
    SIGCHLD = Word("runs of the SIGCHLD handler")
    UNKNOWN_REAPED = Word("reaped processes that the master had not forked")
    FORK_FAILURES = Word("forks that the kernel refused")
    LAST_RELOAD_OK = Word("1 if the last load of the configuration succeeded, else 0")
    LAST_RELOAD_WALL_NS = Word("when the configuration was last loaded with success")
    LOG_DROPPED = Word("log lines that the master dropped")
    CPU_NS = Word("processor time of the master")
    RESIDENT_BYTES = Word("resident memory of the master")
    VIRTUAL_BYTES = Word("virtual memory of the master")
    OPEN_FDS = Word("open descriptors of the master")
    MAX_FDS = Word("the master's limit of open descriptors")
    ROWS_USED = Word("how many rows were ever given out")
    RENDERINGS = Word(
        "pages of metrics rendered; the exporters write it, several after a reload, and each"
        " sees by it whether another has shown newer counts"
    )
    RELOADS = Word("reloads, by result", RELOAD_RESULTS)
    SPAWNS = Word("workers spawned, by pool", count=MAX_POOLS)
    REAPED = Word(
        "children reaped", (f"{kind} {reason}" for kind in KINDS for reason in REAP_REASONS)
    )
    REAP_BUCKETS = Word("delays from death to reaping, by bound", (*REAP_BOUNDS_S, "above"))
    REAP_SUM_NS = Word("the sum of these delays")
    KERNEL_DROPS = Word("datagrams that the kernel dropped, by service", count=MAX_SERVICES)
    DROPS_SEEN = Word(
        "the kernel's own count of the listener's present socket, by listener", count=MAX_LISTENERS
    )
    LISTEN_OVERFLOWS = Word("clients that the kernel turned away because an accept queue was full")
    LISTEN_DROPS = Word("clients that the kernel turned away before they reached a listener")
    LAG_BUCKETS = Word("longest turns of the master's loop, by bound", (*LAG_BOUNDS_S, "above"))
    LAG_SUM_NS = Word("the sum of these turns")
    LISTEN_QUEUES = Word("accept queues, by listener", ("length", "limit"), count=MAX_LISTENERS)
    PRESSURE = Word(
        "how long processes wait, in hundredths of a per cent, by resource; 0 where no limit asks,"
        " or nothing tells",
        RESOURCES,
    )
    LOAD = Word("the load average of the last minute, in hundredths; 0 as above")
    FAULTS = Word("1 while the daemon has the fault, else 0", FAULTS)
    WANTED = Word("children wanted, by pool and kind", SERVING_KINDS, count=MAX_POOLS)
    UNREACHABLE = Word("1 while clients reach no listener of it, by service", count=MAX_SERVICES)
    CONNECTION_PEAKS = Word(
        "most connections open at a sample of the last minute, by service", count=MAX_SERVICES
    )
    HALTED = Word("1 while an operator keeps its new clients out, by service", count=MAX_SERVICES)
    LIMITS = Word(
        "how many connections it may have at a time, by service; 0: there is no limit, or the"
        " configuration in use has no such service",
        count=MAX_SERVICES,
    )
    BUSY = Word(
        "share of time that the loops of the workers have not waited, in hundredths of a per cent,"
        " by pool",
        count=MAX_POOLS,
    )
    BEAT_NS = Word("the master's last heartbeat, on the monotonic clock; 0 before the first")
    DENIALS = Word("live denials of networks")
    REPORTS_LOST = Word("reports about clients of sensors for which there was no room")


class Directory(Area):
    """The master's words about one row. A birth of 0: no child holds the row."""

    BIRTH = Word("serial number of the child")
    PID = Word("process id of the child; 0: it was reaped, and its sessions live on")
    KIND = Word("index of its kind", values=KINDS)
    POOL = Word("column of its pool")
    PHASE = Word("index of its phase", values=PHASES)
    GENERATION = Word("its generation")
    INDEX = Word("its place in the pool")
    BORN_NS = Word("when it was forked, on the monotonic clock")
    ACCEPTED_BEFORE = Word("how many connections the children before it in its row had accepted")
    CPU_NS = Word("the processor time that it has used, without that of its own children")
    CPU = Word(
        "how much of one processor it uses, in hundredths of a per cent, and one more; 0: not known"
    )
    RESIDENT_BYTES = Word("its memory in RAM; 0: not known, nor its processor time")


class Service(Area):
    """One service's counters in one row.

    The ends stand before ``ACCEPTED``. A reader copies upwards, so that it never sees
    an end without its accept, and active = accepted - ended is not negative.
    """

    ENDED = Word("connections that ended, by cause", END_CAUSES)
    DURATION_BUCKETS = Word("durations of connections, by bound", (*DURATION_BOUNDS_S, "above"))
    DURATION_SUM_NS = Word("the sum of these durations")
    RECEIVED = Word("bytes received")
    SENT = Word("bytes that the kernel took")
    ACCEPT_ERRORS = Word("errors of accept(2), by errno", ACCEPT_ERRNOS)
    DATAGRAMS_RECEIVED = Word("datagrams received")
    DATAGRAMS_SENT = Word("datagrams that the kernel took")
    DATAGRAM_BYTES_RECEIVED = Word("bytes in the datagrams received")
    DATAGRAM_BYTES_SENT = Word("bytes in the datagrams sent")
    DATAGRAM_RECEIVE_ERRORS = Word("errors that came from the network in the place of a datagram")
    UNANSWERED = Word("datagrams without an answer, by reason", UNANSWERED)
    SESSIONS_FORKED = Word("session processes forked")
    SESSIONS_REAPED = Word("session processes reaped, by reason", REAP_REASONS)
    SESSION_FORK_FAILURES = Word("forks of session processes that the kernel refused")
    PROGRAM_PEAK_BYTES = Word("the peak memory of the program that had the most")
    PROGRAM_CPU_NS = Word("processor time of programs that have ended")
    PROGRAM_BUCKETS = Word("how long programs ran, by bound", (*DURATION_BOUNDS_S, "above"))
    PROGRAM_SUM_NS = Word("the sum of these times")
    PROGRAMS_ENDED = Word("programs that have ended, by result", PROGRAM_RESULTS)
    REFUSED = Word("connections and datagrams refused, by reason", REFUSAL_REASONS)
    WOULD_REFUSE = Word(
        "connections and datagrams that were only observed and would have been refused, by reason",
        REFUSAL_REASONS,
    )
    PROXY_HEADERS = Word(
        "headers of the PROXY protocol that were awaited, by result", HEADER_RESULTS
    )
    RTT_BUCKETS = Word(
        "round-trip times at the end of connections, by bound", (*RTT_BOUNDS_S, "above")
    )
    RTT_SUM_NS = Word("the sum of these times")
    RETRANSMITTED = Word("segments sent again, as far as the ends of connections tell")
    OLDEST_NS = Word(
        "when the oldest open connection was accepted, on the monotonic clock; 0: none"
    )
    ACCEPTED = Word("connections accepted")


class Target(Area):
    """One target of a redirect, in one row."""

    CONNECTED = Word("connections made to it")
    FAILED = Word("connects that failed, by errno", CONNECT_FAILURES)


class Row(Area):
    """The words that one child writes."""

    BEAT_NS = Word("the last heartbeat, on the monotonic clock")
    EXIT_NS = Word("when the child was about to exit, on the monotonic clock")
    LOG_DROPPED = Word("log lines that the child dropped")
    OPEN = Word("connections that are open now, of all services, those of arrivals included")
    SERVICES = Word("counters by service", count=MAX_SERVICES * Service.size)
    LISTENER_ACCEPTED = Word("connections or datagrams taken, by listener", count=MAX_LISTENERS)
    TARGETS = Word("counters by target of a redirect", count=MAX_TARGETS * Target.size)
    BUSY_NS = Word("how long the loop of a worker has not waited, since its birth")
    LAG_BUCKETS = Word("longest turns of the loops of workers, by bound", (*LAG_BOUNDS_S, "above"))
    LAG_SUM_NS = Word("the sum of these turns")
    READERS_REFUSED = Word("clients of an exporter that allow of the metrics did not let in")


class Session(Area):
    """One session process of a dispatcher, and its connection.

    The session writes the first words, which are those of a row, and ``COUNTS``. The
    keeper of the table writes the others: the dispatcher, or the master while there is
    none. But the session enters its ``PID`` too, and the master writes ``CPU_NS``,
    ``PEAK_BYTES`` and then ``STATUS``, when it has reaped a session that an earlier
    dispatcher forked. A program cannot write here: the process that was to become it
    writes why it failed to, and the keeper why it ends one. A process that calls a
    function writes what that has raised.
    """

    BEAT_NS = Word("as in a row")
    EXIT_NS = Word("as in a row")
    LOG_DROPPED = Word("as in a row")
    OPEN = Word("as in a row")
    COUNTS = Word("the counters of its service", count=Service.size)
    SERVICE = Word("column of its service, and one more; 0: the entry is free")
    PID = Word("process id of the session; 0: it was not forked yet")
    ACCEPTED_NS = Word("when its connection was accepted, on the monotonic clock")
    PEER = Word("the address of its client, filled up with zeros", count=4)
    BOOKED_RECEIVED = Word("bytes received that are booked in the dispatcher's row")
    BOOKED_SENT = Word("bytes sent that are booked there")
    SOURCE = Word("the key of its source in the dispatcher's lane; 0: it is not counted there")
    STATUS = Word("its wait status, and one more; 0: the master has not reaped it")
    FORKED = Word("1 if the dispatcher's row counts its process, else 0")
    KICKED = Word("the end cause for which it has to leave, and one more; 0: none")
    LISTENER = Word("where the row counts the connections of its listener")
    FAILED_STEP = Word("the step of its start that failed, and one more", values=START_STEPS)
    FAILED_ERRNO = Word("the errno of that step")
    TERMINATED_NS = Word("when its process group got SIGTERM, on the monotonic clock; 0: not yet")
    CPU_NS = Word("its processor time, if the master has reaped it")
    PEAK_BYTES = Word("its peak memory, if the master has reaped it")
    TRACE = Word("the end of a traceback of its function, filled up with zeros", count=112)


class Ended(Area):
    """One connection that has ended, in the ring of its child
    (:mod:`unpd.board.ended`).
    """

    ENDED_NS = Word("when it ended, on the clock since boot")
    WORDS = Word("where the words of its service start in a row")
    CAUSE = Word("index of the end cause", values=END_CAUSES)
    DURATION_NS = Word("how long it lasted")
    RECEIVED = Word("bytes received")
    SENT = Word("bytes that the kernel took")
    RTT_NS = Word("the round-trip time to its client; 0: not known")
    RETRANSMITS = Word("segments sent to it again")
    PEER = Word("the address of its client, filled up with zeros", count=4)


class Ring(Area):
    """The connections of one child that have ended last."""

    COUNT = Word("how many were ever written here")
    ENTRIES = Word("the last of them, each as in Ended", count=RING_ENTRIES * Ended.size)


class DeniedHalf(Area):
    """One of two copies of the ranges that are denied. They are disjoint and sorted; a
    range of IPv6 has an entry in each of four columns.
    """

    V4_COUNT = Word("ranges of IPv4")
    V6_COUNT = Word("ranges of IPv6")
    V4 = Word("a range: the first address << 32 | the last", count=MAX_DENIALS)
    V6_FIRST_HIGH = Word("the first 64 bits of the first address", count=MAX_DENIALS)
    V6_FIRST_LOW = Word("the last 64 bits of the first address", count=MAX_DENIALS)
    V6_LAST_HIGH = Word("the first 64 bits of the last address", count=MAX_DENIALS)
    V6_LAST_LOW = Word("the last 64 bits of the last address", count=MAX_DENIALS)


class Denied(Area):
    """The networks that are denied now. The master writes it, and no child can."""

    VERSION = Word("goes up with each change; its last bit is the half that holds")
    HALVES = Word("two copies, each as in DeniedHalf", count=2 * DeniedHalf.size)


class Halted(Area):
    """The services that an operator has halted. The master writes it, and no child
    can.
    """

    SERVICES = Word(
        "index of how it is halted, and one more, by service; 0: it takes clients",
        count=MAX_SERVICES,
        values=HALTS,
    )


class HistoryTotals(Area):
    """The samples of the whole daemon, a column for each figure. A count is that of the
    board: it goes up, and the difference of two samples is a rate.
    """

    AT_NS = Word("when it was taken, on the clock since boot", count=HISTORY_SLOTS)
    OPEN = Word("open connections", count=HISTORY_SLOTS)
    ACCEPTED = Word("connections accepted", count=HISTORY_SLOTS)
    DATAGRAMS = Word("datagrams received", count=HISTORY_SLOTS)
    RECEIVED = Word("bytes received, in datagrams too", count=HISTORY_SLOTS)
    SENT = Word("bytes sent, in datagrams too", count=HISTORY_SLOTS)
    REFUSED = Word("connections and datagrams refused", count=HISTORY_SLOTS)
    QUEUED = Word("connections that wait in accept queues", count=HISTORY_SLOTS)
    RTT_COUNT = Word("round-trip times measured", count=HISTORY_SLOTS)
    RTT_SUM_NS = Word("the sum of these times", count=HISTORY_SLOTS)
    LAG_COUNT = Word("turns of loops measured", count=HISTORY_SLOTS)
    LAG_SUM_NS = Word("the sum of their lags", count=HISTORY_SLOTS)


class HistoryService(Area):
    """The same figures of one service, without the times."""

    OPEN = Word("as in the totals", count=HISTORY_SLOTS)
    ACCEPTED = Word("as in the totals", count=HISTORY_SLOTS)
    DATAGRAMS = Word("as in the totals", count=HISTORY_SLOTS)
    RECEIVED = Word("as in the totals", count=HISTORY_SLOTS)
    SENT = Word("as in the totals", count=HISTORY_SLOTS)
    REFUSED = Word("as in the totals", count=HISTORY_SLOTS)
    QUEUED = Word("as in the totals", count=HISTORY_SLOTS)


class History(Area):
    """Ten minutes of samples. The master writes it, and no child can. Sample number n
    stands in slot n % HISTORY_SLOTS of each column.
    """

    WRITTEN = Word("the number of the last sample that is whole; 0: there is none")
    TOTALS = Word("as in HistoryTotals", count=HistoryTotals.size)
    SERVICES = Word("as in HistoryService, by service", count=MAX_SERVICES * HistoryService.size)


class LaneSums(Area):
    """The sums of all lanes, at the start of the counts of sources. The words of all
    rows stand side by side, so that a reader copies one kind of sum of all rows at
    once. ``EXPIRES_NS`` stands last, for the reason given at :class:`Source`.
    """

    USED = Word("entries and overflows in use, by row; 0: readers skip the lane", count=MAX_ROWS)
    OPEN = Word("open connections, by service and row", count=MAX_SERVICES * MAX_ROWS)
    COUNT = Word("as in a source, by service and row", count=MAX_SERVICES * MAX_ROWS)
    BEFORE = Word("as in a source, by service and row", count=MAX_SERVICES * MAX_ROWS)
    EXPIRES_NS = Word("as in a source, by service and row", count=MAX_SERVICES * MAX_ROWS)


class Bucket(Area):
    """What stands in a bucket of a lane before its entries, each as in Source."""

    OVERFLOW = Word("open connections that got no entry: they count for every source here")


class Source(Area):
    """An entry of a bucket: the counts of one source of one service.

    ``EXPIRES_NS`` stands last and is written first: a reader copies upwards, so it
    never takes the count of a window that is over for that of the present one.
    """

    KEY = Word("hash of the service's column and the source's prefix; 0: the entry is free")
    OPEN = Word("open connections")
    COUNT = Word("connections or datagrams admitted in the last window that had any")
    BEFORE = Word("those of the window before that one")
    EXPIRES_NS = Word("when these counts are over: the end of the window after; 0: there are none")


class Board(Area):
    """The whole board. It has the names of its columns, so that the next master can
    read it.
    """

    MASTER = Word("the master's words", count=Master.size)
    DIRECTORY = Word("an entry for each row", count=MAX_ROWS * Directory.size)
    SERVICE_NAMES = Word("names of services", count=MAX_SERVICES * NAME_WORDS)
    POOL_NAMES = Word("names of pools", count=MAX_POOLS * NAME_WORDS)
    LISTENER_NAMES = Word("keys of listeners", count=MAX_LISTENERS * NAME_WORDS)
    TARGET_NAMES = Word("services with a target each", count=MAX_TARGETS * TARGET_NAME_WORDS)
    ROWS = Word("the rows of the children, each as in Row", count=MAX_ROWS * Row.size)


TABLES: tuple[Table, ...] = tuple(
    area.table() for area in (Master, Directory, Service, Target, Row, Session, Board)
)
BOARD_BYTES = Board.size * WORD_BYTES


def fingerprint(tables: Iterable[Table]) -> int:
    """A number that changes when any word changes its name, place, labels or values."""
    return zlib.crc32(repr(tuple(tables)).encode())


MAGIC = int.from_bytes(b"unpd-sb\0", "little")
FINGERPRINT = fingerprint(TABLES)


def service_cells(column: int) -> int:
    """Where the words of service ``column`` start within a row."""
    return Row.SERVICES + column * Service.size


def target_cells(column: int) -> int:
    """Where the words of target ``column`` start within a row."""
    return Row.TARGETS + column * Target.size


def wanted_words(pool: int) -> int:
    """Where the numbers of wanted children of the pool in column ``pool`` start, one
    for each of SERVING_KINDS, in the master area.
    """
    return Master.WANTED + pool * len(SERVING_KINDS)


def row_start(row: int) -> int:
    """Where row ``row`` (0 to MAX_ROWS - 1) starts on the board."""
    return Board.ROWS + row * Row.size


def entry_start(row: int) -> int:
    """Where the directory's entry of row ``row`` starts on the board."""
    return Board.DIRECTORY + row * Directory.size
