"""Which source a sensor denies, as the master decides after the report of a child."""

from types import SimpleNamespace
from typing import cast

import pytest

from unpd.access.denials import Denial
from unpd.board.layout import Master
from unpd.config.host import this_host
from unpd.config.load import loads
from unpd.master import sensing
from unpd.master.runtime import Runtime

TRAP = """
[access]
never_deny = ["192.0.2.5"]
[services.trap]
type = "sensor"
listen = ["tcp://127.0.0.1:4711"]
source_prefix_v4 = 24
"""


class Scene:
    """As much of a runtime as the reports use."""

    def __init__(self) -> None:
        self.denied: list[str] = []
        self.lost = 0
        self.runtime = cast(
            Runtime,
            SimpleNamespace(
                deployment=SimpleNamespace(config=loads(TRAP, this_host()).config),
                deny_list=SimpleNamespace(deny=self.deny),
                sensor_lines=SimpleNamespace(take=lambda *_: None),
                sensed={},
                board=SimpleNamespace(count=self.count),
            ),
        )

    def deny(self, denial: Denial) -> None:
        """Note the network."""
        self.denied.append(str(denial.network))

    def count(self, word: int, number: int) -> None:
        """Count reports that are lost."""
        assert word == Master.REPORTS_LOST
        self.lost += number


@pytest.fixture(name="scene")
def made_scene() -> Scene:
    """A master with a sensor."""
    return Scene()


@pytest.mark.parametrize(
    ("address", "denied"),
    [
        ("198.51.100.7", "198.51.100.0/24"),
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.5", None),
        ("2001:db8::7", "2001:db8::/64"),
        ("fe80::7", "fe80::7"),
        ("nonsense", None),
    ],
)
def test_the_source_of_a_client_is_denied(address: str, denied: str | None) -> None:
    """But a client alone whose source has one that nobody denies; and a link-local
    address alone, or every host of every link would be denied.
    """
    scene = Scene()
    sensing.deny(scene.runtime, "trap", address)
    assert scene.denied == ([denied] if denied else [])


def test_a_turn_carries_out_some_reports(scene: Scene) -> None:
    """A flood of them holds up nothing else. Each waits once, and the first comes
    first.
    """
    for number in range(3 * sensing.PER_TURN):
        sensing.take(scene.runtime, "trap", f"2001:db8:{number // 2:x}::1", 0)
    sensing.carry_out(scene.runtime)
    networks = [f"2001:db8:{number:x}::/64" for number in range(1, 2 * sensing.PER_TURN)]
    assert scene.denied == ["2001:db8::/64", *networks[: sensing.PER_TURN - 1]]
    sensing.carry_out(scene.runtime)
    assert len(scene.denied) == 3 * sensing.PER_TURN // 2
    assert scene.lost == 0


def test_reports_that_find_no_room_are_counted(scene: Scene) -> None:
    """Those that a child could not send too. Nonsense of a hostile child neither counts
    nor takes room.
    """
    for number in range(sensing.MAX_WAITING + 7):
        sensing.take(scene.runtime, "trap", f"2001:db8:{number:x}::1", 0)
    assert (len(scene.runtime.sensed), scene.lost) == (sensing.MAX_WAITING, 7)
    scene.runtime.sensed.clear()
    sensing.take(scene.runtime, "trap", "2001:db8::1", 5)
    assert scene.lost == 12
    for lost in (-1, 1 << 62, "many", True):
        sensing.take(scene.runtime, "trap", "2001:db8::1", lost)
    sensing.take(scene.runtime, "trap", "x" * 1000, 0)
    sensing.take(scene.runtime, "x" * 1000, "2001:db8::1", 0)
    assert (len(scene.runtime.sensed), scene.lost) == (1, 12)
