"""The words of unpd, each in one place: kinds, phases, end causes, signals, exit codes.

Whatever is public interface (metric labels, log fields, exit codes, signals) is spelled
here once; code, manual page and tests read it from here. Imports nothing but the
cheapest modules of the standard library.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


class ExitCode(enum.IntEnum):
    """How the daemon and its command line end (numbers from sysexits.h where it has
    one).
    """

    DONE = 0
    FAILED = 1
    USAGE = 2
    ADDRESS = 69
    CANNOT_CREATE = 73
    ALREADY_RUNNING = 75
    PRIVILEGE = 77
    CONFIGURATION = 78


EXIT_MEANINGS: Mapping[ExitCode, str] = MappingProxyType(
    {
        ExitCode.DONE: "done",
        ExitCode.FAILED: "not running, a reload refused, or a failure of unpd itself",
        ExitCode.USAGE: "wrong usage",
        ExitCode.ADDRESS: "an address is in use, missing, or cannot be listened on",
        ExitCode.CANNOT_CREATE: "the pid file, the log file or the control socket cannot be made",
        ExitCode.ALREADY_RUNNING: "already running",
        ExitCode.PRIVILEGE: "a privilege is missing or cannot be dropped",
        ExitCode.CONFIGURATION: "the configuration is refused",
    }
)


class ClientExit(enum.IntEnum):
    """How ``unpd client`` ends: one code for each way in which a peer can fail."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    TIMED_OUT = 4
    UNREACHABLE = 5
    RESET = 6
    CLOSED_EARLY = 7
    NAME_NOT_FOUND = 8
    INTERRUPTED = 130


MAX_WORKERS = 900
"""Of all pools together: two generations of them fit the rows of the scoreboard."""


class ChildKind(enum.StrEnum):
    """Sorts of children that the master forks."""

    WORKER = "worker"
    EXPORTER = "exporter"


class ChildPhase(enum.StrEnum):
    """The life of a child as its master sees it. KILLED: SIGKILL or SIGABRT was sent,
    the child is not reaped yet.
    """

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    KILLED = "killed"


class MasterPhase(enum.StrEnum):
    """What the master is doing. LOADING, CUTTING and PROVING are the three stages of a
    reload.
    """

    STARTING = "starting"
    RUNNING = "running"
    LOADING = "loading"
    CUTTING = "cutting"
    PROVING = "proving"
    STOPPING = "stopping"


class ChildOrder(enum.StrEnum):
    """What a master tells a child, and the signal that carries it."""

    RETIRE = "SIGUSR2"
    """A newer generation serves: take no new connections, keep the old ones as long as
    the master lets you.
    """
    FINISH = "SIGTERM"
    """Take no new connections, bring the old ones to their end, leave. To a retired
    child: end them now.
    """
    LEAVE = "SIGQUIT"
    """Leave at once."""
    REOPEN_LOG = "SIGUSR1"
    ABORT = "SIGABRT"
    """You are hung: print your stack and die."""
    KILL = "SIGKILL"


class EndCause(enum.StrEnum):
    """Why a connection ended, one word each; the order is the order on the
    scoreboard.
    """

    CLIENT_FIN = "client_fin"
    CLIENT_RST = "client_rst"
    IDLE = "idle"
    SESSION_LIMIT = "session_limit"
    PEER_VANISHED = "peer_vanished"
    STALLED = "stalled"
    SHUTDOWN = "shutdown"
    WORKER_DIED = "worker_died"
    ERROR = "error"
    DONE = "done"


class ReapReason(enum.StrEnum):
    """How a reaped child had ended, as a metric label: exit code 0, another exit code,
    the signal; or with its master.
    """

    CLEAN = "clean"
    FAILED = "failed"
    SIGABRT = "sigabrt"
    SIGKILL = "sigkill"
    SIGSEGV = "sigsegv"
    SIGTERM = "sigterm"
    OTHER_SIGNAL = "other_signal"
    MASTER_DIED = "master_died"
    """It died with a master that could reap it no more; the next one found it on the
    scoreboard.
    """


class ReloadResult(enum.StrEnum):
    """How a reload ended, as a metric label."""

    SUCCESS = "success"
    REFUSED = "refused"


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
"""Labels of unpd_accept_errors_total: what accept(2) names as possible on a healthy
listener, and the rest.
"""


class SignalMeaning(enum.StrEnum):
    """What a signal asks of the master."""

    REAP = "reap children"
    STOP = "graceful stop within grace_s"
    QUICK_STOP = "quick stop"
    RELOAD = "reload the configuration"
    REOPEN_LOG = "reopen the log file"
    MORE_WORKERS = "one worker more in the default pool, until the next reload"
    FEWER_WORKERS = "one worker fewer in the default pool, until the next reload"


@dataclass(frozen=True, slots=True)
class SignalRow:
    """One line of the signal table."""

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
)
"""The one signal table: read by the installer of handlers, the log, ``unpd run
--help``, the manual page and the README's test.
"""
