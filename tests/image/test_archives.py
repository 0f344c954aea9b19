"""The archives of the image: what they hold, what they tell a container engine, and
that a second build makes the same.
"""

import ast
import json
import re
import runpy
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.image.archive import Image, built, read_docker
from tests.support import ROOT
from unpd import __version__

pytestmark = pytest.mark.packaging

LIMIT_BYTES = 80_000_000
FOREIGN = {
    "apk", "apt", "apt-get", "ash", "bash", "busybox", "dash", "debconf", "dpkg", "env",
    "ldconfig", "login", "mount", "perl", "pip", "pip3", "sh", "su", "sudo", "tar",
}  # fmt: skip
"""Programs that an intruder would look for."""
PROGRAMS = {"python3", "python3.11", "unpd"}
WRITABLE = {"run/unpd", "tmp"}
CARRIED = re.compile(r"usr/lib/unpd/(.+)-([^-]+)\.dist-info/METADATA")


@pytest.mark.parametrize("form", ["docker", "oci"])
def test_what_a_container_engine_is_told(form: str, request: pytest.FixtureRequest) -> None:
    """Both archives name an ordinary user, the graceful signal, the command, the
    version, the commit and the licences, and ports that need no privilege.
    """
    image: Image = request.getfixturevalue(form)
    config = image.config["config"]
    assert config["User"] == "65532:65532"
    assert config["StopSignal"] == "SIGTERM"
    assert (config["Entrypoint"], config["Cmd"]) == (["unpd"], ["run"])
    assert set(config["ExposedPorts"]) == {"10007/tcp", "10013/tcp", "9867/tcp"}
    labels = {
        name.removeprefix("org.opencontainers.image."): text
        for name, text in config["Labels"].items()
    }
    assert (labels["title"], labels["version"]) == ("unpd", __version__)
    assert labels["created"] == image.config["created"]
    assert f"\nlicense: {labels['licenses']}\n" in (ROOT / "packaging/nfpm.yaml").read_text()
    commit = labels["revision"].removesuffix("-dirty")
    assert subprocess.run(["git", "cat-file", "-e", commit], cwd=ROOT, check=False).returncode == 0


def test_the_health_check(docker: Image) -> None:
    """The archive for docker and podman has one, which needs no shell."""
    assert docker.config["config"]["Healthcheck"]["Test"] == [
        "CMD",
        "unpd",
        "status",
        "--control",
        "/run/unpd/control.sock",
    ]


def test_both_archives_hold_the_same_files(docker: Image, oci: Image) -> None:
    """Their only layer is the same."""
    assert docker.layer == oci.layer


def test_the_image_is_small(docker: Image) -> None:
    """All files together have less than 80 MB."""
    size = sum(entry.size for entry in docker.files.values())
    print(f"the image has {size / 1e6:.1f} MB in {len(docker.files)} files")
    assert size < LIMIT_BYTES


def test_there_is_no_shell(docker: Image) -> None:
    """Python and unpd are the only programs, and no file changes the user."""
    files = {name for name, entry in docker.files.items() if not entry.isdir()}
    assert not FOREIGN & {Path(name).name for name in files}
    assert {Path(name).name for name in files if _is_program(name)} == PROGRAMS
    assert not [
        name for name, entry in docker.files.items() if entry.mode & (stat.S_ISUID | stat.S_ISGID)
    ]


def _is_program(name: str) -> bool:
    return str(Path(name).parent) in ("bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin")


def test_all_belongs_to_root(docker: Image) -> None:
    """Other users can write to the directories that a container mounts anew, and to no
    other file.
    """
    assert {(entry.uid, entry.gid) for entry in docker.files.values()} == {(0, 0)}
    open_to_all = {
        name
        for name, entry in docker.files.items()
        if entry.mode & stat.S_IWOTH and not entry.issym()
    }
    assert open_to_all == WRITABLE


def test_the_packages_of_debian_are_on_record(docker: Image) -> None:
    """Each of them has a record for scanners, and its licence."""
    records = {name for name in docker.files if name.startswith("var/lib/dpkg/status.d/")}
    assert "var/lib/dpkg/status.d/libc6" in records
    assert "var/lib/dpkg/status.d/python3.11-minimal" in records
    for name in records:
        assert f"usr/share/doc/{Path(name).name}" in docker.files


def test_the_libraries_are_on_record(docker: Image) -> None:
    """The list of components (SBOM) has every library in the image, with its version
    and the one wheel that it came from, and no other.
    """
    listed = json.loads(docker.content("usr/share/doc/unpd/unpd.cdx.json"))
    assert listed["metadata"]["component"]["version"] == __version__
    assert {len(one["components"]) for one in listed["components"]} == {1}
    found = (CARRIED.fullmatch(name) for name in docker.files)
    carried = {(one[1].replace("_", "-").lower(), one[2]) for one in found if one}
    assert {(one["name"], one["version"]) for one in listed["components"]} == carried
    assert len(carried) == len(listed["components"])


def test_the_launcher_names_the_python_of_the_image(docker: Image) -> None:
    """The image has compiled libraries for that one alone."""
    (fitting,) = re.findall(rb"^FITTING = (.*)$", docker.content("usr/bin/unpd"), re.MULTILINE)
    assert ast.literal_eval(fitting.decode()) == ("3.11",)
    modules = {Path(name).name for name in docker.files if name.endswith(".so")}
    assert {name.split(".")[1] for name in modules if name.startswith("_pydantic_core.")} == {
        "cpython-311-x86_64-linux-gnu"
    }


def test_the_label_of_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who builds an image may say where the source can be had."""
    monkeypatch.syspath_prepend(str(ROOT / "packaging"))
    program = runpy.run_path(str(ROOT / "packaging/image.py"))
    for name in ("root", "context"):
        (tmp_path / name).mkdir()
    (tmp_path / "root/file").touch()
    program["write_tar"](tmp_path / "context/root.tar", tmp_path / "root", 0)
    buildah = program["Buildah"](tmp_path / "storage", "localhost/unpd:0")
    for source, wanted in (("", None), ("https://example.org/unpd", "https://example.org/unpd")):
        pushed = tmp_path / f"{bool(source)}.tar"
        buildah.build(tmp_path / "context", "0", 0, source)
        buildah.push(f"docker-archive:{pushed}:localhost/unpd:0")
        labels = read_docker(pushed).config["config"]["Labels"]
        assert labels["org.opencontainers.image.version"] == "0"
        assert labels.get("org.opencontainers.image.source") == wanted


def test_two_builds_are_the_same(tmp_path: Path) -> None:
    """A second build of the commit makes the same archives, byte by byte."""
    subprocess.run(
        [sys.executable, "packaging/image.py", "--output", str(tmp_path)], cwd=ROOT, check=True
    )
    for form in ("docker", "oci"):
        first = built(form)
        assert (tmp_path / first.name).read_bytes() == first.read_bytes(), form
