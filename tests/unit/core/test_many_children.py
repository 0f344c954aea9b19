"""An event of one child among many costs no look at the slot of each: at a reload of
900 workers, 900 reports come within start_timeout_s.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.support.machine import Machine, running, wants
from unpd.core import events as ev
from unpd.core.machine import next_deadline
from unpd.core.model import Slot, Wanted
from unpd.names import ChildPhase

WORKERS = 60
FEW = 12


@dataclass(frozen=True, slots=True)
class Counted(Wanted):
    """Notes each look at a slot."""

    looks: list[Slot] = field(default_factory=list)

    def slots(self) -> Iterator[tuple[int, Slot]]:
        """Yield every slot."""
        for generation, slot in Wanted.slots(self):
            self.looks.append(slot)
            yield generation, slot

    def added_to(self, current: Wanted) -> Iterator[tuple[int, Slot]]:
        """Yield every added slot."""
        for generation, slot in Wanted.added_to(self, current):
            self.looks.append(slot)
            yield generation, slot

    def has(self, generation: int, slot: Slot) -> bool:
        """Whether it wants the slot."""
        self.looks.append(slot)
        return Wanted.has(self, generation, slot)


def looks(machine: Machine, wanted: Counted, *events: ev.Event) -> int:
    """Count the looks at slots by these events and the wait after each."""
    wanted.looks.clear()
    for event in events:
        machine.take(event)
        next_deadline(machine.state)
    return len(wanted.looks)


@pytest.fixture
def counted() -> Counted:
    """Return what 60 workers want."""
    plain = wants(WORKERS)
    return Counted(plain.pools, plain.limits)


def test_a_report_of_one_child_costs_few_looks(counted: Counted) -> None:
    """Neither a report of readiness during a proof nor the exit of a retired child
    looks at the slots of all children.
    """
    machine = running(counted)
    machine.reload(counted)
    for _ in range(WORKERS):
        machine.take(ev.TimePassed())
    born = machine.births(ChildPhase.STARTING)
    assert len(born) == WORKERS
    for birth in born[:-1]:
        assert looks(machine, counted, ev.ChildReady(birth)) < FEW
    machine.ready(born[-1])
    assert machine.state.generation == 2
    for birth in machine.births(ChildPhase.DRAINING):
        assert looks(machine, counted, ev.ChildExited(birth, "exit code 0")) < FEW


def test_a_vacant_slot_is_found_beside_a_child_too_many() -> None:
    """A reload that removes a pool fills a vacant slot of another one in the same step,
    though there are as many children as slots until then.
    """
    machine = running(wants({"default": 2, "other": 1}))
    machine.exit(1)
    assert machine.births() == [2, 3]
    (child,) = machine.reload(wants(2), changed=()).spawned
    assert str(child.slot) == "default/0"
