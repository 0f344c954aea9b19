"""Checks what the lists of access rules mean: entries that mean something else than
they say, entries that match nobody where they stand, and list files that may be cut
off.

Called by unpd.config.checks, and by ``unpd check`` for the sizes of list files. Calls
the schema. Raises nothing: errors and warnings go to the findings.

Known gap: a list ``allow`` of more than MAX_COMPARED ranges is not compared with
``deny``, because a load has to be short.
"""

from dataclasses import dataclass, field

from unpd.access.advice import doubt
from unpd.access.rules import WORDS, Entry, Rules
from unpd.config.access_lists import AccessList, ListFile
from unpd.config.addresses import (
    Address,
    FileAddress,
    InternetAddress,
    SystemdAddress,
    TcpAddress,
    takes_datagrams,
)
from unpd.config.findings import Findings
from unpd.config.lines import KeyPath
from unpd.config.schema import Config, ServiceConfig
from unpd.errors import quoted

MAX_COMPARED = 1000
"""Longer than a list that somebody writes by hand."""
LISTS = ("allow", "deny", "proxy_protocol")
"""The lists of a service."""


def check_lists(config: Config, findings: Findings) -> None:
    """Add every error and warning about lists."""
    checks = _ListChecks(findings)
    metrics, never_deny = config.metrics, config.access.never_deny
    checks.look(("access", "never_deny"), never_deny)
    checks.look_without_unix(
        ("access", "never_deny"), never_deny, "no sensor denies a client of a UNIX socket"
    )
    checks.look(("metrics", "allow"), metrics.allow)
    if metrics.listen is not None:
        checks.look_at_places(("metrics", "allow"), metrics.allow, (metrics.listen,))
    for name, service in config.services.items():
        path: KeyPath = ("services", name)
        for key in LISTS:
            checks.look((*path, key), getattr(service, key))
            if not findings.is_inherited((*path, key)):
                checks.look_at_places((*path, key), getattr(service, key), _places(service, key))
            elif key == "allow" and _shuts_out_all(service):
                findings.warning(
                    (*path, key),
                    "it lets nobody in here, because no entry matches a client of"
                    f" {service.listen[0].text}: give the service a list of its own",
                )
        _check_overlap(path, service, findings)
        _check_accounts(path, service, findings)
        _check_proxies(path, service, findings)


def list_files(config: Config) -> tuple[ListFile, ...]:
    """The list files of a configuration, each once."""
    of_services = (getattr(service, key) for service in config.services.values() for key in LISTS)
    lists = (config.access.never_deny, config.metrics.allow, *of_services)
    return tuple({file.text: file for given in lists for file in given.files}.values())


def _places(service: ServiceConfig, key: str) -> tuple[Address, ...]:
    """The addresses to which those come whom a list is about; none if these do not
    limit them, because load balancers tell the clients.
    """
    return () if service.proxy_protocol and key != "proxy_protocol" else service.listen


def _shuts_out_all(service: ServiceConfig) -> bool:
    """Whether no client of any address of a service can match its list allow."""
    rules = service.allow.rules
    return bool(service.allow) and not any(
        _may_match(rules, place) for place in _places(service, "allow") or (SystemdAddress("any"),)
    )


def _may_match(rules: Rules, place: Address) -> bool:
    """Whether a rule may match a client that comes to an address."""
    if isinstance(place, FileAddress):
        return bool(rules.every_unix or rules.users or rules.groups)
    if isinstance(place, InternetAddress) and place.is_loopback:
        return any(rules.overlaps(network) for network in WORDS["loopback"])
    return isinstance(place, SystemdAddress) or bool(rules.v4.firsts or rules.v6.firsts)


@dataclass(slots=True)
class _ListChecks:
    """The checks of single lists. ``doubtful``: the first doubtful entry of each list,
    which several services may have. ``open_files``: the files that were warned of.
    """

    findings: Findings
    doubtful: dict[int, Entry | None] = field(default_factory=dict)
    open_files: set[str] = field(default_factory=set)

    def look(self, path: KeyPath, given: AccessList) -> None:
        """Warn of the first address that looks like a network, and of files that may be
        cut off.
        """
        if id(given) not in self.doubtful:
            found = (entry for entry in given.placed if doubt(entry.text))
            self.doubtful[id(given)] = next(found, None)
        if (entry := self.doubtful[id(given)]) is not None:
            self.warn(path, given, entry, doubt(entry.text))
        for file in given.files:
            if file.open_line and file.text not in self.open_files:
                self.open_files.add(file.text)
                self.findings.warning(
                    (*path, given.texts.index(file.text)),
                    f"{file.file}:{file.open_line}: the last line has no end, so the file may be"
                    " cut off: end it with a newline, and replace a list by renaming a new file",
                )

    def look_at_places(self, path: KeyPath, given: AccessList, places: tuple[Address, ...]) -> None:
        """Warn of the first entry that matches no client of these addresses."""
        if not places or any(isinstance(place, SystemdAddress) for place in places):
            return
        if not any(isinstance(place, FileAddress) for place in places):
            reason = f"only clients of UNIX sockets are such, and {places[0].text} is none"
            self.look_without_unix(path, given, reason)
        if path[-1] == "allow" and all(
            isinstance(place, InternetAddress) and place.is_loopback for place in places
        ):
            self._look_at_loopback(path, given, places)

    def look_without_unix(self, path: KeyPath, given: AccessList, reason: str) -> None:
        """Warn of the first entry for clients of UNIX sockets, of which there are
        none, for this reason.
        """
        rules = given.rules
        accounts = (*rules.users.values(), *rules.groups.values())
        words = (rules.every_unix,) if rules.every_unix and rules.every_unix.text == "unix" else ()
        for entry in (*accounts, *words)[:1]:
            self.warn(path, given, entry, f"{quoted(entry.text)} matches nobody, because {reason}")

    def _look_at_loopback(
        self, path: KeyPath, given: AccessList, places: tuple[Address, ...]
    ) -> None:
        """To a loopback address come clients of this machine, from loopback too."""
        if _is_long(given.rules):
            return
        if (entry := given.rules.first_beside(WORDS["loopback"])) is not None:
            self.warn(
                path,
                given,
                entry,
                f"{quoted(entry.text)} never comes to {places[0].text}, which only this machine"
                f" reaches: put an address that others reach into {path[0]}"
                f"{'.' + str(path[1]) if len(path) > 2 else ''}.listen",
            )

    def warn(self, path: KeyPath, given: AccessList, entry: Entry, sentence: str) -> None:
        """Warn of an entry: at its item of the list, or with its line of a file."""
        if entry.text in given.texts:
            self.findings.warning((*path, given.texts.index(entry.text)), sentence)
        else:
            place = f"{entry.origin.file}:{entry.origin.line}"
            self.findings.warning(path, f"{place}: {sentence}")


def _is_long(rules: Rules) -> bool:
    return len(rules.v4.firsts) + len(rules.v6.firsts) > MAX_COMPARED


def _check_overlap(path: KeyPath, service: ServiceConfig, findings: Findings) -> None:
    """Warn of clients that allow lets in and deny refuses all the same."""
    allow, deny = service.allow, service.deny
    if not allow or not deny or _is_long(allow.rules):
        return
    covered = {id(pair[0]): pair for pair in allow.rules.covered_by(deny.rules)}
    if not covered:
        return
    entry, by = next(covered[id(entry)] for entry in allow.placed if id(entry) in covered)
    others = f" and {len(covered) - 1} more" if len(covered) > 1 else ""
    remedy = (
        "leave that out, because allow alone refuses all others"
        if by.text == "all"
        else "deny wins, so leave one of them out"
    )
    findings.warning(
        (*path, "deny"),
        f"{quoted(by.text)} refuses also {quoted(entry.text)}{others} of allow: {remedy}",
    )


def _check_accounts(path: KeyPath, service: ServiceConfig, findings: Findings) -> None:
    """Refuse rules about users where nobody tells the user: a datagram does not."""
    for address in service.listen:
        if not (takes_datagrams(address) and isinstance(address, FileAddress)):
            continue
        for key in ("allow", "deny"):
            rules = getattr(service, key).rules
            if rules.users or rules.groups:
                findings.error(
                    (*path, key),
                    f"{quoted('uid:')} and {quoted('gid:')} mean nothing for datagrams, which come"
                    f' to {address.text}: they do not tell their user; write "unix" for all of'
                    " them, or use socket_mode",
                )


def _check_proxies(path: KeyPath, service: ServiceConfig, findings: Findings) -> None:
    """Warn where any host of the network counts as a load balancer."""
    reached = [one for one in service.listen if isinstance(one, TcpAddress) and not one.is_loopback]
    if reached and "all" in service.proxy_protocol.entries:
        findings.warning(
            (*path, "proxy_protocol"),
            f"{quoted('all')} lets whoever reaches {reached[0].text} say that it is another client:"
            " name the load balancers alone",
        )
