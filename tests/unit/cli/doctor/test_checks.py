"""The checks of ``unpd doctor``: each finds what is wrong, with its figures, and no
more.
"""

import stat
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from unpd.cli.doctor.facts import (
    Entry,
    Facts,
    Holder,
    PidsLimit,
    ProcessLimits,
    RunningDaemon,
    Unit,
)
from unpd.cli.doctor.finding import Finding
from unpd.cli.doctor.limits import needed_processes
from unpd.cli.doctor.report import FIELDS, as_fields, as_text, examine
from unpd.cli.doctor.table import CHECKS
from unpd.control.answer_fields import mismatch
from unpd.kernel.clock import Clock
from unpd.kernel.socket_diag import BoundSocket

MakeFacts = Callable[..., Facts]
ECHO = '[services.echo]\nlisten = ["tcp://127.0.0.1:7"]\n'
FORKING = ECHO + 'model = "fork"\nmax_connections = 400\n'
CAT = '[services.cat]\ntype = "exec"\nlisten = ["tcp://127.0.0.1:9"]\ncommand = ["/bin/cat"]\n'
SECRET = CAT + '[services.cat.environment]\nPASSWORD = "x"\n'
DAEMON = RunningDaemon(pid=7, listeners={"tcp://127.0.0.1:7": "echo", "udp://[::1]:7": "echo"})
SOCKET = BoundSocket(
    transport="tcp",
    host="127.0.0.1",
    port=7,
    inode=5,
    queued=0,
    limit=128,
    drops=0,
    ipv6_only=False,
)
SHORT = replace(SOCKET, limit=128)
SOCKET = replace(SOCKET, limit=4096)
OTHER = {5: Holder(pid=9, title="netcat")}
MASTER = {5: Holder(pid=7, title="unpd: master running, generation 1")}
INIT = {5: Holder(pid=1, title="systemd")}
UDP = replace(SOCKET, transport="udp", host="::1", limit=0, drops=4)
UNIT = Unit(name="unpd.service", type="notify", kill_mode="mixed", stop_s=15.0)
STORING = replace(UNIT, stored=6)
FILE = Entry(
    key="--config",
    path="/etc/unpd/unpd.toml",
    uid=0,
    gid=0,
    mode=stat.S_IFREG | 0o644,
    owners=frozenset({0}),
)
DIRECTORY = replace(FILE, path="/etc/unpd", mode=stat.S_IFDIR | 0o755)
STICKY = replace(FILE, path="/tmp", mode=stat.S_IFDIR | 0o1777)  # noqa: S108 - only a name
TIGHT = PidsLimit(where="pids.max of /x", limit=100, current=5, key="TasksMax=")


def of(check: str, facts: Facts) -> tuple[Finding, ...]:
    """What one check finds. It must be possible to make it."""
    report = examine(facts, [one for one in CHECKS if one.name == check])
    assert report.unknown == ()
    return tuple(finding for _, finding in report.findings)


def test_nothing_is_found_where_all_is_well(facts: MakeFacts) -> None:
    """Every check can be made, and the report says so."""
    report = examine(facts())
    assert (report.findings, report.unknown, report.checked) == ((), (), len(CHECKS))
    assert report.is_well
    assert as_text(report) == f"{len(CHECKS)} checks without a daemon: 0 to mend, 0 to note"


@pytest.mark.parametrize(
    ("check", "text", "sysctl", "changes", "subject", "found"),
    [
        ("configuration", ECHO, {}, {"warnings": ("f:1: w",)}, "f:1", "a warning"),
        ("configuration", ECHO, {}, {"refusal": ("f:1: r",)}, "f:1", "refused"),
        (
            "ports",
            ECHO,
            {},
            {"sockets": (replace(SOCKET, host="0.0.0.0"),), "holder": OTHER.get},
            "services.echo.listen",
            "tcp://0.0.0.0:7 of process 9 (netcat)",
        ),
        (
            "ports",
            ECHO.replace("127.0.0.1", "[::]"),
            {},
            {"sockets": (SOCKET,), "holder": OTHER.get},
            "services.echo.listen",
            "tcp://127.0.0.1:7 of process 9 (netcat)",
        ),
        (
            "ports",
            "[metrics]\nlisten = 'tcp://[::1]:90'\n" + ECHO,
            {},
            {"sockets": (replace(SOCKET, host="::1", port=90),), "holder": OTHER.get},
            "metrics.listen",
            "process 9",
        ),
        (
            "ephemeral",
            ECHO.replace(":7", ":40000"),
            {},
            {},
            "services.echo.listen",
            "port 40000, net.ipv4.ip_local_port_range 32768 to 60999",
        ),
        (
            "ipv6",
            ECHO.replace("127.0.0.1", "[2001:db8::1]"),
            {"net.ipv6.conf.all.disable_ipv6": "1"},
            {},
            "services.echo.listen",
            "disable_ipv6 = 1",
        ),
        (
            "backlog",
            ECHO,
            {"net.core.somaxconn": "128"},
            {},
            "services.echo.backlog",
            "backlog 4096, net.core.somaxconn 128",
        ),
        (
            "backlog",
            ECHO,
            {"net.core.somaxconn": "2048"},
            {"daemon": DAEMON, "sockets": (replace(SOCKET, limit=2048),)},
            "services.echo.backlog",
            "backlog 4096",
        ),
        (
            "backlog",
            ECHO + "backlog = 1000\n",
            {},
            {"daemon": DAEMON, "sockets": (SHORT,)},
            "tcp://127.0.0.1:7",
            "limit 128, backlog 1000, net.core.somaxconn 4096",
        ),
        (
            "drops",
            ECHO,
            {},
            {"daemon": DAEMON, "sockets": (replace(SOCKET, drops=3),), "drops_before": {5: 1}},
            "tcp://127.0.0.1:7",
            "3 since it was opened, 2 within 2 s",
        ),
        (
            "drops",
            ECHO,
            {},
            {"daemon": DAEMON, "losses": (5, 7), "sockets": (SOCKET,)},
            "TcpExt of /proc/net/netstat",
            "ListenOverflows 5, ListenDrops 7; at the open listeners of unpd: 0",
        ),
        (
            "drops",
            ECHO,
            {},
            {"losses": (0, 7)},
            "TcpExt of /proc/net/netstat",
            "since its boot: ListenOverflows 0, ListenDrops 7",
        ),
        (
            "queue",
            ECHO,
            {},
            {"daemon": DAEMON, "sockets": (replace(SOCKET, queued=4097),)},
            "tcp://127.0.0.1:7",
            "4097 wait, 4096 may",
        ),
        (
            "datagrams",
            ECHO,
            {},
            {"daemon": DAEMON, "sockets": (UDP,), "drops_before": {5: 0}},
            "udp://[::1]:7",
            "4 since it was opened, 4 within 2 s, net.core.rmem_default 212992",
        ),
        (
            "descriptors",
            ECHO,
            {},
            {"limits": ProcessLimits(source="the daemon", open_files=1024, processes=None)},
            "pools.default.max_connections_per_worker",
            "1024 open files (the daemon)",
        ),
        ("pids", FORKING, {}, {"pids": (TIGHT,)}, "pids.max of /x", "at most 100"),
        (
            "pids",
            ECHO,
            {},
            {"pids": (replace(TIGHT, current=95),)},
            "pids.max of /x",
            "95 of 100",
        ),
        (
            "processes",
            FORKING,
            {},
            {
                "uid": 9,
                "limits": ProcessLimits(source="unpd.service", open_files=None, processes=50),
            },
            "RLIMIT_NPROC",
            "50 processes of the user (unpd.service)",
        ),
        (
            "stop",
            ECHO,
            {},
            {"unit": replace(UNIT, type="simple", stop_s=5.0)},
            "TimeoutStopSec",
            "5 s, daemon.grace_s 10, Type=simple",
        ),
        (
            "stop",
            "[daemon]\nlame_duck_s = 4\n" + ECHO,
            {},
            {"unit": replace(UNIT, type="simple", stop_s=15.0)},
            "TimeoutStopSec",
            "15 s, daemon.lame_duck_s 4, daemon.grace_s 10, Type=simple",
        ),
        ("stop", ECHO, {}, {"unit": replace(UNIT, stop_s=1.0)}, "TimeoutStopSec", "1 s"),
        (
            "kill_mode",
            ECHO,
            {},
            {"unit": replace(UNIT, kill_mode="control-group")},
            "KillMode",
            "control-group",
        ),
        (
            "drop_in",
            ECHO,
            {},
            {"unit": replace(UNIT, user="root", systemd=257)},
            "User",
            "User=root, systemd 257",
        ),
        (
            "writable",
            ECHO,
            {},
            {"entries": (replace(FILE, mode=stat.S_IFREG | 0o666),)},
            FILE.path,
            "mode 0666, user root",
        ),
        (
            "writable",
            ECHO,
            {},
            {"entries": (FILE, replace(DIRECTORY, mode=stat.S_IFDIR | 0o777))},
            DIRECTORY.path,
            "mode 0777, user root",
        ),
        (
            "writable",
            ECHO,
            {},
            {"entries": (replace(FILE, mode=stat.S_IFREG | 0o664, gid=99),)},
            FILE.path,
            "mode 0664",
        ),
        ("writable", ECHO, {}, {"entries": (replace(FILE, uid=1),)}, FILE.path, "mode 0644"),
        (
            *("usable", ECHO, {}, {"refused_to_user": ("u",)}),
            *("the user of the daemon", "refused with the rights of this user"),
        ),
        ("usable", ECHO, {}, {"unusable": ("u",)}, "the user of the daemon", "cannot use"),
        ("secrets", SECRET, {}, {"entries": (FILE,)}, FILE.path, "mode 0644, environment of cat"),
        (
            "control",
            f'[control]\nread_group = "42"\n{ECHO}',
            {},
            {
                "entries": (
                    replace(DIRECTORY, key="daemon.control", mode=stat.S_IFDIR | 0o750, gid=41),
                )
            },
            DIRECTORY.path,
            "mode 0750, group 41",
        ),
        ("clock", ECHO, {}, {"clock": Clock(False, 16.0)}, "the clock", "an error of up to 16 s"),
        (
            "conntrack",
            ECHO,
            {
                "net.netfilter.nf_conntrack_count": "95",
                "net.netfilter.nf_conntrack_max": "100",
            },
            {},
            "net.netfilter.nf_conntrack_max",
            "95 of 100",
        ),
        (
            "overcommit",
            ECHO,
            {"vm.overcommit_memory": "2"},
            {"memory": {"CommitLimit": 102_400, "Committed_AS": 101_376}},
            "vm.overcommit_memory",
            "99 of 100 MiB committed",
        ),
        (
            "overflow",
            ECHO,
            {"net.ipv4.tcp_abort_on_overflow": "1"},
            {},
            "net.ipv4.tcp_abort_on_overflow",
            "1",
        ),
    ],
)
def test_a_fault_is_found_with_its_figure_and_its_remedy(  # noqa: PLR0917 - a row of the table
    facts: MakeFacts,
    check: str,
    text: str,
    sysctl: dict[str, str],
    changes: dict[str, Any],
    subject: str,
    found: str,
) -> None:
    """What is wrong, what would be right, and what mends it, in one finding."""
    (finding,) = of(check, facts(text, sysctl, **changes))
    assert finding.subject == subject
    assert found in finding.found
    assert finding.problem
    assert finding.right
    assert finding.mend


@pytest.mark.parametrize(
    ("check", "text", "sysctl", "changes"),
    [
        ("ports", ECHO, {}, {"sockets": (SOCKET,), "daemon": DAEMON}),
        (
            "ports",
            ECHO.replace("127.0.0.1", "[::]"),
            {},
            {"sockets": (SOCKET,), "daemon": DAEMON},
        ),
        (
            "ports",
            ECHO.replace(":7", ":8"),
            {},
            {"sockets": (replace(SOCKET, port=8),), "daemon": DAEMON, "holder": MASTER.get},
        ),
        ("ports", ECHO, {}, {"sockets": (replace(SOCKET, host="127.0.0.2"),)}),
        ("ports", ECHO, {}, {"sockets": (replace(SOCKET, transport="udp"),)}),
        ("ports", ECHO, {}, {"sockets": (replace(SOCKET, host="::", ipv6_only=True),)}),
        (
            "ephemeral",
            ECHO.replace(":7", ":40000"),
            {"net.ipv4.ip_local_reserved_ports": "8,39999-40001"},
            {},
        ),
        ("ipv6", ECHO, {"net.ipv6.conf.all.disable_ipv6": "1"}, {}),
        ("ipv6", ECHO.replace("127.0.0.1", "[::]"), {}, {}),
        ("drops", ECHO, {}, {"daemon": DAEMON, "sockets": (SOCKET,)}),
        ("queue", ECHO, {}, {"sockets": (replace(SOCKET, queued=4097),)}),
        (
            "queue",
            ECHO,
            {},
            {
                "daemon": replace(DAEMON, inodes=frozenset({6})),
                "sockets": (replace(SOCKET, queued=4097),),
            },
        ),
        (
            "descriptors",
            FORKING,
            {},
            {"limits": ProcessLimits(source="x", open_files=9, processes=None)},
        ),
        (
            "processes",
            FORKING,
            {},
            {"limits": ProcessLimits(source="x", open_files=9, processes=50)},
        ),
        ("stop", "[daemon]\ngrace_s = 600\n" + ECHO, {}, {}),
        ("stop", ECHO, {}, {"unit": replace(UNIT, type="simple")}),
        (
            "stop",
            "[daemon]\nlame_duck_s = 4\n" + ECHO,
            {},
            {"unit": replace(UNIT, type="simple", stop_s=19.0)},
        ),
        ("drop_in", ECHO, {}, {"unit": replace(UNIT, user="", systemd=257)}),
        (
            "drop_in",
            ECHO,
            {},
            {"unit": replace(UNIT, user="root", ambient=frozenset({"cap_setuid"}), systemd=257)},
        ),
        ("writable", ECHO, {}, {"entries": (FILE, DIRECTORY, STICKY)}),
        ("writable", ECHO, {}, {"entries": (replace(FILE, mode=stat.S_IFREG | 0o664),)}),
        (
            "writable",
            ECHO,
            {},
            {"gid": 9, "entries": (replace(FILE, mode=stat.S_IFREG | 0o664, gid=9),)},
        ),
        ("secrets", SECRET, {}, {"entries": (replace(FILE, mode=stat.S_IFREG | 0o640),)}),
        ("secrets", CAT, {}, {"entries": (FILE,)}),
        (
            "control",
            f'[control]\nread_group = "42"\n{ECHO}',
            {},
            {
                "entries": (
                    replace(DIRECTORY, key="daemon.control", mode=stat.S_IFDIR | 0o750, gid=42),
                )
            },
        ),
        (
            "conntrack",
            ECHO,
            {"net.netfilter.nf_conntrack_count": "5", "net.netfilter.nf_conntrack_max": "100"},
            {},
        ),
    ],
)
def test_what_is_right_is_no_finding(
    facts: MakeFacts, check: str, text: str, sysctl: dict[str, str], changes: dict[str, Any]
) -> None:
    """The nearest neighbours of a fault are none."""
    assert of(check, facts(text, sysctl, **changes)) == ()


@pytest.mark.parametrize(
    ("check", "text", "sysctl", "changes", "is_note"),
    [
        ("drops", ECHO, {}, {"losses": (5, 5)}, True),
        ("drops", ECHO, {}, {"daemon": DAEMON, "losses": (5, 5), "sockets": (SOCKET,)}, True),
        ("drops", ECHO, {}, {"daemon": DAEMON, "sockets": (replace(SOCKET, drops=3),)}, True),
        ("datagrams", ECHO, {}, {"daemon": DAEMON, "sockets": (UDP,)}, True),
        ("ports", ECHO, {}, {"sockets": (SOCKET,)}, True),
        ("ports", ECHO, {}, {"sockets": (SOCKET,), "holder": MASTER.get}, True),
        ("ports", ECHO, {}, {"sockets": (SOCKET,), "holder": OTHER.get}, False),
        ("ports", ECHO, {}, {"sockets": (SOCKET,), "holder": INIT.get}, False),
        ("ports", ECHO, {}, {"sockets": (SOCKET,), "holder": INIT.get, "unit": STORING}, True),
        ("ports", ECHO, {}, {"sockets": (SOCKET,), "holder": OTHER.get, "unit": STORING}, False),
        (
            "ipv6",
            ECHO.replace("127.0.0.1", "[::]"),
            {"net.ipv6.conf.all.disable_ipv6": "1"},
            {},
            True,
        ),
        (
            "ipv6",
            ECHO.replace("127.0.0.1", "[::]") + "ipv6_only = true\n",
            {"net.ipv6.conf.all.disable_ipv6": "1"},
            {},
            False,
        ),
        ("clock", ECHO, {}, {"clock": Clock(False, 1.0)}, True),
        ("clock", ECHO.replace("echo", "daytime"), {}, {"clock": Clock(False, 1.0)}, False),
        (
            "clock",
            ECHO + 'access_times = ["Mon-Fri 08:00-18:00"]\n',
            {},
            {"clock": Clock(False, 1.0)},
            False,
        ),
        ("overcommit", ECHO, {"vm.overcommit_memory": "2"}, {}, True),
        ("drop_in", ECHO, {}, {"unit": replace(UNIT, user="root", systemd=254)}, True),
        ("drop_in", ECHO, {}, {"unit": replace(UNIT, user="root", systemd=255)}, False),
        ("drop_in", ECHO, {}, {"unit": replace(UNIT, user="root", systemd=0)}, False),
        ("secrets", SECRET, {}, {"entries": (FILE,)}, True),
    ],
)
def test_a_note_does_not_change_the_verdict(  # noqa: PLR0917 - a row of the table
    facts: MakeFacts,
    check: str,
    text: str,
    sysctl: dict[str, str],
    changes: dict[str, Any],
    is_note: bool,
) -> None:
    """What need not be mended, or cannot be known to be unpd's, is a note."""
    seen = facts(text, sysctl, **changes)
    (finding,) = of(check, seen)
    assert finding.note == is_note
    assert examine(seen).is_well == is_note


@pytest.mark.parametrize(
    ("changes", "unknown"),
    [
        ({"sockets": None}, {"ports"}),
        (
            {"sockets": None, "daemon": DAEMON},
            {"ports", "backlog", "drops", "queue", "datagrams"},
        ),
        ({"unit": None, "unit_unknown": "none"}, {"stop", "kill_mode", "drop_in"}),
        ({"limits": None}, {"descriptors", "processes"}),
        ({"pids": ()}, {"pids"}),
        ({"clock": None}, {"clock"}),
        (
            {"daemon_unknown": "it is hung", "sockets": (SOCKET,), "holder": OTHER.get},
            {"daemon", "ports", "backlog", "drops", "queue", "datagrams"},
        ),
        ({"losses": None}, {"drops"}),
        ({"unusable_unknown": "only root can"}, {"usable"}),
        ({"hidden": (("--config", "/x"),)}, {"writable"}),
        (
            {"sysctl": {"net.core.somaxconn": "", "net.ipv4.ip_local_port_range": ""}},
            {"backlog", "ephemeral"},
        ),
        ({"sysctl": {"vm.overcommit_memory": "2"}, "memory": {}}, {"overcommit"}),
    ],
)
def test_a_check_that_cannot_be_made_says_why(
    facts: MakeFacts, changes: dict[str, Any], unknown: set[str]
) -> None:
    """The others are made all the same, and it is no finding."""
    report = examine(facts(**changes))
    assert {name for name, _ in report.unknown} == unknown
    assert all(reason for _, reason in report.unknown)
    assert report.is_well
    assert report.checked == len(CHECKS) - len(unknown - {"daemon"})


def test_a_refused_configuration_leaves_the_checks_of_the_host(facts: MakeFacts) -> None:
    """They need no configuration."""
    seen = replace(facts(sysctl={"net.ipv4.tcp_abort_on_overflow": "1"}), configured=None)
    report = examine(replace(seen, refusal=("unpd.toml:1: it is faulty",)))
    assert [name for name, _ in report.findings] == ["configuration", "overflow"]
    assert ("backlog", "the configuration is refused") in report.unknown


def test_the_report_has_the_fields_of_the_table(facts: MakeFacts) -> None:
    """As values, and as text with the faults first."""
    seen = facts(daemon=DAEMON, clock=Clock(False, 1.0), daemon_unknown="x", warnings=("f:1: w",))
    report = examine(seen)
    assert mismatch(as_fields(report), FIELDS) == ""
    assert as_fields(report)["daemon"] == 7
    lines = as_text(report).split("\n")
    assert lines[0] == "configuration: f:1: w"
    assert lines[4].startswith("note, clock: the clock: nothing keeps")
    assert lines[-2:] == [
        "not checked, daemon: x",
        f"{len(CHECKS)} checks with the daemon (pid 7): 1 to mend, 1 to note",
    ]


def test_a_check_that_fails_half_way_keeps_its_findings(facts: MakeFacts) -> None:
    """It counts as one that could not be made: there may be more."""
    open_file = replace(FILE, mode=stat.S_IFREG | 0o666)
    report = examine(facts(entries=(open_file,), hidden=(("--config", "/x"), ("a list", "/y"))))
    assert [name for name, _ in report.findings] == ["writable"]
    assert report.unknown == (("writable", "this user cannot look at /x and 1 more"),)


@pytest.mark.parametrize(
    ("entry", "mend"),
    [
        (replace(FILE, mode=stat.S_IFREG | 0o666), f"chmod go-w {FILE.path}"),
        (replace(FILE, uid=1), f"chown root {FILE.path}"),
        (
            replace(FILE, uid=1, mode=stat.S_IFREG | 0o664, gid=9),
            f"chown root {FILE.path}; chmod go-w {FILE.path}",
        ),
    ],
)
def test_the_remedy_changes_only_what_is_wrong(facts: MakeFacts, entry: Entry, mend: str) -> None:
    """The owner of a file stays if it is one that may change it."""
    (finding,) = of("writable", facts(entries=(entry,)))
    assert finding.mend == mend


def test_a_unit_that_notifies_needs_no_other_type(facts: MakeFacts) -> None:
    """Another one has the choice."""
    (finding,) = of("stop", facts(unit=replace(UNIT, stop_s=1.0)))
    assert finding.right == "15 s"
    (finding,) = of("stop", facts(unit=replace(UNIT, type="simple", stop_s=1.0)))
    assert finding.right.startswith("Type=notify, ")


def test_every_process_of_a_configuration_counts(facts: MakeFacts) -> None:
    """The workers and dispatchers twice, because a reload has old and new ones."""
    config = facts("[metrics]\nlisten = false\n" + FORKING).config
    assert needed_processes(config, 2) == 1 + 2 * 1 + 400
    assert needed_processes(facts("[pools.default]\nworkers = 3\n" + ECHO).config, 2) == 1 + 2 * 4
