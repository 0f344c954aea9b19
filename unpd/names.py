"""The words of unpd: kinds, phases, orders, end causes, signals, exit codes.

Owns the spelling of everything that is public interface: metric labels, log fields,
exit codes, signals. Code and tests, also those of the manual pages, read it from here.
Imported everywhere, so it imports only fast modules of the standard library. Raises
nothing.
"""

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

ANSWER_SCHEMA = 1
"""The number of the lists of fields of answers, and of /status.json."""


class ExitCode(enum.IntEnum):
    """The exit codes of the daemon and its command line; from 64 on they are those of
    sysexits.h.
    """

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_RUNNING = 3
    DEGRADED = 4
    ADDRESS = 69
    CANNOT_CREATE = 73
    ALREADY_RUNNING = 75
    PRIVILEGE = 77
    CONFIGURATION = 78


EXIT_MEANINGS: Mapping[ExitCode, str] = MappingProxyType(
    {
        ExitCode.DONE: "done",
        ExitCode.FAILED: (
            "not running, a reload refused, no answer, an answer that cannot be printed, or a"
            " failure of unpd itself"
        ),
        ExitCode.USAGE: (
            "wrong usage; also a service or pool that does not exist, or to which the command does"
            " not apply"
        ),
        ExitCode.NOT_RUNNING: "of status and wait: not running",
        ExitCode.DEGRADED: (
            "of status --check: degraded or not ready; of wait: not in time; of drain:"
            " connections are left after --timeout; of doctor: something has to be mended"
        ),
        ExitCode.ADDRESS: "an address is in use, missing, or cannot be listened on",
        ExitCode.CANNOT_CREATE: (
            "the pid file, the log file, the control socket or a unit of install-units cannot be"
            " made"
        ),
        ExitCode.ALREADY_RUNNING: "already running",
        ExitCode.PRIVILEGE: "a privilege is missing or cannot be dropped",
        ExitCode.CONFIGURATION: "the configuration is refused",
    }
)


class ClientExit(enum.IntEnum):
    """The exit codes of ``unpd client``: one for each way in which a peer can fail."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    TIMED_OUT = 4
    UNREACHABLE = 5
    RESET = 6
    CLOSED_EARLY = 7
    NAME_NOT_FOUND = 8
    ANOTHER_PROTOCOL = 9
    INTERRUPTED = 130


MASTER_TITLE = "unpd: master"
"""How the process title of a master begins (setproctitle)."""
MAX_CHILDREN = 2048
"""The most children at one time, of all kinds and generations: the scoreboard has a row
for each.
"""
MAX_SEARCHED = 1000
"""Among how many processes the master looks for zombies, each for about 10 us."""
MAX_PID = 1 << 22
"""The kernel gives no greater pid (proc(5), /proc/sys/kernel/pid_max)."""
MAX_POOL_WORKERS = 512
"""The most workers of one pool."""
MAX_WORKERS = 900
"""The most workers of all pools together: MAX_CHILDREN is enough for two generations of
them.
"""

MAX_DENIALS = 65_536
"""The most live denials (``unpd deny``): shared memory has room for as many."""
NAME_RULE = (
    "must begin with a lower-case letter and have at most 32 lower-case letters, digits and hyphens"
)


def is_name(text: str) -> bool:
    """Whether ``text`` is a valid name of a pool or a service (:data:`NAME_RULE`)."""
    return re.fullmatch(r"[a-z][a-z0-9-]{0,31}", text) is not None


METRICS = "metrics"
"""The service of the exporter's listener and of its log lines. No other has this name.
"""


class Model(enum.StrEnum):
    """How the streams of a service are served: in the order of UNP, backwards."""

    EVENT = "event"
    """A worker serves many connections at once, in one loop."""
    FORK = "fork"
    """A dispatcher accepts and forks a session process for each connection."""
    ITERATIVE = "iterative"
    """A worker of its own serves one connection at a time."""


class ChildKind(enum.StrEnum):
    """The kinds of children that the master forks.

    An iterative worker is a kind of its own, because it takes no datagrams and no
    second connection. A launcher is a dispatcher whose sessions are programs; it may
    have to keep root, in order to start them as other users. A python dispatcher serves
    one service, whose function it has imported, as the user of that service.
    """

    WORKER = "worker"
    EXPORTER = "exporter"
    DISPATCHER = "dispatcher"
    ITERATIVE = "iterative"
    LAUNCHER = "launcher"
    PYTHON = "python"


KIND_OF_MODEL: Mapping[Model, ChildKind] = MappingProxyType(
    {
        Model.EVENT: ChildKind.WORKER,
        Model.FORK: ChildKind.DISPATCHER,
        Model.ITERATIVE: ChildKind.ITERATIVE,
    }
)
"""The kind that serves the streams of a model."""

PROGRAM_KINDS = (ChildKind.LAUNCHER, ChildKind.PYTHON)
"""The kinds whose sessions are programs, or functions that are treated as such."""
FORKING_KINDS = (ChildKind.DISPATCHER, *PROGRAM_KINDS)
"""The kinds that have a process for each connection."""
SINGLE_KINDS = (ChildKind.ITERATIVE, ChildKind.PYTHON)
"""The kinds that have a child for each service."""


def kind_words(kind: str) -> str:
    """A kind of children as a noun in a sentence."""
    words = {"iterative": "iterative worker", "python": "python dispatcher"}
    return words.get(kind, kind)


class ChildPhase(enum.StrEnum):
    """The phases of a child's life, as the master sees them.

    KILLED: the master has sent SIGKILL or SIGABRT and has not reaped the child yet.
    """

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    KILLED = "killed"


MISSING = "missing"
"""Shown as the phase of a slot that wants a child and has none."""


class MasterPhase(enum.StrEnum):
    """The phases of the master.

    A reload has three: LOADING reads the configuration, CUTTING waits until there is
    room for the new children beside those that still drain, PROVING waits until the new
    children are ready. LAME: the daemon serves as before, but says that it is not
    ready, because it will stop soon (``daemon.lame_duck_s``).
    """

    STARTING = "starting"
    RUNNING = "running"
    LOADING = "loading"
    CUTTING = "cutting"
    PROVING = "proving"
    LAME = "lame"
    STOPPING = "stopping"


ENDING_PHASES = (MasterPhase.LAME, MasterPhase.STOPPING)
"""The phases of a daemon that was asked to stop."""
UNREADY_PHASES = (MasterPhase.STARTING, *ENDING_PHASES)
"""The phases in which the daemon is not ready, whatever its children are."""


class ChildOrder(enum.StrEnum):
    """The orders of the master to a child, and the signals that carry them."""

    RETIRE = "SIGRTMIN"
    """Accept no new connections, because a newer generation serves; keep the old ones
    until the next order.
    """
    FINISH = "SIGTERM"
    """Accept no new connections, finish the old ones, exit; a child that was retired
    before ends its connections now.
    """
    LEAVE = "SIGQUIT"
    """Exit at once."""
    ABORT = "SIGABRT"
    """Print the stack and die, because the child is hung."""
    KILL = "SIGKILL"
    """Die: the kernel ends the child."""


class EndCause(enum.StrEnum):
    """Why a connection ended. The order is that of the counters on the scoreboard."""

    CLIENT_FIN = "client_fin"
    CLIENT_RST = "client_rst"
    IDLE = "idle"
    SESSION_LIMIT = "session_limit"
    PEER_VANISHED = "peer_vanished"
    KEEPALIVE = "keepalive"
    UNREACHABLE = "unreachable"
    STALLED = "stalled"
    SHUTDOWN = "shutdown"
    WORKER_DIED = "worker_died"
    ERROR = "error"
    DONE = "done"
    DENIED = "denied"
    KICKED = "kicked"
    NO_TARGET = "no_target"
    TARGET_LOST = "target_lost"


END_MEANINGS: Mapping[EndCause, str] = MappingProxyType(
    {
        EndCause.CLIENT_FIN: "the client ended it in good order, with its FIN",
        EndCause.CLIENT_RST: "the client reset it, or took no more bytes (ECONNRESET, EPIPE)",
        EndCause.IDLE: "no byte moved for `idle_timeout_s`",
        EndCause.SESSION_LIMIT: "it lasted for `session_timeout_s`",
        EndCause.PEER_VANISHED: (
            "the client's host acknowledged none of the bytes that were sent to it for"
            " `user_timeout_s` (ETIMEDOUT)"
        ),
        EndCause.KEEPALIVE: (
            "nothing was under way, and the client's host answered no probe of keepalive"
            " (ETIMEDOUT)"
        ),
        EndCause.UNREACHABLE: (
            "the network reported that the client's host or network cannot be reached, and no byte"
            " arrived (EHOSTUNREACH, ENETUNREACH, or ECONNREFUSED and others from a firewall)"
        ),
        EndCause.STALLED: (
            "the client's host answered, but the client took no byte for `user_timeout_s`"
        ),
        EndCause.SHUTDOWN: "the daemon stopped, or the process that served it had to go",
        EndCause.WORKER_DIED: "the process that served it died",
        EndCause.ERROR: (
            "the service failed, its program ended with another exit code than 0, or the socket"
            " failed for a reason that no other cause names: then `error` of `connection.ended`"
            " has it"
        ),
        EndCause.DONE: (
            "the service had said all; the target of a redirect ended it first; or a program ended"
            " with the exit code 0"
        ),
        EndCause.DENIED: "`unpd deny --kick` ended it",
        EndCause.KICKED: "`unpd kick` ended it",
        EndCause.NO_TARGET: "a redirect reached none of its targets",
        EndCause.TARGET_LOST: "the connection of a redirect to its target broke",
    }
)


class Unanswered(enum.StrEnum):
    """Why a datagram was not answered, as a metric label. The order is that of the
    counters on the scoreboard.
    """

    LOW_PORT = "low_port"
    """Its source port is below 1024: the sender would be another server."""
    OWN_PORT = "own_port"
    """Its source is a port or a path on which unpd itself listens."""
    GROUP = "group"
    """It came from, or was sent to, a broadcast or multicast address, or came without
    the address to which it was sent.
    """
    NO_SENDER = "no_sender"
    """The socket of its UNIX sender has no address, or a relative one, which would lead
    elsewhere from here.
    """
    REFUSED = "refused"
    """An access rule or a limit refused it: see unpd_refused_total."""
    CUT = "cut"
    """It was longer than 64 KiB."""
    RATE = "rate"
    """Its network, or UNIX address, has had ``datagram_rate`` answers within a
    second.
    """
    TOTAL_RATE = "total_rate"
    """All networks together have had ``datagram_total_rate`` answers a second."""
    AMPLIFICATION = "amplification"
    """The answer would be too long for what its network has sent."""
    NO_ANSWER = "no_answer"
    """The service has no answer to it."""
    NO_ROOM = "no_room"
    """The receiver's queue, or the send buffer, was full; of that, half is kept for
    short answers.
    """
    SEND_ERROR = "send_error"
    """The kernel refused the answer for another reason."""
    ERROR = "error"
    """The service failed: the log tells why."""


class Halt(enum.StrEnum):
    """How a service takes no new client, because an operator wants it so. The order is
    that of the numbers in shared memory.
    """

    PAUSED = "paused"
    """Clients wait in the accept queue."""
    REFUSING = "refusing"
    """It is paused, and clients are turned away."""
    DRAINING = "draining"
    """Clients are turned away, and the open connections are awaited."""


class RefusalReason(enum.StrEnum):
    """Why a connection or a datagram was refused, as a metric label. But for
    ``paused``, ``draining`` and ``denied``, each is the key of the configuration that
    refuses. The order is that of the decision, and of the counters on the scoreboard.
    """

    PAUSED = "paused"
    """An operator has paused the service: ``unpd pause``."""
    DRAINING = "draining"
    """An operator drains the service: ``unpd drain``."""
    DENIED = "denied"
    """A live denial covers its source: of ``unpd deny``, or because it connected to a
    sensor.
    """
    DENY = "deny"
    """Its source is in the list ``deny``."""
    ALLOW = "allow"
    """Its source is not in the list ``allow``."""
    ACCESS_TIMES = "access_times"
    """The service is closed at this time."""
    MAX_PRESSURE = "max_pressure"
    """The processes of this host, or of the unit, wait too long for the processor, for
    memory, or for input and output.
    """
    MAX_LOAD = "max_load"
    """The load average of this host is too high."""
    MAX_CONNECTIONS = "max_connections"
    """The service has as many open connections as it may have."""
    MAX_PER_SOURCE = "max_per_source"
    """Its source has as many open connections to the service as it may have."""
    ACCEPT_RATE = "accept_rate"
    """The service accepts as fast as it may."""
    ACCEPT_RATE_PER_SOURCE = "accept_rate_per_source"
    """Its source connects as fast as it may."""


def halt_reason(halt: Halt) -> RefusalReason:
    """The reason for which a service that is halted refuses clients."""
    return RefusalReason.DRAINING if halt is Halt.DRAINING else RefusalReason.PAUSED


ORDERED = (RefusalReason.PAUSED, RefusalReason.DRAINING, RefusalReason.DENIED)
"""The reasons that are orders of a person, and no rules of the configuration."""


class HeaderResult(enum.StrEnum):
    """What came of the header that a load balancer in ``proxy_protocol`` must send, as
    a metric label. The order is that of the counters on the scoreboard.
    """

    TOLD = "told"
    """It told the client's address."""
    LOCAL = "local"
    """It told none, as that of a load balancer's own health check: the load balancer is
    the client.
    """
    MALFORMED = "malformed"
    """It breaks the PROXY protocol, or has more than 536 bytes."""
    MISSING = "missing"
    """The connection began with other bytes."""
    LATE = "late"
    """It was not complete within 5 seconds."""
    CLOSED = "closed"
    """The load balancer ended the connection before it was complete."""
    DROPPED = "dropped"
    """unpd ended the connection before that: at a stop, or because of a live denial."""


class Resource(enum.StrEnum):
    """A resource for which processes wait: a key of ``max_pressure``, and the name of
    its file in /proc/pressure.
    """

    CPU = "cpu"
    MEMORY = "memory"
    IO = "io"


class ReapReason(enum.StrEnum):
    """How a reaped child ended, as a metric label: with exit code 0, with another exit
    code, by a signal, or together with its master.
    """

    CLEAN = "clean"
    FAILED = "failed"
    SIGABRT = "sigabrt"
    SIGKILL = "sigkill"
    SIGSEGV = "sigsegv"
    SIGTERM = "sigterm"
    OTHER_SIGNAL = "other_signal"
    MASTER_DIED = "master_died"
    """The child died together with its master, which could not reap it; the next master
    found it on the scoreboard.
    """
    UNKNOWN = "unknown"
    """The dispatcher that reaped a session process died before it could tell how."""


def reap_reason(code: int | None, signal_name: str) -> ReapReason:
    """The reason for an exit code, or for the signal that killed the process."""
    if code is not None:
        return ReapReason.CLEAN if code == 0 else ReapReason.FAILED
    name = signal_name.lower()
    return ReapReason(name) if name in tuple(ReapReason) else ReapReason.OTHER_SIGNAL


class ProgramResult(enum.StrEnum):
    """How a program that served a connection ended, as a metric label. The order is
    that of the counters on the scoreboard.
    """

    OK = "ok"
    """With the exit code 0."""
    FAILED = "failed"
    """With another exit code."""
    SIGNAL = "signal"
    """A signal killed it, also one of ours at the end of the daemon or of its
    client.
    """
    TIMEOUT = "timeout"
    """It was ended after ``session_timeout_s``, however it then ended."""
    NOT_STARTED = "not_started"
    """It could not be started: the log tells why."""


class StartStep(enum.StrEnum):
    """The steps between the fork of a program and its first instruction, in their
    order, as parts of a sentence in the log.
    """

    SESSION = "a session of its own"
    DESCRIPTORS = "its descriptors"
    NICE = "nice"
    LIMITS = "limits"
    USER = "user, group and groups"
    DIRECTORY = "directory"
    PROGRAM = "the program"


class ReloadResult(enum.StrEnum):
    """How a reload ended, as a metric label."""

    SUCCESS = "success"
    REFUSED = "refused"


class ListenerState(enum.StrEnum):
    """Whether clients reach a listener, in the status."""

    OPEN = "open"
    BROKEN = "broken"
    """It takes no clients: the log and the reasons for which the daemon is degraded
    tell why.
    """


class PoolOutcome(enum.StrEnum):
    """What a reload did to a pool, in the answer to the reload."""

    UNCHANGED = "unchanged"
    """Its children and their connections were left alone."""
    RESIZED = "resized"
    """It has more or fewer children; the others were left alone."""
    RESPAWNED = "respawned"
    """It has new children, and the old ones drain."""
    ADDED = "added"
    REMOVED = "removed"


class LiveChange(enum.StrEnum):
    """What an operator has changed in a running daemon, without the configuration."""

    HALT = "halt"
    """A service takes no new clients."""
    LOG_LEVEL = "log_level"
    SCALE = "scale"
    """A pool has another number of workers."""


class Fault(enum.StrEnum):
    """Why a running daemon is degraded, as a metric label and in the status. A fault
    stands until its cause is gone. :data:`FAULT_MEANINGS` has the meanings.
    """

    POOL_NOT_READY = "pool_not_ready"
    CRASH_LOOP = "crash_loop"
    LISTENER_BROKEN = "listener_broken"
    CONTROL_LOST = "control_lost"
    READERS_SHUT_OUT = "readers_shut_out"
    PID_FILE_LOST = "pid_file_lost"
    LOG_FAILED = "log_failed"
    LOG_FILE_LOST = "log_file_lost"
    LOG_LOSING = "log_losing"
    DENIALS_NOT_SAVED = "denials_not_saved"


FAULT_MEANINGS: Mapping[Fault, str] = MappingProxyType(
    {
        Fault.POOL_NOT_READY: (
            "a pool that serves clients, or an iterative or python service, has no ready child"
        ),
        Fault.CRASH_LOOP: "the children of a slot keep dying early",
        Fault.LISTENER_BROKEN: (
            "a listener takes no clients, and could not be opened or repaired yet; or another"
            " process changes its options again and again"
        ),
        Fault.CONTROL_LOST: "the control socket cannot be reached, and could not be made again yet",
        Fault.READERS_SHUT_OUT: "the group that may look cannot connect to the control socket",
        Fault.PID_FILE_LOST: (
            "the pid file is gone or was replaced, and could not be made again yet: a second daemon"
            " could start"
        ),
        Fault.LOG_FAILED: "a process could not open the new log file, and writes to the old one",
        Fault.LOG_FILE_LOST: "the log file was removed or replaced, and no line reaches it",
        Fault.LOG_LOSING: "the log is full or gone, and has lost lines within some seconds",
        Fault.DENIALS_NOT_SAVED: (
            "the live denials cannot be written to their file, so that a restart would lose the"
            " last changes"
        ),
    }
)


ACCEPT_ERRNOS: tuple[str, ...] = (
    "ECONNABORTED",
    "EPROTO",
    "EPERM",
    "EMFILE",
    "ENFILE",
    "ENOBUFS",
    "ENOMEM",
    "ENETDOWN",
    "ENETUNREACH",
    "EHOSTDOWN",
    "EHOSTUNREACH",
    "ENOPROTOOPT",
    "ENONET",
    "EOPNOTSUPP",
    "other",
)
"""The labels of unpd_accept_errors_total: the errors that a healthy listener may return
(accept(2)), and "other".
"""


CONNECT_FAILURES: tuple[str, ...] = (
    "ECONNREFUSED",
    "ECONNRESET",
    "ETIMEDOUT",
    "EHOSTUNREACH",
    "ENETUNREACH",
    "EACCES",
    "EPERM",
    "ENOENT",
    "EAGAIN",
    "EADDRNOTAVAIL",
    "EMFILE",
    "ENFILE",
    "ENOBUFS",
    "ENOMEM",
    "unresolved",
    "other",
)
"""The labels of unpd_target_connect_failures_total: errors of connect(2) and of
socket(2), a name without an address, and all else.
"""


class SignalMeaning(enum.StrEnum):
    """What a signal does to the master."""

    REAP = "reap children"
    STOP = "graceful stop within grace_s, after lame_duck_s"
    QUICK_STOP = "quick stop"
    RELOAD = "reload the configuration; graceful stop if the terminal was closed"
    REOPEN_LOG = "reopen the log file"
    MORE_WORKERS = "one worker more in the default pool, until the next reload"
    FEWER_WORKERS = "one worker fewer in the default pool, until the next reload"
    STOP_JOB = "stop the main process until SIGCONT; its children serve on"
    GO_ON = "go on after SIGTSTP"
    NOTED = "ignored, with a line in the log"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True)
class SignalRow:
    """A row of the table of signals. ``name``: a signal, or the first and the last of a
    range with two dots between them.
    """

    name: str
    meaning: SignalMeaning


MASTER_SIGNALS: tuple[SignalRow, ...] = (
    SignalRow("SIGTERM", SignalMeaning.STOP),
    SignalRow("SIGINT", SignalMeaning.QUICK_STOP),
    SignalRow("SIGQUIT", SignalMeaning.QUICK_STOP),
    SignalRow("SIGHUP", SignalMeaning.RELOAD),
    SignalRow("SIGUSR1", SignalMeaning.REOPEN_LOG),
    SignalRow("SIGTTIN", SignalMeaning.MORE_WORKERS),
    SignalRow("SIGTTOU", SignalMeaning.FEWER_WORKERS),
    SignalRow("SIGCHLD", SignalMeaning.REAP),
    SignalRow("SIGTSTP", SignalMeaning.STOP_JOB),
    SignalRow("SIGCONT", SignalMeaning.GO_ON),
    SignalRow("SIGUSR2", SignalMeaning.NOTED),
    SignalRow("SIGALRM", SignalMeaning.NOTED),
    SignalRow("SIGVTALRM", SignalMeaning.NOTED),
    SignalRow("SIGPROF", SignalMeaning.NOTED),
    SignalRow("SIGIO", SignalMeaning.NOTED),
    SignalRow("SIGPWR", SignalMeaning.NOTED),
    SignalRow("SIGSTKFLT", SignalMeaning.NOTED),
    SignalRow("SIGXCPU", SignalMeaning.NOTED),
    SignalRow("SIGRTMIN..SIGRTMAX", SignalMeaning.NOTED),
    # The log could cause the next two itself, where it is a pipe or at RLIMIT_FSIZE.
    SignalRow("SIGPIPE", SignalMeaning.IGNORED),
    SignalRow("SIGXFSZ", SignalMeaning.IGNORED),
    # The default action of the last two is to be ignored, so many programs send them.
    SignalRow("SIGURG", SignalMeaning.IGNORED),
    SignalRow("SIGWINCH", SignalMeaning.IGNORED),
)
"""The table of signals: every one that a process can handle, but for those that report
a fault of the program (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS).

The code that installs the handlers, the log, ``unpd run --help`` and the tests of the
manual page and the README read it. Children ignore all of these signals but the orders
of their master (:class:`ChildOrder`).
"""
