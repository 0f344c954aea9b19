"""A SIGHUP with and without a terminal that was closed, and signals that mean
nothing.
"""

import signal

import pytest

from tests.support.memory_sink import MemorySink
from unpd.logs import Log
from unpd.master.signalling import HANG_UP_S, NOTE_PAUSE_S, Strays, Terminal


class Window:
    """A terminal that a test can close."""

    def __init__(self) -> None:
        self.closed = False

    def has_gone(self) -> bool:
        """Whether it was closed."""
        return self.closed


def test_a_hangup_that_comes_with_the_end_of_the_terminal_belongs_to_it() -> None:
    """The master need not have noticed the end before the signal."""
    window = Window()
    terminal = Terminal(watched=True, has_gone=window.has_gone)
    assert not terminal.was_closed(1.0)
    window.closed = True
    assert terminal.was_closed(5.0)


@pytest.mark.parametrize(("late_s", "stops"), [(HANG_UP_S, True), (HANG_UP_S + 0.1, False)])
def test_a_daemon_that_outlived_its_terminal_is_reloaded(late_s: float, stops: bool) -> None:
    """A background job goes on after a log-out. A SIGHUP much later comes from an
    administrator.
    """
    window = Window()
    terminal = Terminal(watched=True, has_gone=window.has_gone)
    window.closed = True
    terminal.look(100.0)
    terminal.look(104.0)
    assert terminal.was_closed(100.0 + late_s) is stops


def test_without_a_terminal_at_the_start_a_hangup_is_never_one() -> None:
    """A service manager gives no terminal, and nohup(1) asks for a life without."""
    terminal = Terminal(watched=False, has_gone=lambda: True)
    terminal.look(1.0)
    assert not terminal.was_closed(2.0)


def test_every_stray_signal_is_named_at_most_once_a_second() -> None:
    """The first one at once; those that follow soon with the next line, which says how
    often each came. Nothing is said twice.
    """
    memory = MemorySink()
    strays = Strays(Log(memory.sink, "info", "text"))
    strays.add(signal.SIGUSR2, 100.0)
    for number in (signal.SIGALRM, signal.SIGUSR2, signal.SIGALRM, signal.SIGALRM):
        strays.add(number, 100.5)
    strays.tell(100.0 + NOTE_PAUSE_S - 0.1)
    strays.tell(100.0 + NOTE_PAUSE_S)
    strays.tell(200.0)
    assert [line.partition("signal.ignored ")[2] for line in memory.lines] == [
        "signal=SIGUSR2 suppressed=0",
        "signal=SIGALRM*3,SIGUSR2 suppressed=2",
    ]
