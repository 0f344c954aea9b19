"""The units of systemd/ agree with the program and with each other."""

import re
import tomllib
from pathlib import Path

from tests.support import ROOT
from unpd.config import programs
from unpd.config.host import instance_of, runtime_dir
from unpd.names import MASTER_SIGNALS, ExitCode, SignalMeaning

DIRECTORY = ROOT / "unpd/units"
LOGROTATE = (ROOT / "packaging/logrotate").read_text()
SERVICE = (DIRECTORY / "unpd.service").read_text()
DROP_IN = (DIRECTORY / "unpd.service.d/socket-activation.conf").read_text()
TEMPLATE = (DIRECTORY / "unpd@.service").read_text()
SOCKETS = {path.name: path.read_text() for path in sorted(DIRECTORY.glob("*.socket"))}


def setting(unit: str, name: str) -> list[str]:
    """Every value that a unit gives to a setting."""
    return re.findall(rf"^{name}=(.*)$", unit, re.MULTILINE)


def test_restarts_only_what_a_restart_can_mend() -> None:
    """A start is not tried again after wrong usage, a missing privilege and a refused
    configuration.
    """
    hopeless = (ExitCode.USAGE, ExitCode.PRIVILEGE, ExitCode.CONFIGURATION)
    assert setting(SERVICE, "RestartPreventExitStatus") == [
        " ".join(str(int(code)) for code in hopeless)
    ]


def test_the_store_is_as_large_as_it_is_said_to_be() -> None:
    """FDSTORE, by which unpd knows of the store under systemd before 254, is
    FileDescriptorStoreMax=.
    """
    assert [f"FDSTORE={size}" for size in setting(SERVICE, "FileDescriptorStoreMax")] == setting(
        SERVICE, "Environment"
    )


def test_the_rotation_fits_the_unit() -> None:
    """Logrotate looks into the directory that the unit makes, works and makes files as
    the user of the unit, and sends the main process the signal that reopens the log.
    """
    (user,), (directory,) = setting(SERVICE, "User"), setting(SERVICE, "LogsDirectory")
    (reopen,) = (row.name for row in MASTER_SIGNALS if row.meaning is SignalMeaning.REOPEN_LOG)
    lines = [line.strip() for line in LOGROTATE.splitlines()]
    assert f"/var/log/{directory}/*.log /var/log/{directory}-*/*.log {{" in lines
    assert {f"su {user} adm", f"create 0640 {user} adm", "delaycompress"} <= set(lines)
    (command,) = (line for line in lines if line.startswith("systemctl"))
    name = reopen.removeprefix("SIG")
    assert command.startswith(f"systemctl kill --signal={name} --kill-who=main unpd.service ")


def test_the_state_file_has_a_directory() -> None:
    """The unit makes the one that the manual page names."""
    page = (ROOT / "packaging/man/unpd.toml.5").read_text()
    (directory,), (of_instance,) = (setting(text, "StateDirectory") for text in (SERVICE, TEMPLATE))
    assert f".Pa /var/lib/{directory} ,\n" in page
    assert f".Pa /var/lib/{of_instance.replace('%i', 'NAME')} .\n" in page


def test_what_is_allowed_comes_first() -> None:
    """The first SystemCallFilter= is the list of what is allowed; what is taken from it
    follows, then the one call that the children need to give up their capabilities.
    """
    allowed, taken, again = setting(SERVICE, "SystemCallFilter")
    assert [line.startswith("~") for line in (allowed, taken)] == [False, True]
    assert again == "capset"


def settings(unit: str) -> list[str]:
    """The lines of a unit that are no comment."""
    return [line for line in unit.splitlines() if line and not line.startswith("#")]


def test_an_instance_differs_only_in_its_names() -> None:
    """unpd@.service has every setting of unpd.service, and no other. Its configuration,
    its directories and its description bear the name of the instance.
    """
    expected = [
        re.sub(r"^(\w+Directory)=unpd$", r"\1=unpd-%i", line).replace(
            "/etc/unpd/unpd.toml", "/etc/unpd/%i/unpd.toml"
        )
        for line in settings(SERVICE)
    ]
    described = [f"{line}, instance %i" if "Description=" in line else line for line in expected]
    assert settings(TEMPLATE) == described


def test_an_instance_is_found_by_its_configuration() -> None:
    """The commands look for the control socket of /etc/unpd/NAME/unpd.toml where the
    unit makes its directory.
    """
    (command,) = setting(TEMPLATE, "ExecStart")
    config = command.rpartition(" ")[2].replace("%i", "lab")
    (directory,) = setting(TEMPLATE, "RuntimeDirectory")
    assert runtime_dir(0, {}, instance=instance_of(Path(config))) == "/run/" + directory.replace(
        "%i", "lab"
    )


def test_the_sockets_belong_to_the_service() -> None:
    """Every socket unit names unpd.service, and none dies of a burst of clients."""
    for unit in SOCKETS.values():
        assert setting(unit, "Service") == ["unpd.service"]
        assert setting(unit, "TriggerLimitIntervalSec") == ["0"]


def test_one_socket_brings_the_others() -> None:
    """``systemctl enable --now unpd.socket`` enables and starts all; the service under
    the drop-in needs all.
    """
    others = " ".join(name for name in SOCKETS if name != "unpd.socket")
    assert (
        setting(SOCKETS["unpd.socket"], "Wants")
        == setting(SOCKETS["unpd.socket"], "Also")
        == [others]
    )
    assert setting(DROP_IN, "Requires") == setting(DROP_IN, "After") == [f"unpd.socket {others}"]


def test_the_configuration_in_the_drop_in_names_each_socket() -> None:
    """The lines of unpd.toml that the drop-in shows ask for exactly the names that the
    socket units give.
    """
    shown = tomllib.loads("\n".join(re.findall(r"^#          (.+)$", DROP_IN, re.MULTILINE)))
    asked = [
        shown["metrics"]["listen"],
        *(address for service in shown["services"].values() for address in service["listen"]),
    ]
    assert sorted(asked) == sorted(
        f"systemd:{name}"
        for unit in SOCKETS.values()
        for name in setting(unit, "FileDescriptorName")
    )


def test_the_drop_in_for_programs_is_that_of_the_error() -> None:
    """The refusal of another user names the file and the section of unpd(8), which
    tells how many capabilities it takes; only the main process gets root by it.
    """
    name = "programs.conf"
    drop_in = (DIRECTORY / "unpd.service.d" / name).read_text()
    page = (ROOT / "packaging/man/unpd.8").read_text()
    section = page.split(".Sh PROGRAMS\n")[1].split("\n.Sh ")[0]
    assert name in programs.DROP_IN
    assert "PROGRAMS in unpd(8)" in programs.DROP_IN
    assert f".Pa {name}\n" in section
    assert setting(drop_in, "User") == setting(drop_in, "Group") == [""]
    cleared, kept = setting(drop_in, "CapabilityBoundingSet")
    assert cleared == ""
    assert set(kept.split()) == {
        "CAP_NET_BIND_SERVICE",
        "CAP_SETUID",
        "CAP_SETGID",
        "CAP_KILL",
    }
    assert "root, with four capabilities" in section
    assert setting(drop_in, "AmbientCapabilities") == [""]
