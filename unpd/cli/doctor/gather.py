"""Reads the facts for ``unpd doctor``: the configuration, the daemon that runs,
systemd, /proc and the file system.

Called by :mod:`unpd.cli.doctor.command`. Changes nothing. Raises nothing of its own: a
fact that cannot be read is missing, and the check that needs it says so.
"""

import argparse
import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from unpd.cli.commands import load_path, refuse_unusable
from unpd.cli.configured import config_path, control_path
from unpd.cli.doctor import as_daemon, process_facts, unit_facts
from unpd.cli.doctor.facts import (
    SPAN_S,
    Entry,
    Facts,
    RunningDaemon,
    Unit,
    UnknownFactError,
)
from unpd.cli.doctor.queues import address_of
from unpd.config import dropins
from unpd.config.host import Host, this_host
from unpd.config.list_checks import list_files
from unpd.config.load import Loaded
from unpd.config.schema import Config
from unpd.config.source import names_of
from unpd.control.answer_fields import mismatch
from unpd.control.client import ControlClient, NotRunningError
from unpd.control.protocol import Request
from unpd.control.status_fields import STATUS
from unpd.errors import ConfigError, PrivilegeError, UnpdError
from unpd.kernel import likeness, privileges, procnet, socket_diag
from unpd.kernel.clock import Clock, clock
from unpd.kernel.likeness import Rights
from unpd.kernel.socket_diag import BoundSocket
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
    entries, hidden = _entries(config, path, rights.uid) if config else ((), ())
    (refused, unusable), unusable_unknown = _tried(loaded, daemon, daemon_unknown, unit)
    sockets, drops_before = _sockets(daemon)
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
        sockets=sockets,
        drops_before=drops_before,
        holder=process_facts.holder,
        clock=_clock(),
        entries=entries,
        hidden=hidden,
        refused_to_user=refused,
        unusable=unusable,
        unusable_unknown=unusable_unknown,
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


def _ask(args: argparse.Namespace, path: Path | None) -> tuple[RunningDaemon | None, str]:
    """The daemon of this configuration, or of the control socket that is named; or why
    it is not known.
    """
    names = names_of(path) if args.control is None else ()
    try:
        with contextlib.closing(ControlClient(control_path(args))) as client:
            pid = client.daemon_pid()
            shown = client.ask(Request("status", {}, names)).get("status")
    except NotRunningError:
        return None, ""
    except UnpdError as error:
        return None, str(error).partition("\n")[0]
    if pid <= 0 or not isinstance(shown, dict) or mismatch(shown, STATUS):
        return None, "the daemon lives in another pid namespace, or is of another version"
    return _daemon(pid, shown), ""


def _daemon(pid: int, status: Mapping[str, Any]) -> RunningDaemon:
    listeners = {
        one["address"]: service["name"]
        for service in status["services"]
        for one in service["listeners"]
    }
    if status["metrics"]:
        listeners[status["metrics"]] = "metrics"
    pids = [pid, *(child["pid"] for child in status["children"] if child["pid"])]
    inodes = frozenset(inode for each in pids for inode in process_facts.socket_inodes(each))
    return RunningDaemon(pid=pid, listeners=listeners, inodes=inodes)


def _settings() -> Iterator[tuple[str, str]]:
    for name in SETTINGS:
        with contextlib.suppress(OSError):
            yield name, Path("/proc/sys", *name.split(".")).read_text().strip()


Sockets = tuple[BoundSocket, ...] | None


def _sockets(daemon: RunningDaemon | None) -> tuple[Sockets, dict[int, int]]:
    """The sockets, and the drops of those of the daemon SPAN_S earlier, by inode: a
    second look, only if there are any, tells whether these grow.
    """
    sockets = _look()
    own = daemon.listeners if daemon else {}
    before = {sock.inode: sock.drops for sock in sockets or () if address_of(sock).text in own}
    if any(before.values()):
        time.sleep(SPAN_S)
        sockets = _look()
    return sockets, before


def _look() -> Sockets:
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


def _rights(daemon: RunningDaemon | None, unit: Unit | None) -> Rights:
    """The user and the group of the daemon, or of the one that would start: by the
    unit, or by this user.
    """
    try:
        if daemon is not None:
            return likeness.rights_of(daemon.pid)
        if unit is not None and unit.user:
            identity = privileges.identify(unit.user, unit.group or None)
            return Rights(identity.uid, identity.gid, ())
    except (OSError, KeyError):
        pass  # gone meanwhile, or an account that there is not
    return Rights(os.geteuid(), os.getegid(), ())


Hidden = tuple[tuple[str, str], ...]


def _entries(config: Config, path: Path | None, uid: int) -> tuple[tuple[Entry, ...], Hidden]:
    """The files whose rights matter, and the directories above them; then the key and
    the path of those that cannot be looked at. One that is not there is neither.
    """
    trusted = frozenset({0, uid})
    entries: list[Entry] = []
    hidden: list[tuple[str, str]] = []
    for key, file, owners in _files(config, path):
        for place in (file, *file.parents):
            try:
                found = place.stat()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError:
                hidden.append((key, str(place)))
                continue
            entries.append(
                Entry(
                    key=key,
                    path=str(place),
                    uid=found.st_uid,
                    gid=found.st_gid,
                    mode=found.st_mode,
                    owners=trusted | owners,
                )
            )
    return tuple(entries), tuple(hidden)


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
    except (KeyError, UnicodeEncodeError):
        return frozenset()


Tried = tuple[tuple[str, ...], tuple[str, ...]]
"""Why a configuration is refused, and what cannot be used of it."""


def _tried(
    loaded: Loaded | None, daemon: RunningDaemon | None, daemon_unknown: str, unit: Unit | None
) -> tuple[Tried, str]:
    """What the daemon that runs would refuse, or one that is started; and why that is
    not known, as where only another user can start it.
    """
    if loaded is None:
        return ((), ()), "the configuration is refused"
    if daemon_unknown:
        return ((), ()), f"the daemon could not be asked: {daemon_unknown}"
    try:
        if daemon is not None:
            return as_daemon.running(daemon.pid, loaded.path), ""
        if unit is not None:
            return _start_tried(unit, loaded.path), ""
        refuse_unusable(loaded)
    except (UnknownFactError, PrivilegeError) as error:
        return ((), ()), str(error)
    except ConfigError as error:
        return ((), tuple(map(str, error.problems))), ""
    return ((), ()), ""


def _start_tried(unit: Unit, path: Path | None) -> Tried:
    starter = unit.user or "root"
    if privileges.user_name(os.geteuid()) not in ("root", starter):
        raise UnknownFactError(f"{unit.name} starts unpd as {starter}: ask as root")
    return as_daemon.starting(unit, path)
