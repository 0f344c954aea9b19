"""The status page in a real browser: it lives, everybody can use it, and it loads
nothing from elsewhere. Makes the pictures in build/pictures.
"""

import contextlib
import json
import math
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL, SIGSTOP
from typing import Any

import pytest

from tests.support import clients, loads
from tests.support.browser import ROOT, Browser, browsing, installed
from tests.support.daemon import Unpd
from tests.support.launch import Launch
from tests.support.operating import ask, reconfigure, reload
from tests.support.scale import long
from tests.support.waiting import holds, pause, until
from unpd.metrics.page.charts import HEIGHT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not installed(), reason="needs Chromium and axe-core: tests/browser/install"
    ),
]
FULL_S = 600.0
PICTURES = ROOT / "build/pictures"
CONFIG = """
[services.echo]
listen = ["tcp://127.0.0.1:0", "udp://127.0.0.1:0"]
max_connections = 200

[services.daytime]
listen = ["tcp://127.0.0.1:0"]
deny = ["127.0.0.2"]

[services.time]
listen = ["tcp://127.0.0.1:0"]
model = "iterative"

[services.chargen]
listen = ["tcp://127.0.0.1:0"]
model = "fork"
max_connections = 20
"""
OPEN = "Number(document.querySelector('.charts figure b').textContent)"
DRAWN = "(box => [box.x, box.y])(document.querySelector('.charts .l0').getBBox())"
"""Where the line of the open connections begins, and where its highest point is, from
the top of the chart.
"""
ACCEPTED_PER_S, ACCEPTED, REFUSED, BYTES_IN, BYTES_OUT = 7, 8, 10, 13, 14
"""Columns of the table of services. The name of the service is column 0."""
NAMED = """[...document.querySelectorAll('header *')]
    .filter(each => !each.children.length && each.textContent.endsWith('/unpd.toml'))
    .forEach(each => { each.textContent = '/etc/unpd/unpd.toml'; })"""
"""Shows the path that most users have: that of a test says nothing."""
WIDE, PHONE = (1280, 900), (390, 844)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """A browser. In the end it has complained about nothing, and has asked nobody but
    the daemon.
    """
    profile = tmp_path / "profile"
    profile.mkdir()
    with browsing(profile) as made:
        yield made
        assert made.problems == []
        assert {url.split("/")[2] for url in made.urls if url.startswith("http")} <= made.hosts


@pytest.fixture
def unpd(launch: Launch, browser: Browser) -> Unpd:
    """A daemon of all models, and its page in the browser."""
    daemon = launch(CONFIG)
    browser.looks("light", *WIDE)
    browser.open(f"http://127.0.0.1:{daemon.port('metrics')}/")
    return daemon


def test_the_page_lives(unpd: Unpd, browser: Browser) -> None:
    """Numbers and lines move under load and at a refusal, a killed worker shows as
    killed and comes back, and the history and its chart survive a reload that replaces
    the exporter.
    """
    line = "document.querySelector('.charts .l0').getAttribute('d')"
    before = browser.evaluate(line)
    echo = unpd.address("echo")
    with clients.idle(echo, 5), loads.running(echo, concurrency=8) as load:
        browser.wait(f"{OPEN} > 0")
        browser.wait(f"{line} !== {before!r}")
        browser.wait(f"{DRAWN}[1] < {HEIGHT / 2}")
        for column in ACCEPTED_PER_S, ACCEPTED, BYTES_IN, BYTES_OUT:
            browser.wait(f"/[1-9]/.test({cell('echo', column)})")
        for name, title in (("rtt_s", "Round-trip time"), ("lag_s", "Loop lag of workers")):
            browser.wait(f"/^[1-9][0-9.]* (µs|ms)$/.test({figure(title)})")
            assert 0 < page_of(unpd)["totals"][name] < 1
        load.more(100)
        load.stop().assert_clean(at_least=100)
    assert browser.evaluate(cell("daytime", REFUSED)) == "0"
    with clients.connect(unpd.address("daytime"), source="127.0.0.2") as sock:
        assert clients.read_all(sock) == b""
    browser.wait(f"{cell('daytime', REFUSED)} === '1deny'")
    victim = unpd.workers()[0]
    os.kill(victim, SIGKILL)
    until(lambda: len({*unpd.workers()} - {victim}) == 2, 20, "another worker")
    children = "document.getElementById('children').innerText"
    browser.wait(f"{children}.includes('killed by SIGKILL, pid {victim}')")
    for pid in unpd.workers():
        browser.wait(f"{children}.includes('{pid}')")
    browser.wait("document.getElementById('events').innerText.includes('worker.died')")
    began, (left, peak) = page_of(unpd)["history"]["at_s"][0], browser.evaluate(DRAWN)
    reload(unpd, every_pool=True)
    browser.wait(r"/generation\s+2\b/.test(document.querySelector('header').innerText)")
    browser.wait("document.getElementById('events').innerText.includes('reload.succeeded')")
    assert page_of(unpd)["history"]["at_s"][0] == began, "the history was lost"
    left_now, peak_now = browser.evaluate(DRAWN)
    assert left_now <= left, "the beginning of the chart was lost"
    assert peak_now == peak, "the peak of the chart was lost"
    assert f"pid {victim}: killed by SIGKILL" in unpd.get("/status.json").body.decode()


def cell(service: str, column: int) -> str:
    """The text of a cell in the table of services, as an expression."""
    return (
        "[...document.querySelectorAll('#services tbody tr')]"
        f".find(row => row.cells[0].textContent.startsWith({service!r}))"
        f".cells[{column}].textContent"
    )


def figure(title: str) -> str:
    """The number beside the chart of this title, as an expression."""
    return (
        "[...document.querySelectorAll('.charts figure')]"
        f".find(each => each.textContent.includes({title!r})).querySelector('b').textContent"
    )


def page_of(unpd: Unpd) -> dict[str, Any]:
    """What /status.json says."""
    found: dict[str, Any] = json.loads(unpd.get("/status.json").body)
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_everybody_can_use_it(
    unpd: Unpd, browser: Browser, scheme: str, size: tuple[int, int]
) -> None:
    """axe-core finds nothing, light and dark, wide and on a phone, and the page does
    not scroll sideways.
    """
    browser.looks(scheme, *size)
    browser.wait("document.querySelectorAll('#children tbody tr').length > 2")
    assert browser.violations() == []
    width = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert browser.evaluate(width)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_read_of_trouble(unpd: Unpd, browser: Browser, scheme: str) -> None:
    """axe-core finds nothing on a page with a refused reload, a paused service, an end
    of a worker, and the alert that the numbers are old.
    """
    browser.looks(scheme, *WIDE)
    victim = unpd.workers()[0]
    os.kill(victim, SIGKILL)
    assert unpd.run("pause", "echo", "--control", str(unpd.control)).returncode == 0
    unpd.expect_errors("reload.refused")
    reconfigure(unpd, b"no = configuration")
    assert not ask(unpd.control, verb="reload")["ok"]
    alerts = "document.getElementById('alerts').innerText"
    browser.wait(f"{alerts}.includes('was refused')")
    browser.wait("document.querySelector('#services .ill').textContent === 'paused'")
    browser.wait(f"document.getElementById('children').innerText.includes('pid {victim}')")
    assert browser.violations() == []
    exporter = unpd.exporter()
    assert exporter is not None
    os.kill(exporter, SIGSTOP)
    browser.wait("!document.getElementById('lost').hidden")
    assert browser.violations() == []
    os.kill(exporter, SIGKILL)
    browser.wait("document.getElementById('lost').hidden")
    only_lost_connections(browser)


def only_lost_connections(browser: Browser) -> None:
    """The browser has complained about nothing but requests without an answer."""
    assert all("net::ERR" in problem for problem in browser.problems), browser.problems
    browser.problems.clear()


def test_a_row_keeps_its_selection(unpd: Unpd, browser: Browser) -> None:
    """Rows that come above it do not take the element of an event, so that what a
    reader has selected stays.
    """
    started = (
        "[...document.querySelectorAll('#events tr')]"
        ".find(row => row.innerText.includes('master.started'))"
    )
    browser.wait(f"!!(window.kept = {started})")
    number = browser.evaluate("window.kept.dataset.key")
    for verb in ("pause", "resume"):
        assert unpd.run(verb, "echo", "--control", str(unpd.control)).returncode == 0
    browser.wait("document.getElementById('events').innerText.includes('service.resumed')")
    assert browser.evaluate(f"{started} === window.kept")
    assert browser.evaluate("window.kept.dataset.key") == number


def test_it_works_with_the_keyboard(unpd: Unpd, browser: Browser) -> None:
    """The first stop is the button that holds the page still; the tables scroll by
    keyboard; and the focus stays while the page renews itself.
    """
    browser.press("Tab")
    assert browser.evaluate("document.activeElement.id") == "pause"
    browser.press(" ")
    assert browser.evaluate("document.activeElement.textContent") == "Resume"
    at = "document.querySelector('time').textContent"
    stopped = browser.evaluate(at)
    asked = len(browser.urls)
    holds(lambda: browser.evaluate(at) == stopped, 2.5, "the page is held still")
    assert len(browser.urls) == asked, "a page that is held still asks for nothing"
    browser.press(" ")
    browser.press("Tab")
    assert browser.evaluate("document.activeElement.className") == "scroll"
    browser.wait(f"{at} !== {stopped!r}")
    assert browser.evaluate("document.activeElement.className") == "scroll"


def test_a_page_without_a_daemon_says_so(unpd: Unpd, browser: Browser) -> None:
    """A page whose daemon stands still is old, and shows that; once it is answered
    again it goes on.
    """
    exporter = unpd.exporter()
    assert exporter is not None
    os.kill(exporter, SIGSTOP)
    browser.wait("!document.getElementById('lost').hidden")
    shown = browser.evaluate("document.querySelector('.as-of time').textContent")
    said = browser.evaluate("document.getElementById('lost').textContent")
    assert said.startswith(f"unpd has not answered this page since {shown}")
    os.kill(exporter, SIGKILL)  # the master makes another
    browser.wait("document.getElementById('lost').hidden")
    only_lost_connections(browser)


def test_pictures(unpd: Unpd, browser: Browser, tmp_path: Path) -> None:
    """The page under load, light, dark and on a phone. The whole run takes ten minutes,
    so that the charts are full; a shorter one does not replace the pictures of it.
    """
    span_s = long(FULL_S, at_least=25.0)
    directory = PICTURES if span_s >= FULL_S else tmp_path
    with contextlib.ExitStack() as stack:
        load = stack.enter_context(loads.running(unpd.address("echo"), rate=150, concurrency=40))
        crowd = stack.enter_context(contextlib.closing(Crowd(unpd)))
        began, ends_at = time.monotonic(), time.monotonic() + span_s
        killed = False
        while (at := time.monotonic()) < ends_at:
            crowd.act(at - began)
            if not killed and at > began + 0.8 * (ends_at - began):
                os.kill(unpd.workers()[0], SIGKILL)
                killed = True
            pause(0.25)
        browser.wait("document.getElementById('children').innerText.includes('SIGKILL')")
        for name, scheme, size in (
            ("light", "light", WIDE),
            ("dark", "dark", WIDE),
            ("phone", "light", PHONE),
            ("phone-dark", "dark", PHONE),
        ):
            browser.looks(scheme, *size, scale=2 if size is PHONE else 1)
            browser.wait(f"{OPEN} > 0")
            browser.evaluate(NAMED)
            path = directory / f"status-{name}.png"
            path.unlink(missing_ok=True)
            browser.picture(path)
            assert path.stat().st_size > 10_000
        load.stop()


class Crowd:
    """Clients that come and go in waves, some that are denied, and datagrams."""

    def __init__(self, unpd: Unpd) -> None:
        self._echo, self._daytime = unpd.address("echo"), ("127.0.0.1", unpd.port("daytime"))
        self._idle: list[socket.socket] = []
        self._datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._datagrams.connect(unpd.address("echo", 1))

    def act(self, at_s: float) -> None:
        """Do what the time ``at_s`` since the start asks for."""
        wanted = int(90 + 60 * math.sin(at_s / 25) + 15 * math.sin(at_s / 4))
        while len(self._idle) < wanted:
            self._idle.append(clients.connect(self._echo))
        while len(self._idle) > wanted:
            self._idle.pop(0).close()
        for sock in self._idle[: wanted // 3]:
            with contextlib.suppress(OSError):  # its worker was killed
                sock.sendall(b"x" * 2000)
                sock.recv(2000)
        for _ in range(20):
            self._datagrams.send(b"x" * 40)
        if at_s % 60 < 20:
            with contextlib.suppress(OSError):
                socket.create_connection(self._daytime, 5, ("127.0.0.2", 0)).close()

    def close(self) -> None:
        """Go home."""
        for sock in (*self._idle, self._datagrams):
            sock.close()
