"""The verbs that go through the control socket, each waiting for its result."""

import argparse
import contextlib
import json
import os
import select
from typing import Any

from unpd.cli.configured import control_path
from unpd.control.client import Asking
from unpd.control.protocol import Request
from unpd.errors import UnpdError
from unpd.names import ExitCode


def _ask(args: argparse.Namespace, request: Request) -> dict[str, Any]:
    with contextlib.closing(Asking(control_path(args))) as asking:
        return asking.ask(request)


def reload(args: argparse.Namespace) -> int:
    """``unpd reload``: wait until the new generation serves; fail, saying why, when the new configuration is refused."""
    try:
        answer = _ask(args, Request("reload"))
    except UnpdError as error:
        raise type(error)(f"reload failed: {error}") from error
    print(f"reloaded: generation {answer['generation']}")
    return ExitCode.DONE


def stop(args: argparse.Namespace) -> int:
    """``unpd stop``: wait until the daemon's process is gone."""
    with contextlib.closing(Asking(control_path(args))) as asking:
        pid = asking.daemon_pid()
        pidfd = os.pidfd_open(pid) if pid > 0 else None
        asking.ask(Request("stop", quick=args.quick))
        if pidfd is not None:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)  # readable when the process has ended (pidfd_open(2))
            poll.poll()
            os.close(pidfd)
    print("stopped")
    return ExitCode.DONE


def status(args: argparse.Namespace) -> int:
    """``unpd status``: show how the daemon is. Exit code 0 whenever it answers."""
    said = _ask(args, Request("status"))["status"]
    print(json.dumps(said, indent=2) if args.json else as_text(said))
    return ExitCode.DONE


def as_text(said: dict[str, Any]) -> str:
    """The status for people: state first, then services, then children."""
    state = "ready" if said["ready"] else said["phase"]
    lines = [f"unpd {said['version']}: {state}, pid {said['pid']}, generation {said['generation']}, up {said['uptime_s']:.0f} s"]
    lines += [f"degraded: {reason}" for reason in said["degraded"]]
    for service in said["services"]:
        lines.append(f"service {service['name']}: {service['active']} active, {service['accepted']} accepted")
        lines += [f"  {_listener(listener)}" for listener in service["listeners"]]
    for child in said["children"]:
        place = f" {child['pool']}/{child['index']}" if child["kind"] == "worker" else ""
        lines.append(f"{child['kind']}{place}: {child['phase']}, pid {child['pid']}, generation {child['generation']}, {child['age_s']:.0f} s old")
    return "\n".join(lines)


def _listener(listener: dict[str, Any]) -> str:
    queue = listener["queue"]
    return f"{listener['address']}, accept queue {queue[0]} of {queue[1]}" if queue else str(listener["address"])
