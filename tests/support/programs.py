"""Programs for services of type exec, and the daemons that start them."""

import contextlib
import json
import socket
from pathlib import Path
from typing import Any

from tests.support import clients, procs
from tests.support.clients import Address
from tests.support.daemon import Unpd
from tests.support.waiting import until
from unpd.names import ChildKind

TELL_PID = ("/bin/sh", "-c", "echo $$; exec cat")
"""Tells its pid in a line, then sends back what it gets."""

PATIENCE_S = 10.0


def service(name: str, *command: str, listen: str = "tcp://127.0.0.1:0", **keys: Any) -> str:
    """The table of a service of programs. ``keys``: more of its keys."""
    lines = [
        f"[services.{name}]",
        'type = "exec"',
        f"listen = [{json.dumps(listen)}]",
        f"command = {json.dumps(command)}",
        *(f"{key} = {_toml(value)}" for key, value in keys.items()),
    ]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + " }"
    return json.dumps(value)


def shell(text: str) -> tuple[str, ...]:
    """The command that runs a script of sh(1)."""
    return ("/bin/sh", "-c", text)


def executable(path: Path, text: str) -> str:
    """Write a program into a file; return its path."""
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def begun(stack: contextlib.ExitStack, address: Address) -> tuple[socket.socket, int]:
    """A client whose program has told its pid in a line, and that pid."""
    sock = stack.enter_context(clients.connect(address))
    return sock, int(read_line(sock))


def read_line(sock: socket.socket) -> bytes:
    """Read a line, without its end."""
    line = b""
    while not line.endswith(b"\n"):
        piece = sock.recv(1)
        assert piece, f"the end came after {line!r}"
        line += piece
    return line[:-1]


def launcher(unpd: Unpd) -> int:
    """Return the pid of the only launcher that accepts, once it does."""

    def ready() -> list[int]:
        return [
            pid
            for pid in unpd.children(ChildKind.LAUNCHER)
            if " ready, " in procs.title(pid) and procs.alive(pid)
        ]

    return until(ready, PATIENCE_S, "a ready launcher")[0]


def kill_launcher(unpd: Unpd, pid: int) -> int:
    """Kill a launcher; return its successor, once that is ready."""
    ready = len(unpd.log_events("launcher.ready"))
    procs.kill([pid])
    unpd.wait_event("child.reaped", pid=pid, reason="sigkill")
    unpd.wait_event("launcher.ready", after=ready)
    return launcher(unpd)


def gone(pid: int) -> None:
    """Wait until a process has ended and was reaped."""
    until(lambda: procs.stat(pid) is None, PATIENCE_S, f"process {pid} to be gone")


def ended(unpd: Unpd, name: str, **results: int) -> None:
    """Wait until so many programs of a service have ended, by result, and no others."""
    for result, number in results.items():
        unpd.metric_becomes(number, "unpd_programs_ended_total", service=name, result=result)
    assert unpd.total("unpd_programs_ended_total", service=name) == sum(results.values())
