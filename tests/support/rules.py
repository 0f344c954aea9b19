"""Every rule and limit that can refuse a client without an open connection, as lines of
a configuration, and what a machine would have to be like for it. Tests of access, by
datagrams and in each model, use it.
"""

import os
import time
from dataclasses import dataclass

from tests.support.daemon import Unpd
from unpd.board.layout import RESOURCES, Master
from unpd.board.memory import Scoreboard
from unpd.names import Resource

HOME, OTHER = "127.0.0.1", "127.0.0.9"
"""The source that the rules refuse, and another one."""
_BUSY = 9000
"""In hundredths: 90, which is above the limits here."""
BUSY_WORDS = (Master.LOAD, Master.PRESSURE + RESOURCES.index(Resource.MEMORY))
LETS_IN = 2
"""So many clients of one source come in before a rate refuses."""


@dataclass(frozen=True, slots=True)
class Rule:
    """``reason``: the one that its refusals name, which is its key. ``lines``: of a
    configuration. ``first``: how many clients of HOME it lets in. ``spares``: whether
    it lets OTHER in when it refuses HOME. ``busy``: whether it needs a busy machine to
    refuse.
    """

    reason: str
    lines: str
    first: int = 0
    spares: bool = False
    busy: bool = False

    @property
    def service(self) -> str:
        """The name of a service with this rule."""
        return self.reason.replace("_", "-")


def closed_now() -> str:
    """Times at which a service is not open now, nor within an hour."""
    hour = (time.gmtime().tm_hour + 2) % 24
    return f'access_times = ["{hour:02}:00-{hour:02}:30"]\ntimes_zone = "UTC"'


def rules() -> list[Rule]:
    """All of them."""
    return [
        Rule("deny", f'deny = ["{HOME}"]', spares=True),
        Rule("allow", f'allow = ["{OTHER}"]', spares=True),
        Rule("access_times", closed_now()),
        Rule("max_pressure", "max_pressure = { memory = 80 }", busy=True),
        Rule("max_load", "max_load = 80", busy=True),
        Rule("accept_rate", 'accept_rate = "1/h burst 2"\non_limit = "refuse"', LETS_IN),
        Rule(
            "accept_rate_per_source", 'accept_rate_per_source = "1/h burst 2"', LETS_IN, spares=True
        ),
    ]


def make_busy(unpd: Unpd) -> None:
    """Write into the memory of the daemon that the machine is busy. The master writes
    the truth there once a second.
    """
    fd = _board_of(unpd.pid)
    try:
        words = Scoreboard(fd).words
    finally:
        os.close(fd)
    for word in BUSY_WORDS:
        words[word] = _BUSY


def _board_of(master: int) -> int:
    directory = f"/proc/{master}/fd"
    for name in os.listdir(directory):
        if "unpd-scoreboard" in os.readlink(f"{directory}/{name}"):
            return os.open(f"{directory}/{name}", os.O_RDWR | os.O_CLOEXEC)
    raise AssertionError(f"process {master} has no scoreboard")
