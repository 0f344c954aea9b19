"""The verbs that go through the control socket, each waiting for its result."""

import argparse
import contextlib
import json
import os
import select
from pathlib import Path
from typing import Any

from unpd.cli.configured import control_path
from unpd.control.client import ControlClient
from unpd.control.protocol import Request
from unpd.errors import UnpdError
from unpd.names import ExitCode


def _ask(control: Path, request: Request) -> dict[str, Any]:
    with contextlib.closing(ControlClient(control)) as client:
        return client.ask(request)


def reload(args: argparse.Namespace) -> int:
    """``unpd reload``: wait until the new generation serves; fail, saying why, when the
    new configuration is refused.
    """
    control = control_path(args)
    try:
        answer = _ask(control, Request("reload"))
    except UnpdError as error:
        raise type(error)(f"reload failed: {error}") from error
    print(f"reloaded: generation {answer['generation']}")
    return ExitCode.DONE


def stop(args: argparse.Namespace) -> int:
    """``unpd stop``: wait until the daemon's process is gone."""
    with contextlib.closing(ControlClient(control_path(args))) as client:
        pidfd = _open_pidfd(client.daemon_pid())
        client.ask(Request("stop", quick=args.quick))
        if pidfd is not None:
            poll = select.poll()
            poll.register(
                pidfd, select.POLLIN
            )  # readable when the process has ended (pidfd_open(2))
            poll.poll()
            os.close(pidfd)
    print(
        "stopped" if pidfd is not None else "told to stop"
    )  # a daemon of another pid namespace cannot be watched
    return ExitCode.DONE


def _open_pidfd(pid: int) -> int | None:
    """None where there is nothing to wait for: the daemon lives in another pid
    namespace (0), or it has just gone.
    """
    try:
        return os.pidfd_open(pid) if pid > 0 else None
    except ProcessLookupError:
        return None


def status(args: argparse.Namespace) -> int:
    """``unpd status``: show how the daemon is. Exit code 0 whenever it answers."""
    said = _ask(control_path(args), Request("status"))["status"]
    print(json.dumps(said, indent=2) if args.json else as_text(said))
    return ExitCode.DONE


def as_text(said: dict[str, Any]) -> str:
    """The status for people: state first, then services, then children."""
    state = "ready" if said["ready"] else said["phase"]
    lines = [
        (
            f"unpd {said['version']}: {state}, pid {said['pid']},"
            f" generation {said['generation']}, up {said['uptime_s']:.0f} s"
        )
    ]
    lines += [f"degraded: {reason}" for reason in said["degraded"]]
    for service in said["services"]:
        lines.append(
            f"service {service['name']}: {service['active']} active, {service['accepted']} accepted"
        )
        lines += [f"  {_listener(listener)}" for listener in service["listeners"]]
    for child in said["children"]:
        place = f" {child['pool']}/{child['index']}" if child["kind"] == "worker" else ""
        lines.append(
            f"{child['kind']}{place}: {child['phase']}, pid {child['pid']}, generation"
            f" {child['generation']}, {child['age_s']:.0f} s old"
        )
    return "\n".join(lines)


def _listener(listener: dict[str, Any]) -> str:
    queue = listener["queue"]
    return (
        f"{listener['address']}, accept queue {queue[0]} of {queue[1]}"
        if queue
        else str(listener["address"])
    )
