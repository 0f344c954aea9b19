"""Checks services of the types exec and python against this host: whether their
programs can be started, as which users, and which of their keys mean nothing.

Called by unpd.config.checks; ``needs_root`` also by the master, which has to know
whether the launcher of a pool keeps root. Calls unpd.kernel to look up accounts, and to
look at a file with the rights of another user: while root does that, this process has
the file ids and the groups of that user. Raises nothing: errors and warnings go to the
findings.

Known gap: without faccessat2(2), which came with Linux 5.8 and glibc 2.33, the real
user of this process counts, so that root sees nothing that another user may not do.
"""

import contextlib
import os
import stat
from collections.abc import Iterable

from unpd.config.addresses import takes_datagrams
from unpd.config.findings import Findings
from unpd.config.host import Host
from unpd.config.lines import KeyPath
from unpd.config.refusals import AFTER_ACCEPT, RULES, limits_of
from unpd.config.schema import Config, Daemon, ServiceConfig
from unpd.config.wording import word_shown
from unpd.errors import quoted
from unpd.kernel import privileges
from unpd.kernel.privileges import Identity, file_rights_of
from unpd.services.function import FunctionOptions
from unpd.services.program import ProcessOptions, ProgramOptions

_HOMES = ("/home/", "/root/", "/run/user/")
"""What ProtectHome= hides (systemd.exec(5))."""
_ACCOUNT_KEYS = ("user", "group", "groups")
_ABOUT_SOCKETS = ("wait", "keep", "pass")
_ABOUT_PEERS = (
    *RULES,
    *AFTER_ACCEPT,
    "on_limit",
    "banner_refused",
    "banner_accepted",
    "proxy_protocol",
)
"""Keys that decide about a client when it was accepted."""
DROP_IN = (
    "only a daemon that root started can do that; under unpd.service, install the drop-in"
    " programs.conf (PROGRAMS in unpd(8))"
)


def check_programs(config: Config, host: Host, findings: Findings) -> None:
    """Check each service of type exec or python."""
    for name, service in config.services.items():
        options = service.options
        if not isinstance(options, ProcessOptions):
            continue
        path: KeyPath = ("services", name)
        is_known = not _any_refused(path, _ACCOUNT_KEYS, findings)
        user = _user_of(options, config.daemon, host) if is_known else None
        _check_files(path, options, user, findings)
        _check_rights(path, options, config.daemon, host, findings)
        if host.check_accounts:
            _check_accounts(path, options, findings)
        _check_keys(path, service, findings)
        if isinstance(options, ProgramOptions) and not _any_refused(path, _ABOUT_SOCKETS, findings):
            _check_sockets(path, service, options, findings)


def _any_refused(path: KeyPath, keys: Iterable[str], findings: Findings) -> bool:
    """Whether one of the keys is faulty: what the others mean with it is not known."""
    return any(findings.is_refused((*path, key)) for key in keys)


def needs_root(options: ProcessOptions, daemon: Daemon) -> bool:
    """Whether only root can start the program: as its user and groups, or with a nice
    value below that of the daemon.
    """
    return bool(_foreign_keys(options, daemon)) or options.nice < 0


def _foreign_keys(options: ProcessOptions, daemon: Daemon) -> list[str]:
    """The keys that name another account than the daemon's children have."""
    own = {"user": ("", daemon.user), "group": ("", daemon.group), "groups": ((),)}
    return [key for key in _ACCOUNT_KEYS if getattr(options, key) not in own[key]]


def _user_of(options: ProcessOptions, daemon: Daemon, host: Host) -> Identity | str | None:
    """The user of the program: an identity that this process, root, can take for a
    look, or the name of this process's own user; None: another one, or not known.
    """
    if host.uid != 0:
        return host.user if host.user == daemon.user else None
    if not host.check_accounts:
        return None if _foreign_keys(options, daemon) else host.children
    is_theirs = options.user in ("", daemon.user)
    group = options.group or (daemon.group if is_theirs else None)
    try:
        return privileges.identify(options.user or daemon.user, group, options.groups)
    except (KeyError, UnicodeEncodeError):  # an error of its own
        return None


def _check_files(
    path: KeyPath, options: ProcessOptions, user: Identity | str | None, findings: Findings
) -> None:
    """Refuse a program or a directory that is not there, or that this process, which
    has the user of the program, may not use. Of another user that is a warning: root
    may have another view of the file system than the daemon.
    """
    report = findings.error if isinstance(user, str) else findings.warning
    directories: list[tuple[KeyPath, str]] = [((*path, "directory"), options.directory)]
    if isinstance(options, ProgramOptions):
        program = options.command[0]
        if fault := _fault_of_program(program):
            findings.error((*path, "command", 0), f"{quoted(program)} {fault}")
        elif fault := _fault_of_rights(program, "execute", user):
            report((*path, "command", 0), fault)
    if isinstance(options, FunctionOptions):
        directories += [((*path, "path", n), each) for n, each in enumerate(options.path)]
    for key, directory in directories:
        if not _may_be_directory(directory):
            findings.error(key, f"there is no directory {quoted(directory)}")
        elif fault := _fault_of_rights(directory, "enter", user):
            report(key, fault)


def _fault_of_rights(place: str, verb: str, user: Identity | str | None) -> str:
    """A sentence about a program or a directory that ``user`` may not use; "" if that
    is allowed or not known.
    """
    if user is None:
        return ""
    rights = contextlib.nullcontext() if isinstance(user, str) else file_rights_of(user)
    try:
        with rights:
            # A filter that refuses faccessat2(2) says nothing about the place.
            if _may_search(place) or not _may_search("/"):
                return ""
    except OSError:
        return ""
    name = user if isinstance(user, str) else user.user
    is_hidden = f"{place}/".startswith(_HOMES)
    hint = "; ProtectHome= of unpd.service hides what is there from all" if is_hidden else ""
    return f"the user {name} may not {verb} {quoted(place)}, or may not reach it{hint}"


def _may_search(place: str) -> bool:
    """Whether a program can be executed, or a directory be searched, with the rights
    that this process has for files now.
    """
    return os.access(place, os.X_OK, effective_ids=True)


def _may_be_directory(path: str) -> bool:
    """Whether a directory is there, or this process may not look."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except PermissionError:
        return True
    except OSError:
        return False


def _fault_of_program(program: str) -> str:
    """Why a file cannot be started as a program, as the end of a sentence; "" if it
    can, or if this process may not look.
    """
    try:
        mode = os.stat(program).st_mode
    except PermissionError:
        return ""
    except OSError as error:
        return f"cannot be started: {error.strerror}"
    if not stat.S_ISREG(mode):
        return "is no program: it is not a plain file"
    if not mode & 0o111:
        return "is not executable: no user may execute it (chmod +x)"
    return ""


def _check_rights(
    path: KeyPath, options: ProcessOptions, daemon: Daemon, host: Host, findings: Findings
) -> None:
    """Refuse another user without root, and warn of a program that keeps root."""
    if host.uid != 0:
        for key in _foreign_keys(options, daemon)[:1]:
            findings.error(
                (*path, key),
                f"it differs from the daemon's, whose programs run as {quoted(daemon.user)}:"
                f" {DROP_IN}",
            )
    if options.nice < 0 and (host.uid != 0 or isinstance(options, FunctionOptions)):
        reason = DROP_IN if host.uid != 0 else "a function has given up root's rights"
        findings.error((*path, "nice"), f"is less than 0: {reason}")
    is_new = options.user not in ("", host.drops_to)
    if host.uid == 0 and is_new and privileges.is_root(options.user):
        findings.warning(
            (*path, "user"),
            f"{quoted(options.user)} lets the program keep root's rights: a client that takes it"
            " over has the whole system",
        )


def _check_accounts(path: KeyPath, options: ProcessOptions, findings: Findings) -> None:
    if options.user and not privileges.has_user(options.user):
        findings.error((*path, "user"), f"there is no user {quoted(options.user)} on this system")
    if options.group and not privileges.has_group(options.group):
        findings.error(
            (*path, "group"), f"there is no group {quoted(options.group)} on this system"
        )
    for index, group in enumerate(options.groups):
        if not privileges.has_group(group):
            findings.error(
                (*path, "groups", index), f"there is no group {quoted(group)} on this system"
            )


def _check_keys(path: KeyPath, service: ServiceConfig, findings: Findings) -> None:
    """Warn of keys that mean nothing for a program."""
    here = (*path, "idle_timeout_s")
    default = ServiceConfig.model_fields["idle_timeout_s"].default
    if service.idle_timeout_s != default and not findings.is_inherited(here):
        findings.warning(
            here,
            "it changes nothing: a program and its client exchange bytes without unpd; set"
            " session_timeout_s",
        )


def _check_sockets(
    path: KeyPath, service: ServiceConfig, options: ProgramOptions, findings: Findings
) -> None:
    """Refuse keys that do not fit the way in which programs get their clients."""
    if options.wait and options.keep:
        findings.error((*path, "keep"), "one of wait and keep excludes the other")
    if options.keep and not options.is_passed_as_by_systemd:
        findings.error((*path, "keep"), f"needs pass = {quoted('systemd')}")
    if options.keep * len(service.listen) > service.max_connections:
        findings.error(
            (*path, "max_connections"),
            f"is less than the {options.keep * len(service.listen)} programs that keep wants",
        )
    if not options.takes_socket:
        for address in filter(takes_datagrams, service.listen):
            findings.error(
                (*path, "listen"),
                f"{word_shown(address.text)} is of datagrams: set wait = true, so that a program"
                " gets the socket",
            )
        return
    for key in limits_of(service, _ABOUT_PEERS):
        mend = (
            f"set it in [services.{service.name}] to what sets no limit"
            if findings.is_inherited((*path, key))
            else "remove this key"
        )
        findings.error(
            (*path, key),
            "with wait or keep the program itself takes the clients, and unpd sees none of them:"
            f" {mend}",
        )
