"""The recipe of the container image agrees with itself and with the program."""

import re
import subprocess
import sys
from pathlib import Path

from tests.support import ROOT, faults
from unpd.config.addresses import TcpAddress
from unpd.config.host import Host, runtime_dir
from unpd.config.load import loads
from unpd.names import MASTER_SIGNALS, SignalMeaning

DIRECTORY = ROOT / "packaging/image"
CONTAINERFILE = (DIRECTORY / "Containerfile").read_text()
UID = 65532
STOP_S = 10
"""How long ``docker stop`` and ``podman stop`` wait by default."""


def instruction(name: str) -> str:
    """What follows an instruction that stands there once."""
    (found,) = re.findall(rf"^{name} (.*)$", CONTAINERFILE, re.MULTILINE)
    return str(found)


def settings() -> dict[str, str]:
    """The environment of a container."""
    return dict(word.split("=", 1) for word in instruction("ENV").split())


HOST = Host(UID, "unpd", runtime_dir(UID, settings()), somaxconn=4096, cpus=2)
CONFIG = loads((DIRECTORY / "etc/unpd/unpd.toml").read_text(), HOST)


def test_the_configuration_is_clean() -> None:
    """It has no fault, and gives no warning."""
    assert CONFIG.warnings == ()


def test_it_ends_before_it_would_be_killed() -> None:
    """A graceful stop takes less time than docker and podman give it."""
    assert CONFIG.config.daemon.grace_s < STOP_S


def test_its_ports_need_no_privilege_and_are_exposed() -> None:
    """It listens on ports above 1024, on every address, and the recipe exposes each."""
    services = CONFIG.config.services.values()
    addresses = [address for service in services for address in service.listen]
    ports = set()
    for address in (*addresses, CONFIG.config.metrics.listen):
        assert isinstance(address, TcpAddress)
        assert address.host == "::"
        ports.add(f"{address.port}/tcp")
        assert address.port > 1024
    assert ports == set(instruction("EXPOSE").split())


def test_the_user_of_the_image_has_a_name() -> None:
    """The files of the image name the user and the group of the recipe, as those of the
    packages do: a configuration with ``daemon.user = "unpd"`` holds there too.
    """
    assert instruction("USER") == f"{UID}:{UID}"
    assert f"\nunpd:x:{UID}:{UID}:" in (DIRECTORY / "etc/passwd").read_text()
    assert f"\nunpd:x:{UID}:" in (DIRECTORY / "etc/group").read_text()


def test_the_control_socket_lies_where_a_container_may_write() -> None:
    """Whatever user the container has, and without a key in the configuration."""
    assert str(CONFIG.config.daemon.control) == "/run/unpd/control.sock"
    assert runtime_dir(0, settings()) == "/run/unpd"


def test_the_signal_of_a_stop_is_the_graceful_one() -> None:
    """A container engine stops unpd by the signal that ends it gracefully."""
    (graceful,) = (row.name for row in MASTER_SIGNALS if row.meaning is SignalMeaning.STOP)
    assert instruction("STOPSIGNAL") == graceful


DETACH = "import sys; from pathlib import Path; import image; image.detach(Path(sys.argv[1]))"
LEFT_MOUNTED = """
mount -t tmpfs tmpfs "$1/system/proc" && mkdir "$1/system/proc/sub" &&
mount -t tmpfs tmpfs "$1/system/proc/sub" && mount -t tmpfs tmpfs "$1/other" &&
"$2" -c "$3" "$1/system" && grep -o "$1/[^ ]*" /proc/self/mounts
"""


@faults.requires_namespaces()
def test_what_is_left_mounted_is_detached(tmp_path: Path) -> None:
    """Below the Debian of the image and nowhere else: that directory is removed, and
    with it all that one sees there.
    """
    for name in ("system/proc", "other"):
        (tmp_path / name).mkdir(parents=True)
    ended = subprocess.run(
        ["unshare", "--mount", "sh", "-c", LEFT_MOUNTED, "-", tmp_path, sys.executable, DETACH],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(ROOT / "packaging")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{tmp_path}/other\n", "")
