"""A SIGHUP with and without a terminal that was closed."""

import pytest

from unpd.master.signalling import HANG_UP_S, Terminal


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
