"""sd_listen_fds(3): which process the descriptors are for, and what their names are."""

import fcntl
import os
from collections.abc import Iterator

import pytest

from unpd.kernel import activation
from unpd.kernel.activation import Passed, take_passed


@pytest.fixture
def first(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The first of two neighbouring descriptors, which stand for 3 and 4 here: the test
    run uses those two itself.
    """
    high = fcntl.fcntl(0, fcntl.F_DUPFD, 500)
    os.dup2(0, high + 1, inheritable=True)
    os.set_inheritable(high, True)
    monkeypatch.setattr(activation, "FIRST_FD", high)
    yield high
    os.close(high)
    os.close(high + 1)


def environment(**variables: str) -> dict[str, str]:
    """The variables that systemd sets for this process."""
    return {"LISTEN_PID": str(os.getpid()), "PATH": "/bin", **variables}


def test_names_belong_to_descriptors_in_order(first: int) -> None:
    """The names go to the descriptors in order and may repeat. Afterwards the
    descriptors are close-on-exec and the variables are gone.
    """
    environ = environment(LISTEN_FDS="2", LISTEN_FDNAMES="echo:echo")
    assert take_passed(environ) == (Passed("echo", first), Passed("echo", first + 1))
    assert environ == {"PATH": "/bin"}
    assert not os.get_inheritable(first)
    assert not os.get_inheritable(first + 1)


def test_no_descriptors_at_all() -> None:
    """Without LISTEN_FDS no descriptor is passed (sd_listen_fds(3))."""
    environ = environment()
    assert take_passed(environ) == ()
    assert environ == {"PATH": "/bin"}


def test_without_names_they_are_unknown(first: int) -> None:
    """A descriptor without a name is called unknown (sd_listen_fds_with_names(3))."""
    assert take_passed(environment(LISTEN_FDS="1")) == (Passed("unknown", first),)


@pytest.mark.parametrize("pid", ["", "1", "0", " 17", "nonsense"])
def test_variables_for_another_process(first: int, pid: str) -> None:
    """Variables for another process pass nothing here. They are removed all the same,
    so that no child believes them.
    """
    environ = environment(LISTEN_FDS="1", LISTEN_FDNAMES="echo") | {"LISTEN_PID": pid}
    assert take_passed(environ) == ()
    assert environ == {"PATH": "/bin"}
    assert os.get_inheritable(first)


@pytest.mark.parametrize("count", ["-1", "two", "1.0", "٣", "99999999999999999999"])
def test_a_count_that_is_not_a_number(count: str) -> None:
    """A LISTEN_FDS that is not a number is refused."""
    with pytest.raises(ValueError, match="LISTEN_FDS is not a number of descriptors"):
        take_passed(environment(LISTEN_FDS=count))


def test_too_few_names(first: int) -> None:
    """Fewer names than descriptors are refused."""
    with pytest.raises(ValueError, match="announces 2 descriptors, but LISTEN_FDNAMES has 1"):
        take_passed(environment(LISTEN_FDS="2", LISTEN_FDNAMES="echo"))


def test_a_descriptor_that_is_not_open(first: int) -> None:
    """A descriptor that is announced but not open is an OSError."""
    with pytest.raises(OSError, match="Bad file descriptor"):
        take_passed(environment(LISTEN_FDS="3", LISTEN_FDNAMES="a:b:c"))
