"""Which source a sensor denies, as the master decides after the report of a child."""

from types import SimpleNamespace
from typing import cast

import pytest

from unpd.access.denials import Denial
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
    denials: list[Denial] = []
    runtime = SimpleNamespace(
        deployment=SimpleNamespace(config=loads(TRAP, this_host()).config),
        deny_list=SimpleNamespace(deny=denials.append),
        sensor_lines=SimpleNamespace(take=lambda *_: None),
    )
    sensing.deny(cast(Runtime, runtime), "trap", address)
    assert [str(each.network) for each in denials] == ([denied] if denied else [])
