"""The commands that ask a running daemon: a function for each verb, which waits for the
result and prints it.

Called by dispatch; calls :mod:`unpd.control.client`. ``COMMANDS`` has the names of
:data:`unpd.control.verbs.VERBS`, which a test compares. Imports no pydantic. Errors:
UnpdError, from finding the control socket or from the daemon.
"""

import argparse
import contextlib
import json
import os
import select
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from unpd.cli.configured import control_path
from unpd.control.client import ControlClient
from unpd.control.protocol import Request
from unpd.control.verbs import VERBS
from unpd.errors import UnpdError
from unpd.names import ExitCode


def request_of(args: argparse.Namespace) -> Request:
    """Return the request that the command line asks for."""
    verb = VERBS[args.command]
    return Request(
        verb.name, {argument.name: getattr(args, argument.name) for argument in verb.arguments}
    )


def _ask(control: Path, args: argparse.Namespace) -> dict[str, Any]:
    with contextlib.closing(ControlClient(control)) as client:
        return client.ask(request_of(args))


def stop(args: argparse.Namespace) -> int:
    """``unpd stop``: wait until the daemon's process is gone."""
    with contextlib.closing(ControlClient(control_path(args))) as client:
        pidfd = _open_pidfd(client.daemon_pid())
        client.ask(request_of(args))
        if pidfd is not None:
            _wait_exit(pidfd)
    print("stopped" if pidfd is not None else "told to stop")
    return ExitCode.DONE


def _open_pidfd(pid: int) -> int | None:
    """Return None if there is no process to wait for: the daemon lives in another pid
    namespace (its pid is 0 here), it has just ended, or a filter refuses the call.
    """
    try:
        return os.pidfd_open(pid) if pid > 0 else None
    except OSError:
        return None


def _wait_exit(pidfd: int) -> None:
    """Wait until the process has ended: then its pidfd is readable (pidfd_open(2))."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll()
    os.close(pidfd)


def reload(args: argparse.Namespace) -> int:
    """``unpd reload``: wait until the new configuration serves. Fail, with the reason,
    if the daemon refuses it.
    """
    control = control_path(args)
    try:
        answer = _ask(control, args)
    except UnpdError as error:
        raise type(error)(f"reload failed: {error}") from error
    print(f"reloaded: generation {answer['generation']}")
    return ExitCode.DONE


def status(args: argparse.Namespace) -> int:
    """``unpd status``: show the state of the daemon. The exit code is 0 whenever it
    answers.
    """
    shown = _ask(control_path(args), args)["status"]
    print(json.dumps(shown, indent=2) if args.json else as_text(shown))
    return ExitCode.DONE


COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = MappingProxyType(
    {"stop": stop, "reload": reload, "status": status}
)
"""The command of each verb."""


def as_text(status: dict[str, Any]) -> str:
    """Return the status for people: state first, then services, then children."""
    state = "ready" if status["ready"] else status["phase"]
    lines = [
        (
            f"unpd {status['version']}: {state}, pid {status['pid']},"
            f" generation {status['generation']}, up {status['uptime_s']:.0f} s"
        )
    ]
    lines += [f"degraded: {reason}" for reason in status["degraded"]]
    for service in status["services"]:
        lines.append(
            f"service {service['name']}: {service['active']} active, {service['accepted']} accepted"
        )
        lines += [f"  {_listener(listener)}" for listener in service["listeners"]]
    lines += [_child(child) for child in status["children"]]
    return "\n".join(lines)


def _listener(listener: dict[str, Any]) -> str:
    queue = listener["queue"]
    return (
        f"{listener['address']}, accept queue {queue[0]} of {queue[1]}"
        if queue
        else str(listener["address"])
    )


def _child(child: dict[str, Any]) -> str:
    place = f" {child['pool']}/{child['index']}" if child["kind"] == "worker" else ""
    return (
        f"{child['kind']}{place}: {child['phase']}, pid {child['pid']},"
        f" generation {child['generation']}, {child['age_s']:.0f} s old"
    )
