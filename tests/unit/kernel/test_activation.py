"""sd_listen_fds(3): whose the descriptors are, what they are called, and that nobody
else hears of them.
"""

import fcntl
import os
from collections.abc import Iterator

import pytest

from unpd.kernel import activation
from unpd.kernel.activation import Passed, take_passed


@pytest.fixture
def first(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The first of two neighbouring descriptors, which stand for 3 and 4 here: those of
    the test run are taken.
    """
    high = fcntl.fcntl(0, fcntl.F_DUPFD, 500)
    os.dup2(0, high + 1, inheritable=True)
    os.set_inheritable(high, True)
    monkeypatch.setattr(activation, "FIRST_FD", high)
    yield high
    os.close(high)
    os.close(high + 1)


def environment(**said: str) -> dict[str, str]:
    """What systemd sets for this process."""
    return {"LISTEN_PID": str(os.getpid()), "PATH": "/bin", **said}


def test_names_belong_to_descriptors_in_order(first: int) -> None:
    """They may repeat; the descriptors are close-on-exec from now on, and the variables
    are gone.
    """
    environ = environment(LISTEN_FDS="2", LISTEN_FDNAMES="echo:echo")
    assert take_passed(environ) == (Passed("echo", first), Passed("echo", first + 1))
    assert environ == {"PATH": "/bin"}
    assert not os.get_inheritable(first)
    assert not os.get_inheritable(first + 1)


def test_no_descriptors_at_all() -> None:
    """Without LISTEN_FDS nothing is passed, as sd_listen_fds(3) has it."""
    environ = environment()
    assert take_passed(environ) == ()
    assert environ == {"PATH": "/bin"}


def test_without_names_they_are_unknown(first: int) -> None:
    """As sd_listen_fds_with_names(3) calls them."""
    assert take_passed(environment(LISTEN_FDS="1")) == (Passed("unknown", first),)


@pytest.mark.parametrize("pid", ["", "1", "0", " 17", "nonsense"])
def test_another_process_is_meant(first: int, pid: str) -> None:
    """Nothing is taken, but the variables are gone all the same: no child shall believe
    them.
    """
    environ = environment(LISTEN_FDS="1", LISTEN_FDNAMES="echo") | {"LISTEN_PID": pid}
    assert take_passed(environ) == ()
    assert environ == {"PATH": "/bin"}
    assert os.get_inheritable(first)


@pytest.mark.parametrize("count", ["-1", "two", "1.0", "٣", "99999999999999999999"])
def test_no_number(count: str) -> None:
    """A count that is none is refused, not guessed."""
    with pytest.raises(ValueError, match="LISTEN_FDS is not a number of descriptors"):
        take_passed(environment(LISTEN_FDS=count))


def test_too_few_names(first: int) -> None:
    """Whoever counts differently means something else."""
    with pytest.raises(ValueError, match="announces 2 descriptors, but LISTEN_FDNAMES has 1"):
        take_passed(environment(LISTEN_FDS="2", LISTEN_FDNAMES="echo"))


def test_a_descriptor_that_is_not_open(first: int) -> None:
    """The promise is broken: OSError."""
    with pytest.raises(OSError, match="Bad file descriptor"):
        take_passed(environment(LISTEN_FDS="3", LISTEN_FDNAMES="a:b:c"))
