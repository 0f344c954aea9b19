"""Reads the facts for ``unpd doctor``: the configuration, the daemon that runs,
systemd, /proc and the file system.

Called by :mod:`unpd.cli.doctor.command`. Changes nothing. Raises nothing of its own: a
fact that cannot be read is missing, and the check that needs it says so.
"""

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from unpd.cli.commands import load_path
from unpd.cli.configured import config_path, control_path
from unpd.cli.doctor import process_facts, unit_facts
from unpd.cli.doctor.facts import Daemon, Entry, Facts, Unit
from unpd.config import dropins, places
from unpd.config.host import Host, this_host
from unpd.config.list_checks import list_files
from unpd.config.load import Loaded
from unpd.config.schema import Config
from unpd.config.source import names_of
from unpd.control.answer_fields import mismatch
from unpd.control.client import ControlClient, NotRunningError
from unpd.control.protocol import Request
from unpd.control.status_fields import STATUS
from unpd.errors import ConfigError, UnpdError
from unpd.kernel import likeness, privileges, procnet, socket_diag
from unpd.kernel.clock import Clock, clock
from unpd.kernel.likeness import Rights
from unpd.kernel.socket_diag import BoundSocket
from unpd.names import ExitCode
from unpd.services.function import FunctionOptions
from unpd.services.program import ProcessOptions, ProgramOptions

SETTINGS = (
    "kernel.pid_max",
    "kernel.threads-max",
    "net.core.rmem_default",
    "net.core.somaxconn",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_abort_on_overflow",
    "net.ipv6.conf.all.disable_ipv6",
    "net.netfilter.nf_conntrack_count",
    "net.netfilter.nf_conntrack_max",
    "vm.overcommit_memory",
)
"""The settings of the kernel that checks read (sysctl(8))."""
PATIENCE_S = 20.0


def gather(args: argparse.Namespace) -> Facts:
    """Read everything that the checks need."""
    path = config_path(args)
    host = this_host(path)
    loaded, refusal = _load(path, host)
    config = loaded.config if loaded else None
    daemon, daemon_unknown = _ask(args, path)
    pid = daemon.pid if daemon else os.getpid()
    unit, unit_limits, unit_unknown = unit_facts.unit(daemon.pid if daemon else 0, path)
    of_process = process_facts.limits(pid, "the daemon" if daemon else "this process")
    sysctl = dict(_settings())
    rights = _rights(daemon, unit)
    return Facts(
        configured=config,
        refusal=refusal,
        warnings=loaded.warnings if loaded else (),
        uid=rights.uid,
        gid=rights.gid,
        cpus=host.cpus,
        daemon=daemon,
        daemon_unknown=daemon_unknown,
        unit=unit,
        unit_unknown=unit_unknown,
        limits=of_process if daemon or unit_limits is None else unit_limits,
        pids=(*process_facts.cgroup_limits(pid), *process_facts.kernel_limits(sysctl)),
        sysctl=sysctl,
        losses=procnet.listen_losses(),
        sockets=_sockets(),
        holder=process_facts.holder,
        clock=_clock(),
        entries=tuple(_entries(config, path, rights.uid)) if config else (),
        unusable=_unusable(loaded, daemon, path),
        memory=_memory(),
    )


def _load(path: Path | None, host: Host) -> tuple[Loaded | None, tuple[str, ...]]:
    """The configuration, or why it is refused. The limits of the kernel are not asked
    about here: checks of their own have figures.
    """
    try:
        asked = replace(host, somaxconn=None, open_files=None, check_interfaces=True)
        return load_path(path, asked), ()
    except ConfigError as error:
        return None, tuple(map(str, error.problems))


def _ask(args: argparse.Namespace, path: Path | None) -> tuple[Daemon | None, str]:
    """The daemon of this configuration, or why it is not known."""
    try:
        with contextlib.closing(ControlClient(control_path(args))) as client:
            pid = client.daemon_pid()
            shown = client.ask(Request("status", {}, names_of(path))).get("status")
    except NotRunningError:
        return None, ""
    except UnpdError as error:
        return None, str(error).partition("\n")[0]
    if pid <= 0 or not isinstance(shown, dict) or mismatch(shown, STATUS):
        return None, "the daemon lives in another pid namespace, or is of another version"
    return _daemon(pid, shown), ""


def _daemon(pid: int, status: Mapping[str, Any]) -> Daemon:
    listeners = {
        one["address"]: service["name"]
        for service in status["services"]
        for one in service["listeners"]
    }
    if status["metrics"]:
        listeners[status["metrics"]] = "metrics"
    pids = [pid, *(child["pid"] for child in status["children"] if child["pid"])]
    inodes = frozenset(inode for each in pids for inode in process_facts.socket_inodes(each))
    return Daemon(pid=pid, listeners=listeners, inodes=inodes)


def _settings() -> Iterator[tuple[str, str]]:
    for name in SETTINGS:
        with contextlib.suppress(OSError):
            yield name, Path("/proc/sys", *name.split(".")).read_text().strip()


def _sockets() -> tuple[BoundSocket, ...] | None:
    try:
        return socket_diag.bound_sockets()
    except OSError:
        return None


def _clock() -> Clock | None:
    try:
        return clock()
    except OSError:
        return None


def _memory() -> dict[str, int]:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return {}
    return {line.partition(":")[0]: int(line.split()[1]) for line in lines}


def _rights(daemon: Daemon | None, unit: Unit | None) -> Rights:
    """The user and the group of the daemon, or of the one that would start: by the
    unit, or by this user.
    """
    try:
        if daemon is not None:
            return likeness.rights_of(daemon.pid)
        if unit is not None and unit.user:
            identity = privileges.identify(unit.user, None)
            return Rights(identity.uid, identity.gid, ())
    except (OSError, KeyError):
        pass  # gone meanwhile, or an account that there is not
    return Rights(os.geteuid(), os.getegid(), ())


def _entries(config: Config, path: Path | None, uid: int) -> Iterator[Entry]:
    """The files whose rights matter, and the directories above them."""
    trusted = frozenset({0, uid})
    for key, file, owners in _files(config, path):
        for place in (file, *file.parents):
            with contextlib.suppress(OSError):
                found = place.stat()
                yield Entry(
                    key=key,
                    path=str(place),
                    uid=found.st_uid,
                    gid=found.st_gid,
                    mode=found.st_mode,
                    owners=trusted | owners,
                )


def _files(config: Config, path: Path | None) -> Iterator[tuple[str, Path, frozenset[int]]]:
    """Each file with the key that names it, and the users that may own it too."""
    nobody: frozenset[int] = frozenset()
    if path is not None:
        yield "--config", path, nobody
        with contextlib.suppress(ConfigError):
            for drop_in in dropins.find(path, trusted_only=False).files:
                yield "--config", drop_in, nobody
    for listed in list_files(config):
        yield "a list", Path(listed.file), nobody
    for name, service in config.services.items():
        options = service.options
        if isinstance(options, ProcessOptions):
            owners = _user_of(options.user)
            for place in _programs(options):
                yield f"services.{name}", place, owners
    yield "daemon.control", config.daemon.control, nobody


def _programs(options: ProcessOptions) -> Iterator[Path]:
    if isinstance(options, ProgramOptions):
        yield Path(options.command[0])
    elif isinstance(options, FunctionOptions):
        yield from map(Path, options.path)


def _user_of(name: str) -> frozenset[int]:
    """The user of a program: it may change its own."""
    if not name:
        return frozenset()
    try:
        return frozenset({privileges.identify(name, None).uid})
    except KeyError:
        return frozenset()


def _unusable(loaded: Loaded | None, daemon: Daemon | None, path: Path | None) -> tuple[str, ...]:
    """What the daemon that runs could not use, by the check that takes its rights;
    without one, what this user could not use at a start.
    """
    if loaded is None:
        return ()
    if daemon is None:
        return tuple(map(str, places.unusable(loaded.config, loaded.source)))
    if os.geteuid() or path is None:
        return ()
    command = (sys.executable, "-m", "unpd", "check", f"--as-daemon={daemon.pid}")
    return _complaints((*command, "--config", str(path)))


def _complaints(command: tuple[str, ...]) -> tuple[str, ...]:
    """The lines by which unpd check refuses the configuration; none where it accepts
    it, or cannot take the rights of the daemon.
    """
    try:
        ended = subprocess.run(  # noqa: S603 - our own command
            command,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
            errors="replace",
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    if ended.returncode != ExitCode.CONFIGURATION:
        return ()
    own = "unpd: "
    lines = ended.stderr.splitlines()
    return tuple(line.removeprefix(own) for line in lines if line.startswith(own))
