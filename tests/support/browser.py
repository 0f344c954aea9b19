"""A real browser: Debian's Chromium without a window, steered over a pipe by the
DevTools protocol (``--remote-debugging-pipe``). Tests of the status page use it.

``tests/browser/install`` installs Chromium, and axe-core below build/browser.
"""

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.support import procs
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
AXE = ROOT / "build/browser/node_modules/axe-core/axe.min.js"
ANSWER_S = 60.0
QUIET = (
    "--headless=new",
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--disable-breakpad",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-sync",
    "--disable-features=Translate,OptimizationHints,MediaRouter",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
)


def installed() -> bool:
    """Whether the browser and the accessibility checks are here."""
    return shutil.which("chromium") is not None and AXE.exists()


class Browser:
    """One browser with one page. ``problems``: console messages of warning or error,
    exceptions, and requests that failed. ``urls``: all that it has asked for;
    ``hosts``: those of the pages that a test has opened.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", out_fd: int, in_fd: int) -> None:
        self._process = process
        self._out_fd, self._in_fd = out_fd, in_fd
        self._rest = b""
        self._number = 0
        self._session = ""
        self.problems: list[str] = []
        self.urls: list[str] = []
        self.hosts: set[str] = set()
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def open(self, url: str) -> None:
        """Load a page and wait until it is there."""
        self.hosts.add(url.split("/")[2])
        self._call("Page.navigate", url=url)
        there = f"document.readyState === 'complete' && location.href === {url!r}"
        until(lambda: self.evaluate(there), 30, f"{url} is loaded")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, or of the promise that it is."""
        answer = self._call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression: str, timeout_s: float = 60.0) -> Any:
        """Wait until an expression is true; return its value."""
        return until(lambda: self.evaluate(expression), timeout_s, f"{expression} is true")

    def looks(self, scheme: str, width: int, height: int, *, scale: float = 1.0) -> None:
        """Be a screen of this size that prefers ``light`` or ``dark``."""
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self._call("Emulation.setEmulatedMedia", features=features)
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )

    def picture(self, path: Path) -> None:
        """Write a picture of the whole page."""
        path.parent.mkdir(parents=True, exist_ok=True)
        answer = self._call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def press(self, key: str) -> None:
        """Press and release a key, such as ``Tab``."""
        codes = {"Tab": 9, "Enter": 13, " ": 32}
        text = {"Enter": "\r", " ": " "}.get(key, "")
        for kind in ("keyDown", "keyUp"):
            self._call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                windowsVirtualKeyCode=codes[key],
                text=text if kind == "keyDown" else "",
            )

    def violations(self) -> list[str]:
        """What axe-core finds on the page."""
        if not self.evaluate("typeof axe === 'object'"):
            self.evaluate(f"{AXE.read_text()}; true")
        found = self.evaluate(
            "axe.run(document, {resultTypes: ['violations']}).then(r => r.violations.map("
            "v => v.id + ': ' + v.help + ' ' + v.nodes.map(n => n.html.slice(0, 200)).join(' ')))"
        )
        return list(found)

    def close(self) -> None:
        """End the browser and all its processes."""
        with contextlib.suppress(OSError, AssertionError):
            self._send("Browser.close")
            self._process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._out_fd)
        os.close(self._in_fd)

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = self._send(method, **parameters)
        deadline = time.monotonic() + ANSWER_S
        while True:
            message = self._receive(deadline, method)
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                result: dict[str, Any] = message["result"]
                return result
            self._note(message)

    def _send(self, method: str, **parameters: Any) -> int:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        data = memoryview(json.dumps(message).encode() + b"\0")
        while data:
            data = data[os.write(self._out_fd, data) :]
        return self._number

    def _receive(self, deadline: float, method: str) -> dict[str, Any]:
        while b"\0" not in self._rest:
            left_s = max(0.0, deadline - time.monotonic())
            assert select.select([self._in_fd], [], [], left_s)[0], f"no answer to {method}"
            piece = os.read(self._in_fd, 1 << 20)
            assert piece, "the browser has ended"
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        """Keep what a test wants to know of an event."""
        values = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.problems.append(f"exception: {values['exceptionDetails']}")
            case "Runtime.consoleAPICalled" if values["type"] in ("error", "warning", "assert"):
                self.problems.append(f"console: {values['args']}")
            case "Log.entryAdded" if values["entry"]["level"] in ("error", "warning"):
                self.problems.append(f"log: {values['entry']['text']} {values['entry'].get('url')}")
            case "Network.requestWillBeSent":
                self.urls.append(values["request"]["url"])


@contextlib.contextmanager
def browsing(directory: Path) -> Iterator[Browser]:
    """Start a browser with a new profile in ``directory``; end it after the block."""
    before = procs.child_pids(os.getpid())
    in_child, out_fd = os.pipe()
    in_fd, out_child = os.pipe()
    command = ["bash", "-c", 'exec "${@:2}" 3<&"$0" 4>&"$1"', str(in_child), str(out_child)]
    command += ["chromium", *QUIET, "--remote-debugging-pipe", f"--user-data-dir={directory}"]
    with (directory / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            pass_fds=(in_child, out_child),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "HOME": str(directory)},
        )
    os.close(in_child)
    os.close(out_child)
    closing: Callable[[], None] | None = None
    try:
        browser = Browser(process, out_fd, in_fd)
        closing = browser.close
        yield browser
    finally:
        if closing is not None:
            closing()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        new = procs.child_pids(os.getpid()) - before
        stats = (child for pid in new if (child := procs.stat(pid)))
        procs.kill_and_reap(child for child in stats if "chrom" in child.title)  # its orphans
