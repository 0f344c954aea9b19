"""The thread beside a block."""

import threading

import pytest

from tests.support.threads import beside


def test_the_work_is_waited_for() -> None:
    """It has ended after the block, which it does not hold up."""
    done = list[str]()
    go_on = threading.Event()

    def work() -> None:
        go_on.wait(10.0)
        done.append("work")

    with beside(work):
        done.append("block")
        go_on.set()
    assert done == ["block", "work"]


def test_work_without_an_end_is_stopped_where_the_block_fails() -> None:
    """Or else the test would never end."""
    over, ended = threading.Event(), threading.Event()

    def work() -> None:
        over.wait()
        ended.set()

    with pytest.raises(ZeroDivisionError), beside(work, stop=over.set):
        raise ZeroDivisionError
    assert ended.is_set()
