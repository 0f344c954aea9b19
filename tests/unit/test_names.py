"""The tables of words: whole, without a double, and in step with the system and the
program.
"""

import errno
import os
import signal

import pytest

from unpd import errors
from unpd.core import events as ev
from unpd.errors import ConfigError, Problem, UnpdError
from unpd.kernel.signals import numbers_of
from unpd.master.children.fork import CHILD_SIGNALS, IGNORED
from unpd.master.signalling import SIGNAL_EVENTS
from unpd.names import (
    ACCEPT_ERRNOS,
    EXIT_MEANINGS,
    MASTER_SIGNALS,
    ChildOrder,
    ClientExit,
    ExitCode,
    ReapReason,
    SignalMeaning,
)

FAULTS = {"SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGABRT", "SIGSYS"}
"""The signals by which a program reports a fault of its own, or its parent does."""


def test_the_table_has_every_signal_that_can_be_handled() -> None:
    """Each stands there once, the real-time ones included; each meaning is that of some
    signal.
    """
    numbers = [number for row in MASTER_SIGNALS for number in numbers_of(row.name)]
    assert len(set(numbers)) == len(numbers)
    others = {signal.Signals[name] for name in ("SIGKILL", "SIGSTOP", *FAULTS)}
    assert set(numbers) == signal.valid_signals() - others
    assert {row.meaning for row in MASTER_SIGNALS} == set(SignalMeaning)


def test_a_child_ignores_what_is_no_order() -> None:
    """A signal that was meant for the master, or for every process of that name, ends
    no child.
    """
    numbers = {number for row in MASTER_SIGNALS for number in numbers_of(row.name)}
    assert set(IGNORED) | set(CHILD_SIGNALS) | {signal.SIGCHLD} == numbers
    assert not set(IGNORED) & set(CHILD_SIGNALS)


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("SIGTERM", ev.StopAsked(quick=False, by="SIGTERM")),
        ("SIGINT", ev.StopAsked(quick=True, by="SIGINT")),
        ("SIGQUIT", ev.StopAsked(quick=True, by="SIGQUIT")),
        ("SIGHUP", ev.ReloadAsked(None)),
        ("SIGUSR1", ev.LogReopenAsked()),
        ("SIGTTIN", ev.PoolResized("default", 1)),
        ("SIGTTOU", ev.PoolResized("default", -1)),
    ],
)
def test_what_each_signal_asks_of_the_core(name: str, event: ev.Event) -> None:
    """The shell makes this event of it."""
    assert SIGNAL_EVENTS[signal.Signals[name]]() == event


def test_every_order_is_a_signal_of_its_own() -> None:
    """A child can tell them apart."""
    numbers = [signal.Signals[order.value] for order in ChildOrder]
    assert len(set(numbers)) == len(numbers)


def test_exit_codes_have_one_meaning_each() -> None:
    """And those of sysexits.h keep its numbers."""
    assert set(EXIT_MEANINGS) == set(ExitCode)
    assert len(set(EXIT_MEANINGS.values())) == len(EXIT_MEANINGS)
    sysexits = (os.EX_UNAVAILABLE, os.EX_CANTCREAT, os.EX_TEMPFAIL, os.EX_NOPERM, os.EX_CONFIG)
    assert sysexits == (
        ExitCode.ADDRESS,
        ExitCode.CANNOT_CREATE,
        ExitCode.ALREADY_RUNNING,
        ExitCode.PRIVILEGE,
        ExitCode.CONFIGURATION,
    )
    assert (ExitCode.DONE, ExitCode.FAILED, ExitCode.USAGE) == (0, 1, 2)


def test_clients_have_a_code_for_each_failure() -> None:
    """Below what a shell uses for itself, but for an interrupt, which looks as it does
    in a shell.
    """
    assert ClientExit.INTERRUPTED == 128 + signal.SIGINT
    assert all(code < 126 for code in ClientExit if code is not ClientExit.INTERRUPTED)


@pytest.mark.parametrize("name", [name for name in ACCEPT_ERRNOS if name != "other"])
def test_errnos_exist(name: str) -> None:
    """Every label is an errno of this system."""
    assert hasattr(errno, name)


def test_errnos_end_with_the_rest() -> None:
    """Each stands there once, "other" last."""
    assert ACCEPT_ERRNOS[-1] == "other"
    assert len(set(ACCEPT_ERRNOS)) == len(ACCEPT_ERRNOS)


def test_reap_reasons_name_signals() -> None:
    """A reason that looks like a signal is one."""
    named = [reason for reason in ReapReason if reason.startswith("sig")]
    assert all(reason.upper() in signal.Signals.__members__ for reason in named)


def test_failures_for_the_operator_have_codes_of_their_own() -> None:
    """Each class its own, and none ends with 0."""
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, UnpdError)
    ]
    codes = [kind.exit_code for kind in kinds]
    assert len(set(codes)) == len(codes) >= 6
    assert ExitCode.DONE not in codes


def test_a_problem_says_where_and_what() -> None:
    """File, line and key as far as they are known; an error lists all its problems."""
    problems = (
        Problem("unpd.toml", 3, "daemon.grace_s", "must be a number"),
        Problem("unpd.toml", None, "log", "must be a table"),
        Problem("x", None, "", "is empty"),
    )
    assert (
        str(ConfigError(problems))
        == "unpd.toml:3: daemon.grace_s: must be a number\nunpd.toml: log: must be a table\nx: is"
        " empty"
    )
