"""Children that have not switched to a new log file."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from unpd.channel import ChannelEnd, Transport
from unpd.core.model import Child, Slot
from unpd.logs import Log
from unpd.master import rotation
from unpd.master.runtime import ChildProcess, Runtime
from unpd.names import ChildKind, ChildPhase, Fault
from unpd.sinks import Sink, open_file

BIRTH = 7


class Master:
    """As much of a runtime as a rotation uses, with one child whose channel has ended:
    it is not asked at all.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        slot = Slot(ChildKind.WORKER, "default", 0)
        child = Child(BIRTH, slot, 1, ChildPhase.READY, born_at=0.0)
        channel = ChannelEnd(cast(Transport, None))
        channel.ended = True
        self.process = ChildProcess(child, 4711, None, 0, channel)
        self.faults: dict[tuple[Fault, str], str] = {}
        self.sink = Sink(open_file(str(path)))
        self.runtime = cast(
            Runtime,
            SimpleNamespace(
                processes={BIRTH: self.process},
                faults=self.faults,
                log=Log(self.sink, "info", "text"),
                identity=None,
                deployment=SimpleNamespace(
                    config=SimpleNamespace(log=SimpleNamespace(file=str(path)))
                ),
            ),
        )

    @property
    def complaints(self) -> list[str]:
        """The lines about processes that have not switched."""
        return [line for line in self.path.read_text().splitlines() if "log.not_reopened" in line]


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Master]:
    """A master that has asked its children to switch."""
    found = Master(tmp_path / "log")
    rotation.reopen(found.runtime)
    yield found
    os.close(found.sink.fd)


def test_a_child_that_cannot_be_asked_is_logged_once(master: Master) -> None:
    """Its fault stands at once. The line follows if it has not died meanwhile, as most
    such children have.
    """
    assert list(master.faults) == [(Fault.LOG_FAILED, str(BIRTH))]
    at = master.process.log_late_at
    assert at is not None
    rotation.look_after(master.runtime, at - 0.1)
    assert not master.complaints
    rotation.look_after(master.runtime, at)
    rotation.look_after(master.runtime, at + 100)
    (line,) = master.complaints
    assert 'error="it does not answer" pid=4711' in line
