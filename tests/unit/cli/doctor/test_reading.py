"""How ``unpd doctor`` reads limits, cgroups and the answers of systemd."""

import grp
import math
import pwd
from dataclasses import replace
from pathlib import Path

import pytest

from unpd.cli.doctor.facts import ProcessLimits
from unpd.cli.doctor.process_facts import cgroup_limits, kernel_limits, parsed_limits
from unpd.cli.doctor.unit_facts import NO_SYSTEMD, Places, described, seconds, unit

LIMITS = """\
Limit                     Soft Limit           Hard Limit           Units
Max cpu time              unlimited            unlimited            seconds
Max processes             128                  256                  processes
Max open files            1024                 {files:<20} files
"""
SHOWN = {
    "LoadState": "loaded",
    "Type": "notify",
    "NotifyAccess": "main",
    "TimeoutStopUSec": "1min 30s",
    "KillMode": "mixed",
    "LimitNOFILE": "524288",
    "LimitNPROC": "infinity",
    "User": "unpd",
    "Group": "0",
    "SupplementaryGroups": "web 0",
    "AmbientCapabilities": "cap_net_bind_service cap_setuid",
    "MainPID": "7",
    "RuntimeDirectory": "unpd another",
    "StateDirectory": "unpd unpd/more:link",
    "LogsDirectory": "",
    "NFileDescriptorStore": "6",
}


@pytest.mark.parametrize(("files", "found"), [("4096", 4096), ("unlimited", None)])
def test_the_limits_that_count_are_read(files: str, found: int | None) -> None:
    """The hard limit of open files, which unpd raises its own to, and the soft one of
    processes.
    """
    limits = parsed_limits(LIMITS.format(files=files), "x")
    assert limits == ProcessLimits(source="x", open_files=found, processes=128)
    assert parsed_limits("", "x") == ProcessLimits(source="x", open_files=None, processes=None)


@pytest.mark.parametrize(
    ("line", "root"), [("0::/a/b", ""), ("8:pids:/a/b", "pids"), ("3:cpu,pids:/a/b", "pids")]
)
def test_the_limits_of_all_cgroups_above_are_read(tmp_path: Path, line: str, root: str) -> None:
    """Of both versions of cgroups; one without a limit is left out."""
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "7").mkdir(parents=True)
    (proc / "7/cgroup").write_text(f"4:memory:/x\n{line}\n")
    for path, most in (("a/b", "max"), ("a", "200"), ("", "300")):
        directory = cgroups / root / path
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "pids.max").write_text(f"{most}\n")
        (directory / "pids.current").write_text("12\n")
    found = list(cgroup_limits(7, cgroups, proc))
    assert [(one.limit, one.current) for one in found] == [(200, 12), (300, 12)]
    assert str(cgroups / root / "a") in found[0].where
    assert list(cgroup_limits(8, cgroups, proc)) == []


def test_the_limits_of_the_kernel_are_settings() -> None:
    """A setting that cannot be read is no limit."""
    (one,) = kernel_limits({"kernel.pid_max": "32768"})
    assert (one.where, one.limit) == ("kernel.pid_max", 32768)
    assert one.current > 0
    assert "sysctl -w kernel.pid_max=65536" in one.key


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("15s", 15.0),
        ("1min 30s", 90.0),
        ("2h", 7200.0),
        ("500ms", 0.5),
        ("1min 500ms", 60.5),
        ("infinity", math.inf),
        ("", math.inf),
        ("3 fortnights", math.inf),
    ],
)
def test_a_span_of_systemd_is_read(text: str, found: float) -> None:
    """As systemctl writes it."""
    assert seconds(text) == found


def test_a_unit_is_described_by_its_properties() -> None:
    """Without access for notifications it is as one that does not notify. An account
    may be a number, and the directories keep their order.
    """
    unit, limits, reason = described("unpd.service", SHOWN, 257)
    assert unit is not None
    assert (unit.type, unit.kill_mode, unit.stop_s, reason) == ("notify", "mixed", 90.0, "")
    assert (unit.user, unit.systemd, unit.stored) == ("unpd", 257, 6)
    group = grp.getgrgid(0).gr_name
    assert (unit.group, unit.groups) == (group, ("web", group))
    made = ["/run/unpd", "/run/another", "/var/lib/unpd", "/var/lib/unpd/more"]
    assert list(map(str, unit.directories)) == made
    assert unit.ambient == {"cap_net_bind_service", "cap_setuid"}
    assert limits == ProcessLimits(source="unpd.service", open_files=524_288, processes=None)
    unit, _, _ = described("unpd.service", {**SHOWN, "NotifyAccess": "none", "User": "0"})
    assert unit is not None
    assert (unit.type, unit.user) == ("notify with NotifyAccess=none", pwd.getpwuid(0).pw_name)
    assert described("x.service", {"LoadState": "not-found"}) == (
        None,
        None,
        "there is no unit x.service",
    )


SYSTEMCTL = """\
#!/bin/sh
test "$1" != --version || exec echo 'systemd 252 (252.39-1~deb12u1)'
test "$1 $3 $4" = "show -- unpd@web.service" || test "$4" = "cron.service" || exit 1
cat <<END
{shown}
END
"""


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """A host with a process 7 in the cgroup of unpd@web.service, 8 in that of cron, and
    9 in that of a session. Its systemctl knows the first two.
    """
    groups = {7: "system.slice/unpd@web.service", 8: "system.slice/cron.service", 9: "user.slice"}
    for pid, group in groups.items():
        (tmp_path / f"proc/{pid}").mkdir(parents=True)
        (tmp_path / f"proc/{pid}/cgroup").write_text(f"0::/{group}\n")
    systemctl = tmp_path / "systemctl"
    shown = "\n".join(f"{key}={value}" for key, value in SHOWN.items())
    systemctl.write_text(SYSTEMCTL.format(shown=shown))
    systemctl.chmod(0o755)
    (tmp_path / "booted").mkdir()
    return Places(booted=tmp_path / "booted", proc=tmp_path / "proc", systemctl=(str(systemctl),))


@pytest.mark.parametrize(
    ("pid", "config", "name", "reason"),
    [
        (7, None, "unpd@web.service", ""),
        (0, Path("/etc/unpd/web/unpd.toml"), "unpd@web.service", ""),
        (8, None, "", "cron.service, in whose cgroup unpd runs, does not run unpd"),
        (9, None, "", "no unit of systemd runs unpd here"),
        (10, None, "", "no unit of systemd runs unpd here"),
        (0, Path("/elsewhere/unpd.toml"), "", "no unit of systemd runs unpd here"),
        (0, Path("/etc/unpd/unpd.toml"), "", "systemctl does not tell about unpd.service"),
    ],
)
def test_the_unit_of_a_daemon_is_the_one_that_runs_it(
    places: Places, pid: int, config: Path | None, name: str, reason: str
) -> None:
    """A daemon that was started by hand may be in the cgroup of any unit."""
    found, limits, why = unit(pid, config, places)
    assert (found.name if found else "", why) == (name, reason)
    assert found is None or found.systemd == 252
    assert (limits is None) == (found is None)


def test_a_host_without_systemd_has_no_unit(places: Places) -> None:
    """No program is started to ask."""
    other = replace(places, booted=places.proc / "none", systemctl=("/bin/false",))
    assert unit(7, None, other) == (None, None, NO_SYSTEMD)
