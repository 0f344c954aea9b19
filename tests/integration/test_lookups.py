"""No name is looked up where a client is served, decided on, logged or listed: a
resolver that does not answer holds up nothing but the targets of redirects.
"""

import contextlib
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.support import ROOT, clients
from tests.support.access import HOME, OTHER, come, echo, inside, refused
from tests.support.daemon import COMMAND, Unpd
from tests.support.launch import Launch
from tests.support.operating import ask
from tests.support.waiting import until

REDIRECT = """
[daemon]
grace_s = 1
[services.web]
type = "redirect"
listen = ["tcp://127.0.0.1:0"]
to = ["tcp://backend.example:80"]
"""
HANGING = """
import select, socket

numeric, numeric_name = socket.getaddrinfo, socket.getnameinfo

def hang(*_, **__):
    select.select([], [], [])

def getaddrinfo(host, port, family=0, type=0, proto=0, flags=0):
    return (numeric if flags & socket.AI_NUMERICHOST else hang)(
        host, port, family, type, proto, flags
    )

def getnameinfo(address, flags):
    return (numeric_name if flags & socket.NI_NUMERICHOST else hang)(address, flags)

socket.getaddrinfo, socket.getnameinfo = getaddrinfo, getnameinfo
socket.getfqdn = socket.gethostbyaddr = hang
socket.gethostbyname = socket.gethostbyname_ex = hang
"""
"""A resolver that never answers, in the place of the system's (sitecustomize)."""


def listed(unpd: Unpd) -> dict[str, dict[str, object]]:
    """The open connections, by service."""
    found: dict[str, dict[str, object]] = {}
    place: str | None = "0:-1"
    while place is not None:
        page = ask(unpd.control, verb="connections", after=place)
        assert page["silent"] is None, "no process hangs"
        found |= {one["service"]: one for one in page["connections"]}
        place = page["next"]
    return found


@pytest.mark.slow
def test_a_resolver_that_hangs_holds_up_targets_alone(launch: Launch, tmp_path: Path) -> None:
    """Clients are served and refused meanwhile, and every address in the log and in the
    list is a number.
    """
    (tmp_path / "sitecustomize.py").write_text(HANGING)
    text = echo(f'deny = ["{OTHER}"]', workers=1) + REDIRECT
    # A fork would have no sitecustomize.
    unpd = launch(text, command=[*COMMAND], env={"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    with contextlib.ExitStack() as stack:
        waiting = stack.enter_context(clients.connect(unpd.address("web")))
        until(
            lambda: listed(unpd).get("web", {}).get("state") == "connecting",
            10.0,
            "the redirect to ask for its target",
        )
        stack.enter_context(inside(unpd))
        assert refused(come(unpd, OTHER)) == b""
        unpd.wait_event("connection.refused", peer=OTHER)
        assert ask(unpd.control, verb="explain", peer=HOME, service="echo")["ok"]
        assert unpd.get("/metrics").status == 200
        found = listed(unpd)
        assert found.keys() == {"web", "echo"}
        assert waiting.fileno() >= 0
    peers = [one["peer"] for one in found.values()]
    peers += [event.fields["peer"] for event in unpd.log_events() if "peer" in event.fields]
    hosts = {ip_address(str(peer).partition(":")[0]) for peer in peers}
    assert hosts == {ip_address(HOME), ip_address(OTHER)}
